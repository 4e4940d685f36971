"""Events of the record: the newest, page by page towards the oldest, or all of them as a stream (S2-05)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from tradetape.infra.api import cursor, forms
from tradetape.infra.api.cursor import Cursor, Place
from tradetape.infra.api.filters import Filters, Values
from tradetape.infra.api.moments import Moment
from tradetape.schemas.catalogue import output_schema
from tradetape.sinks import queries, results
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS, SENTINEL

TAIL, LONGEST_TAIL = 50, 1000

_KEPT = {"disposition", "derived_seq", "reasons", "reason_detail", "native", "raw_schema_id", "raw", SENTINEL}
"""What an accepted event has no need of here; ``query event`` tells its original bytes."""

COLUMNS: Mapping[str, Any] = {
    field["name"]: field["type"] for field in output_schema(EVENTS.record)["fields"] if field["name"] not in _KEPT
}
"""Column → Avro type of what is told of an event."""

_PLACE = "raw_partition, raw_offset"
_NEWEST = "ORDER BY ts_utc DESC, raw_partition DESC, raw_offset DESC"


class EventFilters(Filters):
    """Which events."""

    COLUMNS: ClassVar[Mapping[str, str]] = {
        **Filters.COLUMNS,
        "type": "event_type",
        "system": "source_system",
        "correlation_id": "correlation_id",
    }

    tail: (
        Annotated[int, Field(ge=1, le=LONGEST_TAIL, description="How many, at most; else 50, and all as NDJSON.")]
        | None
    ) = None
    type: Values = Field([], description="Event types, such as order_filled.")
    system: Values = Field([], description="Systems that the events come from, such as turtle or hummingbot.")
    correlation_id: Values = Field([], description="Chains, as the events themselves name them.")
    since: Moment | None = Field(None, description="Events that happened then or later.")
    until: Moment | None = Field(None, description="Events that happened before then.")
    archived: bool = Field(False, description="Archived events too.")
    cursor: Cursor | None = None

    def where(self) -> tuple[str, dict[str, Any]]:
        """The condition in SQL, and its parameters."""
        conditions, params = self.conditions()
        conditions.append("derived_seq = 0")
        for name, moment, comparison in (("since", self.since, ">="), ("until", self.until, "<")):
            if moment is not None:
                conditions.append(f"ts_utc {comparison} {_at(f'{{{name}:Int64}}')}")
                params[name] = moment
        if self.cursor is not None:
            at = _at("{at:Int64}")
            conditions.append(f"ts_utc <= {at}")
            conditions.append(f"(ts_utc, {_PLACE}) < ({at}, {{partition:Int32}}, {{offset:Int64}})")
            place = cursor.read(self.cursor)
            params |= {"at": place.ts_utc, "partition": place.raw_partition, "offset": place.raw_offset}
        return " AND ".join(conditions), params


class Page(NamedTuple):
    """Which events are on a page, newest first, and where the next one begins; None: this is the last."""

    places: list[Place]
    instances: list[str]
    next: Place | None


def page(store: Store, wanted: EventFilters) -> Page:
    """The page that ``wanted`` names. Raises what Store.query raises."""
    where, params = wanted.where()
    size = wanted.tail or TAIL
    found = store.query(
        _table(
            f"SELECT toUnixTimestamp64Micro(ts_utc), {_PLACE}, instance_name FROM tradetape.events "
            f"WHERE {where} {_NEWEST} LIMIT {size + 1:d}",
            wanted,
        ),
        params,
    )
    places = [Place(int(row[0]), int(row[1]), int(row[2])) for row in found[:size]]
    return Page(places, sorted({row[3] for row in found[:size]}), places[-1] if len(found) > size else None)


def of_page(store: Store, wanted: EventFilters, found: Page) -> Iterator[list[bytes]]:
    """The events of a page as JSON, in its order. Raises what Store.raw raises."""
    if not found.places:
        return
    positions = ", ".join(f"({place.raw_partition:d}, {place.raw_offset:d})" for place in found.places)
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM tradetape.events WHERE derived_seq = 0 "
        f"AND instance_name IN {{instances:Array(String)}} "
        f"AND ts_utc BETWEEN {_at(str(found.places[-1].ts_utc))} AND {_at(str(found.places[0].ts_utc))} "
        f"AND ({_PLACE}) IN ({positions}) {_NEWEST}"
    )
    pieces = store.raw(_table(sql, wanted), {"instances": found.instances}, results.SETTINGS)
    yield from forms.with_payloads(results.batches(pieces))


def everything(store: Store, wanted: EventFilters) -> Iterator[list[bytes]]:
    """All events that ``wanted`` names, as JSON, by instance and time: the order in which they can be read as they
    are stored, so neither here nor there many are held. Raises what Store.raw raises.
    """
    where, params = wanted.where()
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM tradetape.events WHERE {where} "
        f"ORDER BY instance_name, ts_utc, {_PLACE}, derived_seq"
    )
    pieces = store.raw(_table(sql, wanted), params, results.SETTINGS)
    yield from forms.with_payloads(results.batches(pieces))


def _table(sql: str, wanted: EventFilters) -> str:
    return queries.with_archive(sql) if wanted.archived else sql


def _at(micros: str) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({micros}), 'UTC')"
