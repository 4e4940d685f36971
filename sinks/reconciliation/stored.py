"""What ClickHouse and its archive hold, as reconciliation needs it: a source's rows, named queries, baselines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tradetape.sinks import queries, stored, views
from tradetape.sinks.reconciliation.differences import Acceptance, acceptances
from tradetape.sinks.reconciliation.records import ABOUT_THE_SOURCE, COLUMNS, Record, of_row
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS, QUARANTINE, Table

_AT_ONCE = 5_000
"""Ids of one question."""

_CONTROL = ", ".join(f"'{name}'" for name in ABOUT_THE_SOURCE)


def rows(store: Store, sources: Collection[str]) -> Iterator[Record]:
    """What is stored of ``sources`` (source ids): accepted rows first, then rejected ones, then duplicates.

    Raises what Store.raw raises.
    """
    for table, disposition in ((EVENTS, "accepted"), (QUARANTINE, "rejected"), (QUARANTINE, "duplicate")):
        yield from (of_row(row) for row in _rows(store, table, disposition, sources))


def _rows(store: Store, table: Table, disposition: str, sources: Collection[str]) -> Iterator[Mapping[str, Any]]:
    names = [name for name in COLUMNS if name != "event_id"]
    sql = f"""SELECT {", ".join(names)}, toString(event_id) AS event_id, disposition, raw_partition, raw_offset,
        payload, ifNull(toUnixTimestamp64Micro(ts_utc), 0) AS ts_utc, lower(hex(native)) AS native
        FROM (SELECT * FROM {views.full_name(table)}
            WHERE has(splitByChar('\\n', {{sources:String}}), toString(source_id)) AND derived_seq = 0
            AND disposition = {{disposition:String}} AND event_type NOT IN ({_CONTROL}))
        ORDER BY raw_partition, raw_offset"""
    yield from stored.answer(store, sql, {"sources": "\n".join(sorted(sources)), "disposition": disposition})


def accepted_elsewhere(store: Store, asked: Sequence[Record]) -> set[str]:
    """Of records that are stored as duplicates alone, the event ids that another accepted row stands for: one of the
    same id (whatever its source), or of the same execution of the same order.
    """
    by_id = {record.event_id for record in asked}
    found = set(_known(store, "toString(event_id)", "toString(event_id)", by_id))
    fills: dict[str, set[str]] = {}
    for record in asked:
        fill = record.fields.get("payload.fill_id")
        if fill and record.event_type == "order_filled" and record.event_id not in found:
            fills.setdefault(f"{record.fields['payload.client_order_id']} {fill}", set()).add(record.event_id)
    execution = "concat(order_id, ' ', JSONExtractString(payload, 'fill_id'))"
    for name in _known(store, execution, "event_type", {"order_filled"}) if fills else ():
        found |= fills.get(name, set())
    return found


def _known(store: Store, what: str, column: str, values: Collection[str]) -> Iterator[str]:
    ordered = sorted(values)
    for start in range(0, len(ordered), _AT_ONCE):
        sql = f"""SELECT DISTINCT {what} AS name FROM {views.full_name(EVENTS)}
            WHERE derived_seq = 0 AND has(splitByChar('\\n', {{values:String}}), {column})"""
        for row in stored.answer(store, sql, {"values": "\n".join(ordered[start : start + _AT_ONCE])}):
            yield row["name"]


def baselines(store: Store) -> dict[str, Acceptance]:
    """What was accepted, by the difference's id."""
    return acceptances(named(store, "baselines"))


def named(store: Store, query: str, **params: str) -> list[dict[str, Any]]:
    """The rows of a named query over archived rows too."""
    return queries.rows(store, query, params, archived=True)
