"""One aggregate of the record, event by event, with what each event changed (S1-08)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Any, NamedTuple

from tradetape.processors import clock, stepping
from tradetape.processors.reading import SchemaById
from tradetape.processors.stepping import About
from tradetape.schemas import times
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import raws, snapshots, views
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS

Document = dict[str, Any]

_EVENTS = views.full_name(EVENTS)
_ORDER = "JSONExtractString(payload, 'client_order_id')"
KINDS = {
    "order": f"{_ORDER} = {{name:String}}",
    "position": "aggregate_id = {name:String} OR event_type LIKE '%position%' "
    "AND JSONExtractString(payload, 'position_id') = {name:String}",
    "chain": f"correlation_id = {{name:String}} OR toString(event_id) IN (SELECT supersedes FROM {_EVENTS} "
    "WHERE event_type = 'link_resolved' AND correlation_id = {name:String})",
    "instance": "instance_name = {name:String}",
}
"""What an aggregate may be, and the condition on its events; the first that has some is meant."""

_COLUMNS = (
    *("raw_partition", "raw_offset", "event_type", "environment", "account", "instance_name", "connector_name"),
    *("trading_pair", "disposition", "link"),
)


class Event(NamedTuple):
    """An event of the aggregate as it is stored; times are microseconds, ``ts_utc`` None where there is none."""

    raw_partition: int
    raw_offset: int
    event_type: str
    environment: str
    account: str
    instance_name: str
    connector_name: str
    trading_pair: str
    disposition: str
    link: str
    ts_utc: int | None
    ingest_ts_utc: int
    event_id: str
    order_id: str
    findings: Sequence[str]

    @property
    def about(self) -> About:
        at = self.ingest_ts_utc if self.ts_utc is None else clock.bounded(self.ts_utc, self.ingest_ts_utc)
        return About(*self[3:8], self.order_id, at)


def walk(store: Store, schema_by_id: SchemaById, name: str, kind: str = "") -> tuple[str, Iterator[Document]]:
    """Which of KINDS the aggregate ``name`` is, and its events in the order in which they were taken in.

    Each has its place, what was judged of it, and ``changes``: the fields of the state that it changed, before and
    after, of its order, its position's and account's figures, its bot's TradingState, limits and kills. Events of
    several partitions are folded each in its own.
    Raises TradetapeError where there is no such aggregate, or records are missing.
    """
    for each in [kind] if kind else KINDS:
        events = _events(store, KINDS[each], name)
        if events:
            return each, _steps(store, schema_by_id, events)
    raise TradetapeError(
        f"no {kind or 'order, position, chain or instance'} {name!r} is on record",
        hint="give an id as `tradetape query tail` shows it",
    )


def _events(store: Store, condition: str, name: str) -> list[Event]:
    selected = (
        f"{', '.join(_COLUMNS)}, toNullable(ts_utc) AS at, ingest_ts_utc AS ingest, toString(event_id) AS id, "
        f"{_ORDER} AS order_of, findings"
    )
    rows = store.query(
        f"SELECT {', '.join(_COLUMNS)}, toUnixTimestamp64Micro(at), toUnixTimestamp64Micro(ingest), id, order_of, "
        "arrayMap(found -> concat(found.code, ' ', found.status), findings) FROM ("
        f"{views.verdicts(selected, condition)}) ORDER BY raw_partition, raw_offset",
        {"name": name},
    )
    return [Event(*row) for row in rows]


def _steps(store: Store, schema_by_id: SchemaById, events: Sequence[Event]) -> Iterator[Document]:
    partitions = dict.fromkeys(event.raw_partition for event in events)
    walks = (
        _in_partition(store, schema_by_id, [event for event in events if event.raw_partition == partition])
        for partition in partitions
    )
    for _, document in merge(*walks, key=lambda placed: placed[0]):
        yield document


def _in_partition(
    store: Store, schema_by_id: SchemaById, events: Sequence[Event]
) -> Iterator[tuple[tuple[int, int, int], Document]]:
    """The steps of one partition, each with where it stands among those of others."""
    partition, last = events[0].raw_partition, events[-1].raw_offset
    replay, _ = snapshots.resume(store, partition, events[0].raw_offset - 1, schema_by_id)
    wanted = {event.raw_offset: event for event in events}
    for raw in raws.following(store, partition, replay.next_offset, last):
        event = wanted.get(raw.offset)
        if event is None:
            replay.fold(raw)
            continue
        changes = stepping.step(replay, raw, event.about)
        yield (event.ingest_ts_utc, partition, raw.offset), _document(event, changes)


def _document(event: Event, changes: Sequence[stepping.Change]) -> Document:
    return {
        "ts_utc": None if event.ts_utc is None else times.text(event.ts_utc),
        "ingest_ts_utc": times.text(event.ingest_ts_utc),
        "event_type": event.event_type,
        "event_id": event.event_id,
        "instance_name": event.instance_name,
        "trading_pair": event.trading_pair,
        "order_id": event.order_id,
        "raw_partition": event.raw_partition,
        "raw_offset": event.raw_offset,
        "disposition": event.disposition,
        "link": event.link,
        "findings": list(event.findings),
        "changes": [change._asdict() for change in changes],
    }
