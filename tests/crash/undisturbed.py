"""What an undisturbed run would have stored: the raw topic through the pure core, offline, against ClickHouse."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, TopicPartition
from tests.crash.pipeline import pause
from tests.support import eventually

from tradetape.processors import core
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.state import PartitionState
from tradetape.schemas import topics
from tradetape.schemas.catalogue import core_type, logical, output_schema
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry, UnknownSchemaId
from tradetape.sinks import results
from tradetape.sinks.store import Store

Place = tuple[int, int, int]
"""raw_partition, raw_offset, derived_seq."""

Row = dict[str, Any]

AUDITED = ("events", "quarantine")
TABLES = {"events": "audited", "quarantine": "audited", "risk": "risk", "alerts": "alerts"}
OUTPUTS = {topics.AUDITED: AUDITED, topics.RISK: ("risk",), topics.ALERTS: ("alerts",)}

SECONDS = 30.0
READ_SECONDS = 0.1
POLL_SECONDS = 0.2
"""Between two counts: the machine is busy enough."""

SHOWN = 5
"""Differences in a message."""


@dataclass(slots=True)
class Sent:
    """The records of a topic: ``values`` by key, the last ones, b"" for a tombstone; how many were ``repeats``, and
    the keys with ``differing`` values.
    """

    values: dict[bytes, bytes] = field(default_factory=dict)
    repeats: int = 0
    differing: set[bytes] = field(default_factory=set)
    next: dict[int, int] = field(default_factory=dict)

    def add(self, key: bytes, value: bytes) -> None:
        if key in self.values:
            self.repeats += 1
            if self.values[key] != value:
                self.differing.add(key)
        self.values[key] = value


class Undisturbed:
    """Reads ``tradetape.events`` as it stands and judges it, partition by partition, in one go each."""

    def __init__(self, bootstrap_servers: str, registry: Registry) -> None:
        self.raw: dict[tuple[int, int], bytes] = {}
        """Every record of the topic by partition and offset."""
        self.rows: dict[str, dict[Place, Row]] = {table: {} for table in TABLES}
        self.stores: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._states: dict[int, PartitionState] = {}
        self._next: dict[int, int] = {}
        self._expected: dict[int, int] = defaultdict(int)
        self._sent: dict[str, Sent] = defaultdict(Sent)
        self._registry = registry
        self._schemas: dict[int, WriterSchema | None] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "crash-tests",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._consumer.close()

    def catch_up(self) -> dict[int, int]:
        """Judge what came in since the last call; returns where each partition began then."""
        began = dict.fromkeys(self._ends(topics.EVENTS), 0) | self._next
        for partition, message in self._read(topics.EVENTS, self._next):
            self._judge(partition, message)
        return began

    def sent(self, topic: str) -> Sent:
        """What is on an output topic or the changelog now."""
        sent = self._sent[topic]
        for _, message in self._read(topic, sent.next):
            sent.add(message.key(), message.value() or b"")
        return sent

    def state(self) -> dict[bytes, bytes]:
        """The state of all partitions as the changelog lays it out."""
        merged: dict[bytes, bytes] = {}
        for partition, state in self._states.items():
            for key, value in state.changes():
                if value is None:
                    self.stores[partition].pop(key, None)
                else:
                    self.stores[partition][key] = value
            state.committed()
            merged |= self.stores[partition]
        return merged

    def _judge(self, partition: int, message: Any) -> None:
        offset, value = message.offset(), message.value() or b""
        assert offset == self._expected[partition], (
            f"raw {partition}: offset {offset} and not {self._expected[partition]}"
        )
        self._expected[partition] = offset + 1
        self.raw[partition, offset] = value
        state = self._states.get(partition)
        if state is None:
            state = self._states[partition] = PartitionState(partition, self.stores[partition])
        output = core.process(RawRecord(partition, offset, message.timestamp()[1] * 1000, value), state, self._schema)
        state.progress.applied = offset
        self._expect("events" if output.audited["disposition"] == core.ACCEPTED else "quarantine", output.audited)
        if output.risk is not None:
            self._expect("risk", output.risk)
        for alert in output.alerts:
            self._expect("alerts", alert)

    def _expect(self, table: str, record: Mapping[str, Any]) -> None:
        place = (record["raw_partition"], record["raw_offset"], record["derived_seq"])
        assert place not in self.rows[table]
        self.rows[table][place] = _plain(table, record)

    def _schema(self, schema_id: int) -> WriterSchema | None:
        if schema_id not in self._schemas:
            try:
                self._schemas[schema_id] = WriterSchema(self._registry.by_id(schema_id))
            except UnknownSchemaId:
                self._schemas[schema_id] = None
        return self._schemas[schema_id]

    def _ends(self, topic: str) -> dict[int, int]:
        partitions = self._consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        return {
            partition: self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=SECONDS)[1]
            for partition in sorted(partitions)
        }

    def _read(self, topic: str, starts: dict[int, int]) -> Iterator[tuple[int, Any]]:
        """The records of ``topic`` from ``starts`` to its end, in order within a partition; moves ``starts`` there."""
        ends = {partition: end for partition, end in self._ends(topic).items() if starts.get(partition, 0) < end}
        self._consumer.assign([TopicPartition(topic, partition, starts.get(partition, 0)) for partition in ends])
        until = monotonic() + SECONDS
        while ends:
            for message in self._consumer.consume(10_000, timeout=READ_SECONDS):
                assert message.error() is None, message.error()
                partition, offset = message.partition(), message.offset()
                if partition not in ends or offset >= ends[partition]:
                    continue  # came in meanwhile: the next call reads it
                yield partition, message
                starts[partition] = offset + 1
                if offset + 1 == ends[partition]:
                    del ends[partition]
            assert monotonic() < until, f"{topic} does not give what it holds: {starts}, to {ends}"
        self._consumer.unassign()


def _plain(table: str, record: Mapping[str, Any]) -> Row:
    """``record`` as the columns of ``table`` read."""
    row = {name: value for name, value in record.items() if name != "_end"}
    for name, value in row.items():
        if isinstance(value, bytes):
            row[name] = value.hex()
        elif isinstance(value, list | tuple):
            row[name] = list(value)
    if table == "quarantine" and row["ts_utc"] == 0:
        row["ts_utc"] = None
    if table in AUDITED:
        row["schema_validation_status"] = "ok" if table == "events" else row["disposition"]
    if "fees" in row:
        row["fees"] = dict(row["fees"])
    return row


def stored_places(store: Store, table: str) -> Counter[Place]:
    """How often each place is in ``table``."""
    rows = store.query(f"SELECT raw_partition, raw_offset, derived_seq FROM tradetape.{table}")
    return Counter((int(row[0]), int(row[1]), int(row[2])) for row in rows)


def wait_until_stored(store: Store, expected: Undisturbed, seconds: float, where: str) -> None:
    """Return when each table has as many rows as the undisturbed run gave it; says what is missing otherwise."""
    wanted = {table: len(rows) for table, rows in expected.rows.items()}
    sql = " UNION ALL ".join(f"SELECT '{table}' AS name, count() FROM tradetape.{table}" for table in wanted)

    def counted() -> bool:
        pause(POLL_SECONDS)
        try:
            found = {str(row[0]): int(row[1]) for row in store.query(sql)}
        except TradetapeError as error:  # it may be restarting, or have no tables yet
            raise AssertionError(str(error)) from error
        assert all(found[table] >= count for table, count in wanted.items()), f"{found} of {wanted}"
        return True

    try:
        eventually(counted, seconds, where)
    except AssertionError:
        assert_places(store, expected, where)
        raise


def stored_rows(store: Store, table: str, began: Mapping[int, int]) -> Iterator[tuple[Place, Row]]:
    """The rows of ``table`` from the offsets ``began`` on, all columns that a verdict or figure has."""
    fields = output_schema(TABLES[table])["fields"]
    types = {declared["name"]: declared["type"] for declared in fields if declared["name"] != "_end"}
    if table in AUDITED:
        types["schema_validation_status"] = "string"
    selected = ", ".join(_expression(name, of) for name, of in types.items())
    where = " OR ".join(f"(raw_partition = {part} AND raw_offset >= {offset})" for part, offset in began.items())
    sql = f"SELECT {selected} FROM (SELECT * FROM tradetape.{table} WHERE {where})"
    answer = b"".join(store.raw(sql, settings=results.SETTINGS, output_format="JSONEachRow"))
    decimals = {name for name, of in types.items() if logical(of) == "decimal"}
    for line in answer.splitlines():
        row = json.loads(line)
        for name in decimals:
            row[name] = Decimal(row[name])
        if "fees" in row:
            row["fees"] = {asset: Decimal(amount) for asset, amount in row["fees"].items()}
        yield (row["raw_partition"], row["raw_offset"], row["derived_seq"]), row


def _expression(name: str, avro_type: Any) -> str:
    if logical(avro_type) == "timestamp-micros":
        return f"toUnixTimestamp64Micro({name}) AS {name}"
    if core_type(avro_type) == "bytes" and logical(avro_type) != "decimal":
        return f"lower(hex({name})) AS {name}"
    return name


def assert_places(store: Store, expected: Undisturbed, where: str) -> None:
    """Every place is stored exactly once, in its table, and nothing else is."""
    for table, rows in expected.rows.items():
        found = stored_places(store, table)
        doubles = [place for place, count in found.items() if count > 1]
        assert not doubles, f"{where}: stored twice in {table}: {sorted(doubles)[:SHOWN]} of {len(doubles)}"
        missing, more = rows.keys() - found.keys(), found.keys() - rows.keys()
        assert not more, f"{where}: nothing caused these rows of {table}: {sorted(more)[:SHOWN]} of {len(more)}"
        assert not missing, f"{where}: not in {table}: {sorted(missing)[:SHOWN]} of {len(missing)}"


def assert_rows(store: Store, expected: Undisturbed, began: Mapping[int, int], where: str) -> None:
    """Every column of every row from ``began`` on is that of the undisturbed run, each row is there once."""
    for table, rows in expected.rows.items():
        found: dict[Place, Row] = {}
        for place, row in stored_rows(store, table, began):
            assert place not in found, f"{where}: {place} is stored twice in {table}"
            found[place] = row
        wanted = {place: row for place, row in rows.items() if place[1] >= began[place[0]]}
        assert found.keys() == wanted.keys(), f"{where}: {table}: {sorted(found.keys() ^ wanted.keys())[:SHOWN]}"
        differences = [
            f"{table} {place} {name}: stored {found[place].get(name)!r}, undisturbed {value!r}"
            for place, row in wanted.items()
            for name, value in row.items()
            if found[place].get(name) != value
        ]
        assert not differences, f"{where}: {len(differences)} differences: " + "\n".join(differences[:SHOWN])
        unnamed = {name for row in found.values() for name in row} - {name for row in wanted.values() for name in row}
        assert not (found and unnamed), f"{where}: {table} has columns that no verdict has: {unnamed}"


def assert_outputs(expected: Undisturbed, where: str) -> int:
    """Each place is on its output topic, and a repeat has the same bytes; returns how many repeats there were."""
    repeats = 0
    for topic, tables in OUTPUTS.items():
        sent = expected.sent(topic)
        repeats += sent.repeats
        assert not sent.differing, f"{where}: judged twice, and differently: {topic} {sorted(sent.differing)[:SHOWN]}"
        wanted = {_key(place) for table in tables for place in expected.rows[table]}
        assert sent.values.keys() == wanted, f"{where}: {topic}: {sorted(sent.values.keys() ^ wanted)[:SHOWN]}"
    return repeats


def assert_state(expected: Undisturbed, where: str) -> None:
    """The changelog holds, byte for byte, the state of the undisturbed run."""
    changelog = {key: value for key, value in expected.sent(topics.STATE).values.items() if value}
    state = expected.state()
    assert changelog.keys() == state.keys(), f"{where}: {sorted(changelog.keys() ^ state.keys())[:SHOWN]}"
    differ = sorted(key for key, value in state.items() if changelog[key] != value)
    assert not differ, f"{where}: state differs: {[(key, changelog[key], state[key]) for key in differ[:SHOWN]]}"


def _key(place: Iterable[int]) -> bytes:
    return ":".join(str(number) for number in place).encode()
