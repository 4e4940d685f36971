"""A day of a simulated fleet of five systems, judged by the core without a worker and landed as the sink lands it.

The bots trade into their native stores, defects among it, and the connectors read those. Every record keeps what its
bot said but the time: the day's records are spread evenly over the day, those of one bot in the order of its store.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Any

from tradetape.infra import connect, fleet
from tradetape.infra.embedded import stores
from tradetape.processors import core
from tradetape.processors.clock import DAY
from tradetape.processors.emission import emitted
from tradetape.processors.portfolio import books
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.state import PartitionState
from tradetape.schemas import topics
from tradetape.schemas.catalogue import event_types, output_schema
from tradetape.schemas.codec import HEADER, Encoder
from tradetape.sinks.batch import STREAMS
from tradetape.sinks.store import Store
from tradetape.sinks.tables import TABLES

STEPS = {"turtle": 45, "catalyst": 45, "trend": 45, "hummingbot": 260, "quantum": 30, "envelope": 400}
"""Steps of each bot, by system: trades, alerts, cycles, runs. They come to about the same number of events."""

BOTS = 4
"""Of each system."""

START = 1_767_225_600_000_000
"""Midnight at which the day begins, microseconds: 2026-01-01."""

DELAY = 200_000
"""From the bot's clock to Kafka, microseconds."""

PARTITIONS = topics.DEFAULT_PARTITIONS
_POLL = 2_000
_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Landed:
    """What was landed: records of the raw topic, and how many there are of each partition."""

    records: int
    spans: tuple[int, ...]


def land(store: Store) -> Landed:
    """Fill the tables of ``store``, which are migrated and empty, with the day."""
    with tempfile.TemporaryDirectory(prefix="tradetape-bench-") as folder:
        day = _Day(store)
        events = _events(Path(folder))
        for number, event in enumerate(events):
            day.take(event, START + DAY * number // len(events))
        day.flush()
        return Landed(len(events), tuple(day.offsets))


def _events(home: Path) -> list[dict[str, Any]]:
    """The events of all bots, as evenly mixed as they can be with those of a source in their order."""
    try:
        sources: list[Sequence[dict[str, Any]]] = []
        for kind, steps in STEPS.items():
            written = fleet.simulate(home, fleet.Plan(BOTS, steps, 7, START // 1000), [kind])
            sources += [list(_read(source)) for source in written.sources]
    finally:
        stores.stop(home)
    placed = ([(at / len(source), n, event) for at, event in enumerate(source)] for n, source in enumerate(sources))
    return [event for _, _, event in merge(*placed, key=lambda each: each[:2])]


def _read(config: connect.SourceConfig) -> Iterator[dict[str, Any]]:
    module = connect.connector(config.kind)
    source_id = f"{config.kind}:{config.instance_name}"
    with closing(module.open_source(config.location, config.origin(source_id, connect.defaults(module)), None)) as read:
        while events := read.poll(_POLL):
            yield from events
            read.acknowledge()


class _Day:
    """Judges events and lands what they cause."""

    def __init__(self, store: Store) -> None:
        self._store = store
        known = list(event_types().values())
        self._encode = {each.name: Encoder(each.schema, number).encode for number, each in enumerate(known, 1)}
        self._schemas = {number: WriterSchema(each.schema) for number, each in enumerate(known, 1)}
        self._states = [PartitionState(number, {}) for number in range(PARTITIONS)]
        self._stage = PartitionState(0, {})
        self._outputs = {topic: output_schema(topic.rpartition(".")[2]) for topic in STREAMS}
        self._write = {topic: Encoder(schema, 0).encode for topic, schema in self._outputs.items()}
        self._waiting: dict[str, list[bytes]] = {topic: [] for topic in STREAMS}
        self._inserts = 0
        self.offsets = [0] * PARTITIONS

    def take(self, event: dict[str, Any], timestamp: int) -> None:
        """Judge ``event``, as of ``timestamp``, and keep what it causes until it is landed."""
        partition = zlib.crc32(event["instance_name"].encode()) % PARTITIONS
        value = self._encode[event["event_type"]]({**event, "ts_utc": timestamp - DELAY})
        raw = RawRecord(partition, self.offsets[partition], timestamp, value)
        self.offsets[partition] += 1
        state = self._states[partition]
        for sent in emitted(core.process(raw, state, self._schemas.get)):
            if sent.topic != topics.PORTFOLIO:
                self._keep(sent.topic, sent.record)
            elif (figure := books.fold(sent.record, self._stage)) is not None:
                self._keep(topics.PORTFOLIOS, figure)
        state.progress.applied = raw.offset

    def flush(self) -> None:
        """Land what is kept."""
        for topic in self._waiting:
            self._land(topic)

    def _keep(self, topic: str, record: dict[str, Any]) -> None:
        self._waiting[topic].append(self._write[topic](record))
        if len(self._waiting[topic]) >= _ROWS:
            self._land(topic)

    def _land(self, topic: str) -> None:
        waiting, self._waiting[topic] = self._waiting[topic], []
        by_table: dict[str, list[bytes]] = {}
        for value in waiting:
            table = STREAMS[topic].route(value)
            assert table is not None
            by_table.setdefault(table.name, []).append(value[HEADER.size :])
        for name, bodies in by_table.items():
            self._inserts += 1
            self._store.insert(TABLES[name], self._outputs[topic], bodies, f"day-{self._inserts}")
