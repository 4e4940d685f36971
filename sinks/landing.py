"""Once, batch by batch: what happens to the records of a topic's partitions between Kafka and ClickHouse (P-03, G2).

The order is the guarantee (design, How once is reached). A batch is of one topic partition; those of a topic that are
due at once share their inserts, for one of ten rows costs more than half of what one of a thousand does.

  1. the intent: each batch's range, rows and hash, and which batches land together, in Kafka (the caller: ``Writer``)
  2. drop repeats, check that nothing is missing, drop what a run before this one landed
  3. insert, table by table, each insert under a token made of the intent
  4. mark: a row per batch in the ingest ledger
  5. commit Kafka offsets (the caller)

A batch that another sink meant to land may have landed with others, and its insert may still be on its way. So what is
missing is inserted under the token of that sink's insert: whichever comes first, the other lands nothing. What is
missing then can no longer come, and is inserted under a token of its own (decision 11).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from tradetape.schemas.catalogue import Schema
from tradetape.schemas.codec import Decoder, Undecodable, schema_id_of
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.registry import UnknownSchemaId
from tradetape.sinks.batch import Record, Stream, token
from tradetape.sinks.intents import Intent
from tradetape.sinks.ledger import BadKey, Position, Sifted, check_start, sift
from tradetape.sinks.slow_path import land_pieces, quarantine
from tradetape.sinks.store import BatchRefused, Store, StoreUnavailable
from tradetape.sinks.tables import INGEST_LEDGER, RISK, RISK_LATEST, TABLES, Table


def nothing() -> None:
    """Of a batch that nobody else may land."""


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


class Batch(NamedTuple):
    """Records of a topic partition that are landed together, in their order; ``reached`` is how far it is landed.

    ``pending``: a sink meant to land them and may have landed a part, or may still do so.
    """

    partition: int
    records: Sequence[Record]
    intent: Intent
    reached: Reached
    pending: bool = False


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

    def land(self, stream: Stream, batches: Sequence[Batch], hold: Callable[[], None] = nothing) -> list[Landed]:
        """Land ``batches``, all that land together, and move their ``reached``; the same call again is safe.

        ``hold`` is called before each insert and raises where a batch is no longer ours. Raises BatchRefused where one
        of several batches has rows that cannot be stored: each is to be landed by itself then, as a pending one.
        """
        for batch in batches:
            if batch.pending:
                self._await_former_owner(stream.topic, batch.partition)
        # 2. repeats, holes, what is there already
        if any(batch.reached.marks is None for batch in batches):
            marks = self._store.high_water(stream.sources)
            for batch in batches:
                batch.reached.marks = marks if batch.reached.marks is None else batch.reached.marks
        sifted = [_sifted(stream, batch) for batch in batches]
        fresh = {b.partition: [b.records[n] for n in s.fresh] for b, s in zip(batches, sifted, strict=True)}
        new = {b.partition: self._without_stored(stream, b, fresh[b.partition]) for b in batches}
        # 3. insert
        unstorable = self.insert(stream, new, hold, batches[0].intent.together)
        for batch in batches:
            if not batch.pending:
                continue
            left = {batch.partition: self._without_stored(stream, batch, new[batch.partition])}
            unstorable += self.insert(stream, left, hold)
            if stream.table is RISK:
                self._catch_up(batch.records)
        landed = []
        for batch, found in zip(batches, sifted, strict=True):
            batch.reached.last = dict(found.last)
            count, refused = len(new[batch.partition]), unstorable[batch.partition]
            landed.append(Landed(count - refused, found.repeats, len(found.fresh) - count, refused))
        return landed

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
        if self._store.is_inserting(_word(topic, partition)):
            raise StoreUnavailable(f"an insert of {topic} {partition} by its former owner is still running")

    def _catch_up(self, records: Sequence[Record]) -> None:
        """Bring the latest figures up to the history: ClickHouse may have died between the two."""
        offsets = [record.identity.raw_offset for record in records]
        self._store.copy(RISK, RISK_LATEST, records[0].identity.raw_partition, min(offsets), max(offsets))

    def _without_stored(self, stream: Stream, batch: Batch, records: list[Record]) -> list[Record]:
        """Those of ``records`` that are not stored; behind the marks only a pending batch has some that are."""
        marks = batch.reached.marks or {}
        ranges: dict[int, list[int]] = {}
        for record in records:
            raw_partition, raw_offset, _ = record.identity
            mark = marks.get(raw_partition)
            if batch.pending or (mark is not None and raw_offset <= mark.raw_offset):
                ranges.setdefault(raw_partition, []).append(raw_offset)
        if not ranges:
            return records
        there = {
            raw_partition: self._store.stored(stream.sources, raw_partition, min(offsets), max(offsets))
            for raw_partition, offsets in ranges.items()
        }
        return [r for r in records if r.identity.position not in there.get(r.identity.raw_partition, ())]

    def insert(
        self,
        stream: Stream,
        records: Mapping[int, Sequence[Record]],
        hold: Callable[[], None] = nothing,
        together: str = "",
    ) -> Counter[int]:
        """Insert ``records`` of ``stream`` by topic partition, none of them stored: one insert per table and schema.

        Their tokens are made of ``together``, or of the rows where it is empty. Returns how many of each partition went
        to quarantine instead. Raises BatchRefused where those of several partitions are refused.
        """
        unstorable: Counter[int] = Counter()
        groups: dict[tuple[str, int], dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
        unreadable: list[tuple[Record, str]] = []
        for partition, of_partition in records.items():
            for record in of_partition:
                try:
                    group = self._group(stream, record.value)
                except (Undecodable, UnknownSchemaId) as error:
                    unreadable.append((record, str(error)))
                    unstorable[partition] += 1
                else:
                    groups[group][partition].append(record)
        # Events first; the tables' own order is that of TABLES.
        order = sorted(groups, key=lambda group: (list(TABLES).index(group[0]), group[1]))
        for number, (name, schema_id) in enumerate(order):
            reach("sink.between_inserts" if number else "sink.before_insert")
            put = _Put(self._store, TABLES[name], self._schemas[schema_id], stream.topic, hold)
            unstorable += put.all(groups[name, schema_id], f"{together} {name} {schema_id}" if together else "")
        if unreadable:
            quarantine(self._store, stream.topic, unreadable, None, hold)
        reach("sink.after_insert")
        return unstorable

    def _group(self, stream: Stream, value: bytes) -> tuple[str, int]:
        """The table of ``value`` and the id of its schema, which is known then. Raises Undecodable, UnknownSchemaId."""
        table, schema_id = stream.route(value), schema_id_of(value)
        if schema_id not in self._schemas:
            self._schemas[schema_id] = self._schema_by_id(schema_id)
        if table is None:
            raise Undecodable("its bytes name no disposition")
        return table.name, schema_id


class _Put(NamedTuple):
    """Inserts records of ``topic`` into ``table``."""

    store: Store
    table: Table
    schema: Schema
    topic: str
    hold: Callable[[], None]

    def all(self, records: Mapping[int, Sequence[Record]], name: str) -> Counter[int]:
        """One insert of all ``records``, by topic partition, under the token ``name``, or one made of them.

        Where those of one partition are refused, they are landed in pieces; returns how many went to quarantine.
        Raises BatchRefused where those of several are.
        """
        try:
            self._put([record for part in records.values() for record in part], list(records), name)
            return Counter()
        except BatchRefused:
            if len(records) > 1:
                raise
            ((partition, part),) = records.items()
        decoder = Decoder(self.schema)
        refused = land_pieces(decoder, part, lambda piece: self._put(piece, [partition]))
        quarantine(self.store, self.topic, refused, decoder, self.hold)
        return Counter({partition: len(refused)})

    def _put(self, records: Sequence[Record], partitions: Sequence[int], name: str = "") -> None:
        self.hold()
        comment = " ".join(_word(self.topic, partition) for partition in partitions)
        bodies = [record.body for record in records]
        self.store.insert(self.table, self.schema, bodies, name or token(self.table, self.topic, records), comment)


def _word(topic: str, partition: int) -> str:
    """How ClickHouse's list of running statements names an insert of the topic partition."""
    return f"{topic}-{partition}"


def _sifted(stream: Stream, batch: Batch) -> Sifted:
    """The new records and the repeats of ``batch``. Raises Hole, BadKey."""
    reached = batch.reached
    if stream.contiguous:
        _check_partition(batch.partition, batch.records)
        if batch.partition not in reached.last:
            check_start(batch.partition, (reached.marks or {}).get(batch.partition), batch.records[0].identity)
    return sift(reached.last, (record.identity for record in batch.records), contiguous=stream.contiguous)


def _check_partition(partition: int, records: Sequence[Record]) -> None:
    for record in records:
        if record.identity.raw_partition != partition:
            raise BadKey(f"{record.identity} lies in partition {partition}")
