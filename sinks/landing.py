"""Once, batch by batch: what happens to the records of one topic partition between Kafka and ClickHouse (P-03, G2).

The order is the guarantee (design, How once is reached).

  1. the intent: the batch's range, rows and hash, in Kafka (the caller: ``Writer``)
  2. drop repeats, check that nothing is missing, drop what a run before this one landed
  3. insert, table by table, each insert under a token made of its rows
  4. mark: a row in the ingest ledger
  5. commit Kafka offsets (the caller)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from tradetape.schemas.catalogue import Schema
from tradetape.schemas.codec import Decoder, Undecodable, schema_id_of
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.registry import UnknownSchemaId
from tradetape.sinks.batch import Record, Stream, token
from tradetape.sinks.intents import Intent
from tradetape.sinks.ledger import BadKey, Position, check_start, sift
from tradetape.sinks.slow_path import land_pieces, nothing, quarantine
from tradetape.sinks.store import BatchRefused, Store, StoreUnavailable
from tradetape.sinks.tables import INGEST_LEDGER, RISK, RISK_LATEST, TABLES, Table


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

    landed: int
    repeats: int
    present: int
    unstorable: int


class Entry(NamedTuple):
    """A line of the ingest ledger: the batch that was meant, and what became of it."""

    topic: str
    partition: int
    intent: Intent
    landed: Landed


class Landing:
    """Lands batches in ``store``; ``schema_by_id`` looks up writers' schemas, ``sink`` is its name in the ledger.

    Raises, from ``land`` and ``insert``: Hole and BadKey (the topic is not what it must be), StoreUnavailable and what
    ``schema_by_id`` raises (try the same batch again), Unquarantinable.
    """

    def __init__(self, store: Store, schema_by_id: Callable[[int], Schema], sink: str = "") -> None:
        self._store = store
        self._schema_by_id = schema_by_id
        self._sink = sink
        self._schemas: dict[int, Schema] = {}

    def land(
        self,
        stream: Stream,
        partition: int,
        reached: Reached,
        records: Sequence[Record],
        *,
        pending: bool = False,
        hold: Callable[[], None] = nothing,
    ) -> Landed:
        """Land ``records``, in their order, and move ``reached`` behind them; the same call again is safe.

        ``pending``: another sink meant to land them and may have landed a part. ``hold`` is called before each insert
        and raises where the batch is no longer ours.
        """
        if pending:
            self._await_former_owner(stream.topic, partition)
        # 2. repeats, holes, what is there already
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
        # 3. insert
        unstorable = self.insert(stream, partition, new, hold)
        if pending and stream.table is RISK:
            self._catch_up(records)
        reached.last = dict(sifted.last)
        return Landed(len(new) - unstorable, sifted.repeats, len(fresh) - len(new), unstorable)

    def mark(self, entries: Sequence[Entry]) -> None:
        """Write ``entries`` into the ingest ledger; the same batch again replaces its line. Raises StoreUnavailable."""
        rows = [
            {
                "topic": topic,
                "partition": partition,
                "first_offset": intent.first,
                "end_offset": intent.end,
                "records": intent.rows,
                **asdict(landed),
                "sha256": intent.sha256,
                "sink": self._sink,
            }
            for topic, partition, intent, landed in entries
        ]
        self._store.insert_json(INGEST_LEDGER, rows)

    def _await_former_owner(self, topic: str, partition: int) -> None:
        """A part of an insert that still runs would pass for all of it. Raises StoreUnavailable: try again."""
        if self._store.is_inserting(_comment(topic, partition)):
            raise StoreUnavailable(f"an insert of {topic} {partition} by its former owner is still running")

    def _catch_up(self, records: Sequence[Record]) -> None:
        """Bring the latest figures up to the history: ClickHouse may have died between the two."""
        offsets = [record.identity.raw_offset for record in records]
        self._store.copy(RISK, RISK_LATEST, records[0].identity.raw_partition, min(offsets), max(offsets))

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

    def insert(
        self, stream: Stream, partition: int, records: Sequence[Record], hold: Callable[[], None] = nothing
    ) -> int:
        """Insert ``records`` of ``stream``, none of which is stored; returns how many went to quarantine instead."""
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
            unstorable += self._insert_group(stream, partition, TABLES[group[0]], schema, groups[group], hold=hold)
        if unreadable:
            quarantine(self._store, stream.topic, unreadable, None, hold)
        reach("sink.after_insert")
        return unstorable

    def _insert_group(
        self,
        stream: Stream,
        partition: int,
        table: Table,
        schema: Schema,
        records: Sequence[Record],
        *,
        hold: Callable[[], None],
    ) -> int:
        def put(piece: Sequence[Record]) -> None:
            hold()
            name = token(table, stream.topic, partition, piece)
            bodies = [record.body for record in piece]
            self._store.insert(table, schema, bodies, name, _comment(stream.topic, partition))

        try:
            put(records)
            return 0
        except BatchRefused:
            refused = land_pieces(schema, records, put)
            quarantine(self._store, stream.topic, refused, Decoder(schema), hold)
            return len(refused)


def _comment(topic: str, partition: int) -> str:
    """How ClickHouse's list of running statements names an insert of the topic partition."""
    return f"tradetape sink {topic} {partition}"


def _check_partition(partition: int, records: Sequence[Record]) -> None:
    for record in records:
        if record.identity.raw_partition != partition:
            raise BadKey(f"{record.identity} lies in partition {partition}")
