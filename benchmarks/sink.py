"""Sink CPU per row against fastavro-decode-and-insert, on the same audited records and an identical table.

A third side is ClickHouse alone, reading the same bytes as ``AvroConfluent`` from a file: what its own Kafka engine
does, less the consumer. It keeps no account of what is stored, compares nothing and finds no hole.
"""

from __future__ import annotations

import subprocess
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import decode_and_insert, load, stack
from tradetape.infra import settings
from tradetape.infra.embedded import processes
from tradetape.infra.stackfile import CLICKHOUSE
from tradetape.processors import core
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.state import PartitionState
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import event_types, output_schema
from tradetape.schemas.registry import Registry
from tradetape.sinks.migrate import migrate
from tradetape.sinks.store import _ONE_BLOCK, Store
from tradetape.sinks.tables import EVENTS, plan
from tradetape.sinks.writer import GROUP

BATCH = 10_000
"""Rows sent to one partition at a time and waited for: one insert each, unless the sink's linger cuts in between."""

WARM_UP = 4
BATCHES = 8
ROUNDS = 3
INSTANCES = 200
BUDGET = 0.35

Record = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds per row of the process itself and of ClickHouse, rows per INSERT, rows per wall second."""

    name: str
    cpu_us: float
    clickhouse_us: float
    rows_per_insert: float
    rows_per_second: float


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared."""

    name: str
    command: Sequence[str]
    topic: str
    group: str


SINK = Side("sink", (sys.executable, "-m", "tradetape.sinks.writer_main"), topics.AUDITED, GROUP)
CONFLUENT = "ClickHouse, AvroConfluent from a file"
CONFLUENT_TABLE = "tradetape.bench_confluent"
PEER = Side(
    "decode and insert",
    (sys.executable, "-m", "benchmarks.decode_and_insert"),
    decode_and_insert.TOPIC,
    decode_and_insert.GROUP,
)


class Judged:
    """Audited records as the worker writes them: partition and key ``p:o:d``, made by the core without a worker."""

    def __init__(self, registry: Registry) -> None:
        self._encode = load.encoders(registry)
        schema = output_schema("audited")
        self._audited = codec.Encoder(schema, registry.look_up(topics.AUDITED, schema))
        self._schemas = {
            registry.look_up(topics.EVENTS, event_type.schema): WriterSchema(event_type.schema)
            for event_type in event_types().values()
        }
        self._states = {p: PartitionState(p, {}) for p in range(topics.DEFAULT_PARTITIONS)}
        self._next = dict.fromkeys(self._states, 0)

    def batches(self, count: int, seed: int) -> list[tuple[int, list[Record]]]:
        """``count`` batches of BATCH rows of one partition each, the partitions in turn; more, if they do not share."""
        made: dict[int, list[Record]] = {p: [] for p in self._states}
        each = BATCH * -(-count // len(made))
        events = load.events(10**9, INSTANCES, seed)
        while any(len(records) < each for records in made.values()):
            event = next(events)
            partition = zlib.crc32(event["instance_name"].encode()) % len(made)
            # Judged is stored: an offset that was given away and not sent would be a hole.
            if len(made[partition]) < each:
                made[partition].append(self._judge(partition, event))
        return [(p, made[p][start : start + BATCH]) for start in range(0, each, BATCH) for p in made]

    def _judge(self, partition: int, event: dict[str, Any]) -> Record:
        offset = self._next[partition]
        self._next[partition] += 1
        value = self._encode[event["event_type"]].encode(event)
        raw = RawRecord(partition, offset, event["ts_utc"] + 50_000, value)
        verdict = core.process(raw, self._states[partition], self._schemas.get).audited
        if verdict["disposition"] != core.ACCEPTED:
            raise RuntimeError(f"the load is not accepted: {verdict['reasons']} {verdict['reason_detail']}")
        return b"%d:%d:0" % (partition, offset), self._audited.encode(verdict)


class Landed:
    """What a consumer group has committed: a batch counts when it landed and its offset is committed."""

    def __init__(self, bootstrap_servers: str, group: str, topic: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": group})
        self._topic = topic

    def close(self) -> None:
        self._consumer.close()

    def wait(self, partition: int, offset: int, process: subprocess.Popen[bytes]) -> None:
        """Return when ``offset`` is committed. Raises stack.Stalled."""
        asked = [TopicPartition(self._topic, partition)]
        until = time.monotonic() + stack.PATIENCE
        while (committed := self._consumer.committed(asked, timeout=10)[0].offset) < offset:
            if process.poll() is not None or time.monotonic() > until:
                raise stack.Stalled(f"{self._topic} {partition}: {committed} of {offset}; exit code {process.poll()}")
            time.sleep(0.02)


class ClickHouse:
    """CPU of the server's process and its own counters."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.store = Store(environment[settings.CLICKHOUSE_URL])
        found = processes.find(Path(environment[settings.HOME]), CLICKHOUSE)
        if found is None:
            raise RuntimeError("ClickHouse is not running")
        self._process: psutil.Process = found

    def settle(self) -> None:
        """Return when no merge is running, so that a measurement holds its own merges and no others."""
        until = time.monotonic() + 60
        quiet = 0
        while quiet < 3 and time.monotonic() < until:
            time.sleep(0.2)
            quiet = quiet + 1 if self.store.query("SELECT count() FROM system.merges")[0][0] == 0 else 0

    def cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def inserts(self) -> int:
        """INSERTs executed since the server started."""
        found = self.store.query("SELECT value FROM system.events WHERE event = 'InsertQuery'")
        return int(found[0][0]) if found else 0


def create_like_events(store: Store, name: str) -> None:
    """Create ``name`` with the columns, indexes and settings of ``tradetape.events`` as migrated."""
    store.command(f"DROP TABLE IF EXISTS {name} SYNC")
    store.command(f"CREATE TABLE {name} AS tradetape.events")


def measure(
    side: Side,
    environment: dict[str, str],
    clickhouse: ClickHouse,
    next_offset: dict[int, int],
    batches: Sequence[tuple[int, list[Record]]],
) -> Cost:
    """CPU per row of one consumer process, start-up and warm-up left out."""
    servers = environment[settings.BOOTSTRAP_SERVERS]
    # Compressed as the worker compresses: both consumers unpack it.
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 20, "compression.type": "lz4", "batch.size": 500_000}
    )
    landed = Landed(servers, side.group, side.topic)
    with subprocess.Popen(
        side.command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:

        def land(share: Sequence[tuple[int, list[Record]]]) -> None:
            for partition, records in share:
                send(producer, side.topic, partition, records)
                next_offset[partition] += len(records)
                landed.wait(partition, next_offset[partition], process)

        try:
            land(batches[:WARM_UP])
            clickhouse.settle()
            inserts, server = clickhouse.inserts(), clickhouse.cpu_seconds()
            started, cpu = time.monotonic(), stack.cpu_seconds(process)
            land(batches[WARM_UP:])
            spent, took = stack.cpu_seconds(process) - cpu, time.monotonic() - started
            clickhouse.settle()
            rows = sum(len(records) for _, records in batches[WARM_UP:])
            return Cost(
                side.name,
                spent / rows * 1e6,
                (clickhouse.cpu_seconds() - server) / rows * 1e6,
                rows / (clickhouse.inserts() - inserts),
                rows / took,
            )
        finally:
            landed.close()
            stack.stop(process)


class Confluent:
    """ClickHouse reads framed records from files and asks the registry for their schemas, as its Kafka engine does."""

    def __init__(self, clickhouse: ClickHouse, registry_url: str, folder: Path) -> None:
        self._clickhouse = clickhouse
        self._registry_url = registry_url
        self._file = folder / "records.avro"

    def measure(self, batches: Sequence[tuple[int, list[Record]]]) -> Cost:
        """CPU of ClickHouse per row, merges included; there is no other process."""
        for _, records in batches[:WARM_UP]:
            self._land(records)
        self._clickhouse.settle()
        inserts, server = self._clickhouse.inserts(), self._clickhouse.cpu_seconds()
        took = sum(self._land(records) for _, records in batches[WARM_UP:])
        self._clickhouse.settle()
        rows = sum(len(records) for _, records in batches[WARM_UP:])
        return Cost(
            CONFLUENT,
            0.0,
            (self._clickhouse.cpu_seconds() - server) / rows * 1e6,
            rows / (self._clickhouse.inserts() - inserts),
            rows / took,
        )

    def _land(self, records: Sequence[Record]) -> float:
        """Insert ``records``, one block; the seconds that it took."""
        self._file.write_bytes(b"".join(value for _, value in records))
        statement = plan(EVENTS, output_schema("audited"))
        read = statement.replace("FROM input(", f"FROM file('{self._file}', 'AvroConfluent', ")
        started = time.monotonic()
        self._clickhouse.store.command(
            f"INSERT INTO {read.replace(EVENTS.full_name, CONFLUENT_TABLE, 1)}",
            settings={
                **_ONE_BLOCK,
                "format_avro_schema_registry_url": self._registry_url,
                "use_structure_from_insertion_table_in_table_functions": 0,
            },
        )
        return time.monotonic() - started


def send(producer: Producer, topic: str, partition: int, records: Sequence[Record]) -> None:
    """Send ``records`` to ``partition``, in order, and wait for the acknowledgements."""
    for key, value in records:
        while True:
            try:
                producer.produce(topic, key=key, value=value, partition=partition)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def run() -> tuple[Cost, Cost, Cost]:
    """The sink, its peer and ClickHouse alone, the cheapest of ROUNDS rounds each."""
    found: dict[str, list[Cost]] = {SINK.name: [], PEER.name: [], CONFLUENT: []}
    with stack.running("kafka", "registry", "clickhouse") as environment:
        stack.create_topics(environment[settings.BOOTSTRAP_SERVERS], [PEER.topic])
        clickhouse = ClickHouse(environment)
        migrate(clickhouse.store)
        for table in (decode_and_insert.TABLE, CONFLUENT_TABLE):
            create_like_events(clickhouse.store, table)
        confluent = Confluent(clickhouse, environment[settings.REGISTRY_URL], Path(environment[settings.HOME]))
        judged = Judged(Registry(environment[settings.REGISTRY_URL]))
        reached = {side.name: dict.fromkeys(range(topics.DEFAULT_PARTITIONS), 0) for side in (SINK, PEER)}
        for number in range(ROUNDS):
            batches = judged.batches(WARM_UP + BATCHES, seed=number + 1)
            for side in (SINK, PEER) if number % 2 == 0 else (PEER, SINK):
                found[side.name].append(measure(side, environment, clickhouse, reached[side.name], batches))
            found[CONFLUENT].append(confluent.measure(batches))
        _check(clickhouse.store)
    return cheapest(found[SINK.name]), cheapest(found[PEER.name]), cheapest(found[CONFLUENT])


def cheapest(costs: Sequence[Cost]) -> Cost:
    """The round with the least CPU of the process; ClickHouse's CPU is its own least: merges fall where they like."""
    best = min(costs, key=lambda cost: cost.cpu_us)
    return replace(best, clickhouse_us=min(cost.clickhouse_us for cost in costs))


def _check(store: Store) -> None:
    """All sides stored the same rows, or the comparison says nothing."""
    tables = (EVENTS.full_name, decode_and_insert.TABLE, CONFLUENT_TABLE)
    sums = [store.query(f"SELECT count(), sum(cityHash64(*)) FROM {table}")[0] for table in tables]
    if len(set(sums)) > 1:
        raise RuntimeError(f"the tables differ: {sums}")
