"""Raw records out of the store and its archive, and which of them count at a time in the past (decision 10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import sleep
from typing import NamedTuple

from tradetape.processors.reading import RawRecord
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import stored, views
from tradetape.sinks.batch import MAX_ROWS, STREAMS, UNSTORABLE
from tradetape.sinks.store import UNKNOWN_TABLES, QueryRefused, Store
from tradetape.sinks.stored import Stored
from tradetape.sinks.tables import ARCHIVE_RUNS, EVENTS, QUARANTINE

_ALONE = f"length(reasons) = 1 AND reasons[1] = '{UNSTORABLE}'"
_LOST = f"({_ALONE} AND raw_schema_id = -1)"
"""Verdicts whose ``raw`` is the verdict, not the event: neither its table nor, as it was, the quarantine took them. In
rows that are read back ``of_rows`` knows them."""

_ACCEPTED = f"disposition = 'accepted' OR ({_ALONE} AND raw_schema_id != -1)"
"""Verdicts of accepted events: their table took them, or the quarantine did in its place."""

_RAW = "raw_offset, toUnixTimestamp64Micro(ingest_ts_utc) AS at, hex(raw) AS bytes"
_BETWEEN = "raw_partition = {partition:Int32} AND raw_offset BETWEEN {first:Int64} AND {last:Int64}"
_LATER = "ingest_ts_utc > fromUnixTimestamp64Micro({known_at:Int64}, 'UTC')"

_HOLES = f"""
SELECT raw_partition, before + 1, first - 1 FROM
(
    SELECT raw_partition, first,
           ifNull(maxOrNull(last) OVER (PARTITION BY raw_partition ORDER BY first
                                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
                  toInt64(transform(raw_partition, {{begins}}, 0)) - 1) AS before
    FROM
    (
        SELECT raw_partition, raw_offset AS first, raw_offset AS last FROM {EVENTS.full_name} WHERE derived_seq = 0
        UNION ALL
        SELECT raw_partition, raw_offset AS first, raw_offset AS last FROM {QUARANTINE.full_name} WHERE derived_seq = 0
        UNION ALL
        SELECT raw_partition, first, last FROM {ARCHIVE_RUNS}
        WHERE derived_seq = 0 AND table_name IN ('{EVENTS.name}', '{QUARANTINE.name}')
    )
    WHERE {{within}}
)
WHERE first > before + 1
ORDER BY raw_partition, first
"""

LANDING_SECONDS = 2.0
"""In which a batch that is being landed has landed: what is missing after that is missing."""

_LOOK_AGAIN = 0.1


class Last(NamedTuple):
    """The last record of a stretch: what names it."""

    raw_partition: int
    raw_offset: int
    event_id: str
    ingest_ts_utc: int


def last_stored(store: Store, patience: float = LANDING_SECONDS) -> dict[int, int]:
    """The last raw offset with a verdict in the store, by partition; empty where nothing is stored yet.

    A batch lands table by table: where one below that offset may be on its way, it is waited for, ``patience`` seconds.
    """
    last = _high_water(store)
    tail = {partition: (max(0, offset - MAX_ROWS + 1), offset) for partition, offset in last.items()}
    while patience > 0 and _holes(store, tail):
        sleep(_LOOK_AGAIN)
        patience -= _LOOK_AGAIN
    return last


def _high_water(store: Store) -> dict[int, int]:
    try:
        marks = store.high_water(STREAMS[topics.AUDITED].sources)
    except QueryRefused as error:
        if error.code not in UNKNOWN_TABLES:
            raise
        marks = {}
    return {partition: mark.raw_offset for partition, mark in sorted(marks.items())}


def holes(store: Store) -> dict[int, list[tuple[int, int]]]:
    """Stretches of raw offsets without a verdict below the last one stored, both ends included, by partition."""
    return _holes(store, {partition: (0, offset) for partition, offset in last_stored(store).items()})


def _holes(store: Store, ranges: Mapping[int, tuple[int, int]]) -> dict[int, list[tuple[int, int]]]:
    """The holes within ``ranges``, by partition the first and the last offset."""
    found: dict[int, list[tuple[int, int]]] = {}
    if ranges:
        within = " OR ".join(
            f"(raw_partition = {partition} AND last >= {first} AND first <= {last})"
            for partition, (first, last) in ranges.items()
        )
        begins = f"[{', '.join(map(str, ranges))}], [{', '.join(str(first) for first, _ in ranges.values())}]"
        for partition, first, last in store.query(_HOLES.format(within=within, begins=begins)):
            found.setdefault(int(partition), []).append((int(first), int(last)))
    return found


def known(store: Store, known_at: int | None) -> dict[int, int]:
    """The last offset that each partition had taken in at ``known_at`` (µs); partitions that had none are left out.

    A record counts where it and all before it have an ingest time up to then.
    """
    last = last_stored(store)
    if known_at is None:
        return last
    later = store.query(
        f"SELECT raw_partition, min(raw_offset) FROM ({views.verdicts('raw_partition, raw_offset', _LATER)}) "
        "GROUP BY raw_partition",
        {"known_at": known_at},
    )
    until = last | {int(row[0]): int(row[1]) - 1 for row in later}
    return {partition: offset for partition, offset in sorted(until.items()) if offset >= 0}


def _check_whole(store: Store, partition: int, last: int) -> None:
    """Raise TradetapeError where a record of ``partition`` up to ``last`` is not stored."""
    rows = store.query(
        f"SELECT uniqExact(raw_offset) FROM ({views.verdicts('raw_offset', _BETWEEN)})",
        {"partition": partition, "first": 0, "last": last},
    )
    missing = last + 1 - int(rows[0][0])
    if missing:
        raise incomplete(partition, f"{missing:,} of {last + 1:,} records are not stored")


def incomplete(partition: int, why: str) -> TradetapeError:
    """What is not whole cannot be folded exactly."""
    return TradetapeError(
        f"raw partition {partition} is not whole in the store: {why}",
        hint="`tradetape verify` names the place, `tradetape query completeness` compares with Kafka",
    )


def read(store: Store, partition: int, first: int, last: int) -> Iterator[RawRecord]:
    """The raw records of ``partition`` between two offsets (both included), in order, whatever became of them."""
    yield from _pages(store, partition, first, last, f"NOT {_LOST}")


def following(store: Store, partition: int, first: int, last: int) -> Iterator[RawRecord]:
    """``read``, and every one of them. Raises TradetapeError where one is missing."""
    expected = first
    for raw in read(store, partition, first, last):
        if raw.offset != expected:
            raise incomplete(partition, f"offsets {expected} to {raw.offset - 1} are missing")
        expected += 1
        yield raw
    if expected <= last:
        raise incomplete(partition, f"offsets {expected} to {last} are missing")


def accepted(store: Store, partition: int, last: int, at: int) -> Iterator[RawRecord]:
    """Of the records up to ``last``, in order, the accepted ones whose event happened up to ``at`` (µs).

    Raises TradetapeError where a record up to ``last`` is missing.
    """
    _check_whole(store, partition, last)
    happened = f"ts_utc <= fromUnixTimestamp64Micro(toInt64({int(at)}), 'UTC')"
    yield from _pages(store, partition, 0, last, f"{happened} AND ({_ACCEPTED})")


def _pages(store: Store, partition: int, first: int, last: int, condition: str) -> Iterator[RawRecord]:
    """The raw records whose verdicts meet ``condition``."""
    selected = views.verdicts("raw_offset, ingest_ts_utc, raw", f"{_BETWEEN} AND {condition}")
    sql = f"SELECT {_RAW} FROM ({selected}) ORDER BY raw_offset LIMIT 1 BY raw_offset"
    for start in range(first, last + 1, stored.PAGE):
        bounds = {"partition": partition, "first": start, "last": min(start + stored.PAGE - 1, last)}
        for row in stored.answer(store, sql, bounds):
            yield RawRecord(partition, row["raw_offset"], row["at"], bytes.fromhex(row["bytes"]))


def of_rows(partition: int, found: Sequence[Stored]) -> RawRecord | None:
    """The record that the rows of one offset, in their order, were judged from; None where its bytes are not stored."""
    position, _, row = found[0]
    if position.derived_seq != 0 or (row["reasons"] == [UNSTORABLE] and row["raw_schema_id"] == -1):
        return None
    return RawRecord(partition, position.raw_offset, row["ingest_ts_utc"], bytes.fromhex(row["raw"]))


def last_of(store: Store, partition: int, offset: int) -> Last:
    """What names the record of ``partition`` at ``offset``. Raises TradetapeError where it is not stored."""
    params = {"partition": partition, "first": offset, "last": offset}
    sql = views.verdicts("toString(event_id) AS event_id, toUnixTimestamp64Micro(ingest_ts_utc) AS at", _BETWEEN)
    found = store.query(f"SELECT * FROM ({sql}) LIMIT 1", params)
    if not found:
        raise incomplete(partition, f"offset {offset} is not stored")
    return Last(partition, offset, str(found[0][0]), int(found[0][1]))
