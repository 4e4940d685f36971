"""What is missing in the record, judged again by the same rules and inserted (G2, P-11).

A fold needs the whole partition from its first record on: what is stored comes from the store, what is missing from
``tradetape.events``. Figures of portfolios follow from several partitions and are not repaired here.

A sink lands each topic in its order and takes what does not rise for a repeat. So a row that is not stored is missing
where a later one of its topic is; else it may be on its way, and is left to the sink: nothing becomes double.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from tradetape.processors.emission import Emitted
from tradetape.processors.reading import RawRecord, SchemaById
from tradetape.processors.replay import Replay
from tradetape.schemas import topics
from tradetape.schemas.catalogue import OUTPUTS, output_schema
from tradetape.schemas.codec import Encoder
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry
from tradetape.sinks import intents, stored
from tradetape.sinks.batch import STREAMS, Record
from tradetape.sinks.landing import Entry, Landed, Landing
from tradetape.sinks.ledger import Position, parse_key
from tradetape.sinks.raws import of_rows
from tradetape.sinks.store import Store
from tradetape.sinks.stored import Stored

AT_ONCE = 10_000
"""Missing records held in memory."""

NOWHERE = Position(-1, 0)

SINK = "repair"
"""Who landed it, in the ingest ledger."""

Fetch = Callable[[int, int, int], Iterator[RawRecord]]
"""Raw records of a partition of ``tradetape.events`` from one offset to before another, as far as they are there."""


class Unrepairable(TradetapeError):
    """Kafka no longer has the records that are missing."""


@dataclass(slots=True)
class Repaired:
    """What became of a raw partition: records judged again, rows inserted, events among them."""

    partition: int
    judged: int = 0
    rows: int = 0
    events: int = 0


class Repairer:
    """Fills raw partitions of ``store``; ``fetch`` reads ``tradetape.events``, ``registry`` names output schemas."""

    def __init__(self, store: Store, schema_by_id: SchemaById, registry: Registry, fetch: Fetch) -> None:
        self._store = store
        self._schema_by_id = schema_by_id
        self._fetch = fetch
        self._landing = Landing(store, registry.by_id, SINK)
        self._encoder = cache(lambda topic: _encoder(registry, topic))

    def repair(self, partition: int, end: int, on_progress: Callable[[int], object] = lambda _: None) -> Repaired:
        """Insert every row that raw ``partition`` lacks below the offset ``end``, at which a hole ends at the most.

        ``on_progress`` hears how many records are judged. Raises Unrepairable, and what the store and Kafka raise.
        """
        done = Repaired(partition)
        reached = self._reached(partition)
        replay = Replay(partition, self._schema_by_id)
        missing: list[Emitted] = []
        with closing(self._pairs(partition, end)) as pairs:
            for raw, found in pairs:
                there = {row.position for row in found}
                missing += [one for one in replay.fold(raw) if _is_missing(one, there, reached)]
                done.judged += 1
                if len(missing) >= AT_ONCE:
                    self._insert(partition, missing, done)
                    on_progress(done.judged)
        self._insert(partition, missing, done)
        on_progress(done.judged)
        return done

    def _reached(self, partition: int) -> Mapping[str, Position]:
        """The last position of ``partition`` that is stored, by topic."""
        found = {}
        for topic, stream in STREAMS.items():
            if topic == topics.PORTFOLIOS:
                continue
            sources = stream.sources if stream.table is None else ((stream.table, "1"),)
            found[topic] = self._store.high_water(sources).get(partition, NOWHERE)
        return found

    def _pairs(self, partition: int, end: int) -> Generator[tuple[RawRecord, Sequence[Stored]]]:
        """Each raw record with the rows of its offset."""
        expected = 0
        with closing(stored.read(self._store, partition, 0, end - 1)) as rows:
            for offset, group in groupby(rows, key=lambda row: row.position.raw_offset):
                found = list(group)
                raw = of_rows(partition, found)
                for fetched in self._fetched(partition, expected, offset if raw is not None else offset + 1):
                    yield fetched, found if fetched.offset == offset else ()
                if raw is not None:
                    yield raw, found
                expected = offset + 1
        for fetched in self._fetched(partition, expected, end):
            yield fetched, ()

    def _fetched(self, partition: int, first: int, end: int) -> Iterator[RawRecord]:
        expected = first
        for raw in self._fetch(partition, first, end) if first < end else ():
            if raw.offset != expected:
                break
            yield raw
            expected += 1
        if expected < end:
            raise Unrepairable(
                f"raw partition {partition}: offsets {expected} to {end - 1} are neither stored nor in {topics.EVENTS}",
                hint="restore a backup that has them; if they were archived, see `tradetape archive --verify`",
            )

    def _insert(self, partition: int, missing: list[Emitted], done: Repaired) -> None:
        """Land ``missing`` and write it into the ledger, topic by topic; nothing is left of it then."""
        by_topic: dict[str, list[Record]] = {}
        for one in missing:
            value = self._encoder(one.topic).encode(one.record)
            identity = parse_key(one.key)
            by_topic.setdefault(one.topic, []).append(
                Record(identity, value, one.record["ingest_ts_utc"], identity.raw_offset)
            )
        entries = []
        for topic, records in by_topic.items():
            unstorable = self._landing.insert(STREAMS[topic], {partition: records})[partition]
            landed = Landed(len(records) - unstorable, 0, 0, unstorable)
            entries.append(Entry(f"{SINK} {topic}", partition, intents.of(records), landed))
        if entries:
            self._landing.mark(entries)
        done.rows += len(missing)
        done.events += sum(one.topic == topics.AUDITED and parse_key(one.key).derived_seq == 0 for one in missing)
        missing.clear()


def _is_missing(one: Emitted, there: Collection[Position], reached: Mapping[str, Position]) -> bool:
    """Whether it is neither among the rows that are ``there`` nor on its way."""
    position = parse_key(one.key).position
    if one.topic == topics.PORTFOLIO or position in there:
        return False
    if one.topic == topics.AUDITED and position.raw_offset > reached[one.topic].raw_offset:
        return True  # a sink goes past no hole
    return position < reached[one.topic]


def _encoder(registry: Registry, topic: str) -> Encoder:
    name = next(name for name in OUTPUTS if topics.of_output(name) == topic)
    schema = output_schema(name)
    return Encoder(schema, registry.look_up(topic, schema))
