"""What an undisturbed run would have stored: the raw topic through the pure core, offline, against ClickHouse."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, TopicPartition
from tests.crash.pipeline import pause
from tests.support import eventually

from tradetape.processors.portfolio import books
from tradetape.processors.reading import RawRecord
from tradetape.processors.replay import Replay
from tradetape.processors.state import PartitionState
from tradetape.schemas import topics
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.codec import Decoder
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry
from tradetape.sinks import stored
from tradetape.sinks.raw_log import writer_schemas
from tradetape.sinks.store import Store
from tradetape.sinks.stored import Row
from tradetape.sinks.tables import TABLES

Place = tuple[int, int, int]
"""raw_partition, raw_offset, derived_seq."""

OUTPUTS = {topics.AUDITED: ("events", "quarantine"), topics.RISK: ("risk",), topics.ALERTS: ("alerts",)}
PORTFOLIOS = "portfolios"
"""The table of what follows from several partitions: it is folded from the topic of deltas as that stands."""

SECONDS = 30.0
"""Until the next record of those that are there."""
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
        self.rows: dict[str, dict[Place, Row]] = {table: {} for table in TABLES if table != PORTFOLIOS}
        self.deltas: set[bytes] = set()
        """Keys of what is sent to portfolios."""
        self._books: dict[int, PartitionState] = {}
        self._folded: dict[int, int] = {}
        self._figures: dict[Place, Row] = {}
        self._replays: dict[int, Replay] = {}
        self._next: dict[int, int] = {}
        self._sent: dict[str, Sent] = defaultdict(Sent)
        self._schema_by_id = writer_schemas(registry)
        self._deltas = Decoder(output_schema("portfolio"))
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
        for replay in self._replays.values():
            replay.commit()
            merged |= replay.store
        return merged

    def figures(self) -> dict[Place, Row]:
        """The figures of all portfolios: the deltas folded in the order in which their topic has them now."""
        for partition, message in self._read(topics.PORTFOLIO, self._folded):
            books_of = self._books.setdefault(partition, PartitionState(partition, {}))
            figure = books.fold(self._deltas.decode(message.value() or b""), books_of)
            if figure is not None:
                place = (figure["raw_partition"], figure["raw_offset"], figure["derived_seq"])
                self._figures[place] = stored.as_row(TABLES[PORTFOLIOS], figure)
        return self._figures

    def _judge(self, partition: int, message: Any) -> None:
        offset, value = message.offset(), message.value() or b""
        replay = self._replays.get(partition)
        if replay is None:
            replay = self._replays[partition] = Replay(partition, self._schema_by_id)
        for key, topic, record in replay.fold(RawRecord(partition, offset, message.timestamp()[1] * 1000, value)):
            if topic == topics.PORTFOLIO:
                self.deltas.add(key)
                continue
            table = stored.table_of(topic, record)
            place = (record["raw_partition"], record["raw_offset"], record["derived_seq"])
            assert place not in self.rows[table.name]
            self.rows[table.name][place] = stored.as_row(table, record)
        self.raw[partition, offset] = value

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
                until = monotonic() + SECONDS
                yield partition, message
                starts[partition] = offset + 1
                if offset + 1 == ends[partition]:
                    del ends[partition]
            assert monotonic() < until, f"{topic} does not give what it holds: {starts}, to {ends}"
        self._consumer.unassign()


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
    where = " OR ".join(f"(raw_partition = {part} AND raw_offset >= {offset})" for part, offset in began.items())
    for row in stored.rows(store, TABLES[table], where):
        yield (row["raw_partition"], row["raw_offset"], row["derived_seq"]), row


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
    deltas, figures = expected.sent(topics.PORTFOLIO), expected.sent(topics.PORTFOLIOS)
    for sent in (deltas, figures):
        assert not sent.differing, f"{where}: judged twice, and differently: {sorted(sent.differing)[:SHOWN]}"
    assert deltas.values.keys() == expected.deltas, f"{where}: {sorted(deltas.values.keys() ^ expected.deltas)[:SHOWN]}"
    return repeats + deltas.repeats + figures.repeats


def assert_portfolios(store: Store, expected: Undisturbed, seconds: float, where: str) -> None:
    """The figures of portfolios come to be stored, each once, as their deltas give them."""

    def settled() -> bool:
        wanted = expected.figures()
        ((count,),) = store.query(f"SELECT count() FROM tradetape.{PORTFOLIOS}")
        assert count == len(wanted)
        return stored_places(store, PORTFOLIOS) == Counter(wanted.keys())

    eventually(settled, seconds, f"{where}: the figures of portfolios")
    figures = expected.figures()
    assert figures, f"{where}: no portfolio has a figure"
    rows = {
        (row["raw_partition"], row["raw_offset"], row["derived_seq"]): row
        for row in stored.rows(store, TABLES[PORTFOLIOS], "1")
    }
    differ = [place for place, figure in figures.items() if rows[place] != figure]
    assert not differ, f"{where}: {[(rows[place], figures[place]) for place in differ[:1]]} of {len(differ)}"


def assert_state(expected: Undisturbed, where: str) -> None:
    """The changelog holds, byte for byte, the state of the undisturbed run."""
    changelog = {key: value for key, value in expected.sent(topics.STATE).values.items() if value}
    state = expected.state()
    assert changelog.keys() == state.keys(), f"{where}: {sorted(changelog.keys() ^ state.keys())[:SHOWN]}"
    differ = sorted(key for key, value in state.items() if changelog[key] != value)
    assert not differ, f"{where}: state differs: {[(key, changelog[key], state[key]) for key in differ[:SHOWN]]}"


def _key(place: Iterable[int]) -> bytes:
    return ":".join(str(number) for number in place).encode()
