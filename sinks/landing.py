"""Once, batch by batch: what happens to the records of one topic partition between Kafka and ClickHouse (P-03, G2).

The order is the guarantee (design, How once is reached). One more step comes between 1 and 2 when the durable intent
is built: it has the batch's range, its rows and its hash.

  1. drop repeats, check that nothing is missing, drop what a run before this one landed
  2. insert, table by table, each insert under a token made of its rows
  3. commit Kafka offsets (the caller: ``Writer``)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tradetape.schemas.catalogue import Schema
from tradetape.schemas.codec import Decoder, Undecodable, schema_id_of
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.registry import UnknownSchemaId
from tradetape.sinks.batch import Record, Stream, token
from tradetape.sinks.ledger import BadKey, Position, check_start, sift
from tradetape.sinks.slow_path import land_pieces, quarantine
from tradetape.sinks.store import BatchRefused, Store
from tradetape.sinks.tables import TABLES, Table


@dataclass(slots=True)
class Reached:
    """How far a topic partition is landed, since it was assigned.

    ``last`` is the last position by raw partition. ``marks`` are the positions that were stored at assignment: up to
    them a part of a batch may be there already, so each batch is compared with the store. None: not asked yet.
    """

    last: dict[int, Position] = field(default_factory=dict)
    marks: dict[int, Position] | None = None


@dataclass(frozen=True, slots=True)
class Landed:
    """Outcome of a batch: rows inserted, repeats dropped, rows that were there already, rows put in quarantine."""

    rows: int
    repeats: int
    present: int
    unstorable: int


class Landing:
    """Lands batches in ``store``; ``schema_by_id`` looks up writers' schemas.

    Raises, from ``land``: Hole and BadKey (the topic is not what it must be), StoreUnavailable and what
    ``schema_by_id`` raises (try the same batch again), Unquarantinable.
    """

    def __init__(self, store: Store, schema_by_id: Callable[[int], Schema]) -> None:
        self._store = store
        self._schema_by_id = schema_by_id
        self._schemas: dict[int, Schema] = {}

    def land(self, stream: Stream, partition: int, reached: Reached, records: Sequence[Record]) -> Landed:
        """Land ``records``, in their order, and move ``reached`` behind them; the same call again is safe."""
        # 1. repeats, holes, what is there already
        marks = reached.marks
        if marks is None:
            marks = reached.marks = self._store.high_water(stream.sources)
        if stream.contiguous:
            _check_partition(partition, records)
            if partition not in reached.last:
                check_start(partition, marks.get(partition), records[0].identity)
        sifted = sift(reached.last, (record.identity for record in records), contiguous=stream.contiguous)
        fresh = [records[index] for index in sifted.fresh]
        new = self._without_stored(stream, marks, fresh)
        # 2. insert
        unstorable = self._insert(stream, partition, new)
        reached.last = dict(sifted.last)
        return Landed(len(new) - unstorable, sifted.repeats, len(fresh) - len(new), unstorable)

    def _without_stored(self, stream: Stream, marks: dict[int, Position], fresh: list[Record]) -> list[Record]:
        ranges: dict[int, list[int]] = {}
        for record in fresh:
            raw_partition, raw_offset, _ = record.identity
            mark = marks.get(raw_partition)
            if mark is not None and raw_offset <= mark.raw_offset:
                ranges.setdefault(raw_partition, []).append(raw_offset)
        if not ranges:
            return fresh
        there = {
            raw_partition: self._store.stored(stream.sources, raw_partition, min(offsets), max(offsets))
            for raw_partition, offsets in ranges.items()
        }
        return [r for r in fresh if r.identity.position not in there.get(r.identity.raw_partition, ())]

    def _insert(self, stream: Stream, partition: int, records: Sequence[Record]) -> int:
        groups: dict[tuple[str, int], list[Record]] = {}
        unreadable: list[tuple[Record, str]] = []
        for record in records:
            table = stream.route(record.value)
            try:
                schema_id = schema_id_of(record.value)
                if schema_id not in self._schemas:
                    self._schemas[schema_id] = self._schema_by_id(schema_id)
            except (Undecodable, UnknownSchemaId) as error:
                unreadable.append((record, str(error)))
                continue
            if table is None:
                unreadable.append((record, "its bytes name no disposition"))
                continue
            groups.setdefault((table.name, schema_id), []).append(record)
        unstorable = len(unreadable)
        # Events first; the tables' own order is that of TABLES.
        order = sorted(groups, key=lambda group: (list(TABLES).index(group[0]), group[1]))
        for number, group in enumerate(order):
            reach("sink.between_inserts" if number else "sink.before_insert")
            schema = self._schemas[group[1]]
            unstorable += self._insert_group(stream.topic, partition, TABLES[group[0]], schema, groups[group])
        if unreadable:
            quarantine(self._store, stream.topic, unreadable, None)
        reach("sink.after_insert")
        return unstorable

    def _insert_group(self, topic: str, partition: int, table: Table, schema: Schema, records: Sequence[Record]) -> int:
        def name(piece: Sequence[Record]) -> str:
            return token(table, topic, partition, piece)

        try:
            self._store.insert(table, schema, [record.body for record in records], name(records))
            return 0
        except BatchRefused:
            refused = land_pieces(self._store, table, schema, records, name)
            quarantine(self._store, topic, refused, Decoder(schema))
            return len(refused)


def _check_partition(partition: int, records: Sequence[Record]) -> None:
    for record in records:
        if record.identity.raw_partition != partition:
            raise BadKey(f"{record.identity} lies in partition {partition}")
