"""The sink killed and frozen at its crash points, on real Kafka and the real engine: each row once, always."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.crash.pipeline import KILLED, SINK, tradetape
from tests.forks import Forks, Process
from tests.sinks import rows
from tests.support import eventually

from tradetape.infra import settings
from tradetape.schemas import topics
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.codec import HEADER, Encoder
from tradetape.schemas.crashpoints import VARIABLE
from tradetape.schemas.registry import Registry, subjects
from tradetape.sinks import intents
from tradetape.sinks.batch import STREAMS
from tradetape.sinks.ledger import parse_key
from tradetape.sinks.migrate import migrate
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS
from tradetape.sinks.writer import GROUP

pytestmark = [pytest.mark.integration, pytest.mark.crash]

POINTS = (
    *("sink.polled", "sink.after_intent", "sink.before_insert", "sink.between_inserts", "sink.after_insert"),
    *("sink.after_mark", "sink.after_commit"),
)
FREEZES = ("sink.after_intent", "sink.between_inserts", "sink.after_insert")
SEEDS = range(int(os.environ.get("TRADETAPE_SEEDS", "1")))
PARTITIONS = 4
EXIT_HOLE = 4
TABLES = ("events", "quarantine", "risk")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[settings.Settings]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in settings.ADDRESSES.values():
            patch.delenv(variable, raising=False)
        tradetape(forks, home, "up", "--only", "kafka,registry,clickhouse", "--partitions", str(PARTITIONS))
        try:
            found = settings.load(home)
            outputs = [subject for subject in subjects() if not subject.name.startswith(topics.EVENTS)]
            assert {state.state for state in Registry(found.registry_url).register_all(outputs)} == {"new"}
            yield found
        finally:
            tradetape(forks, home, "down")


class Feed:
    """Plays the processor: verdicts and figures, and now and then a stretch once more, as after a crash of its own."""

    def __init__(self, stack: settings.Settings, seed: int) -> None:
        self._random = random.Random(seed)
        self._producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "enable.idempotence": True})
        registry = Registry(stack.registry_url)
        self._encoders = {
            name: (topic, Encoder(output_schema(name), registry.look_up(topic, output_schema(name))))
            for name, topic in (("audited", topics.AUDITED), ("risk", topics.RISK))
        }
        self.offset = 0
        self.figures = 0

    def send(self, count: int, skip: int = 0, refused: int | None = None) -> None:
        """``count`` offsets in each partition, after ``skip`` missing ones; ClickHouse refuses ``refused`` in one."""
        again = max(0, self.offset - self._random.choice((0, 0, 7, 200)))
        for partition in range(PARTITIONS):
            for offset in range(again if not skip else self.offset + skip, self.offset + skip + count):
                disposition = random.Random(offset).choice(("accepted", "accepted", "duplicate", "rejected"))
                row = rows.audited(offset, partition=partition, disposition=disposition)
                if (partition, offset) == (1, refused):
                    row["event_id"] = "no uuid"
                    row["disposition"] = "accepted"
                self._put("audited", partition, f"{partition}:{offset}:0", row)
                if offset % 3 == 0:
                    figure = rows.risk(offset, partition=partition)
                    self._put("risk", partition, f"{partition}:{offset}:1", figure)
        self.offset += skip + count
        self._producer.flush()

    def _put(self, name: str, partition: int, key: str, row: dict[str, object]) -> None:
        topic, encoder = self._encoders[name]
        self._producer.produce(topic, encoder.encode(row), key.encode(), partition=partition)
        self._producer.poll(0)


@dataclass(frozen=True)
class Sinks:
    """Starts sinks on ``stack``, each a process of its own."""

    stack: settings.Settings
    forks: Forks
    log: Path

    @contextmanager
    def running(self, crash_at: str = "", member: str = "crash-test") -> Iterator[Process]:
        """A sink, until the end of the block."""
        addresses = {variable: getattr(self.stack, name) for name, variable in settings.ADDRESSES.items()}
        # A static member takes its partitions back at once, instead of when the session of the dead one ends.
        env = {**os.environ, **addresses, "TRADETAPE_SINK_ID": member, VARIABLE: crash_at}
        process = self.forks.start(SINK, (), env, self.log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def answers(store: Store) -> dict[str, tuple[int, int]]:
    position = "raw_partition, raw_offset, derived_seq"
    return {
        table: store.query(f"SELECT count(), uniqExact({position}) FROM tradetape.{table}")[0]  # type: ignore[misc]
        for table in TABLES
    }


@pytest.fixture(scope="module")
def sinks(stack: settings.Settings, forks: Forks) -> Sinks:
    return Sinks(stack, forks, stack.home / "logs" / "sink.log")


@pytest.fixture(scope="module")
def feed(stack: settings.Settings) -> Feed:
    return Feed(stack, 20261121)


@pytest.fixture(scope="module")
def store(stack: settings.Settings) -> Store:
    found = Store(stack.clickhouse_url)
    migrate(found)
    return found


def is_complete(feed: Feed, store: Store) -> bool:
    """Whether every row that was fed is there; fails at once where one is there twice."""
    found = answers(store)
    assert all(count == distinct for count, distinct in found.values())
    verdicts = found["events"][0] + found["quarantine"][0]
    return verdicts == feed.offset * PARTITIONS and found["risk"][0] == len(range(0, feed.offset, 3)) * PARTITIONS


def finish(sinks: Sinks, feed: Feed, store: Store, member: str = "crash-test") -> None:
    """Run a sink until every row is there, and let it go in peace."""
    if is_complete(feed, store):
        return
    with sinks.running(member=member) as sink:
        eventually(lambda: is_complete(feed, store), 90, f"{feed.offset} offsets in each of {PARTITIONS} partitions")
        sink.terminate()
        assert sink.wait(30) == 0
    assert is_complete(feed, store)


def killed(sinks: Sinks, feed: Feed, point: str, count: int) -> None:
    """Run a sink that dies when it reaches ``point`` the ``count``-th time, fed until then."""
    with sinks.running(f"{point}:{count}") as sink:

        def ended() -> bool:
            if sink.poll() is None:
                feed.send(20)
            return sink.poll() is not None

        eventually(ended, 60, f"the sink dies at {point}")
        assert sink.returncode == KILLED


@pytest.mark.req("P-03", "P-06")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_rows_are_those_of_an_undisturbed_run(sinks: Sinks, feed: Feed, store: Store, seed: int) -> None:
    rnd = random.Random(seed)
    for point in rnd.sample(POINTS, len(POINTS)):
        feed.send(rnd.randint(300, 1500))
        killed(sinks, feed, point, rnd.randint(1, 6))
    finish(sinks, feed, store)


@pytest.mark.req("P-03", "P-06")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_two_owners_of_a_partition_land_it_once(sinks: Sinks, feed: Feed, store: Store, seed: int) -> None:
    point = FREEZES[seed % len(FREEZES)]
    feed.send(500)
    with sinks.running(f"{point}:{1 + seed % 2}:STOP") as frozen:
        process = psutil.Process(frozen.pid)

        def stopped() -> bool:
            if process.status() != psutil.STATUS_STOPPED:
                feed.send(20)
            return process.status() == psutil.STATUS_STOPPED

        eventually(stopped, 60, f"the sink freezes at {point}")
        feed.send(100)
        # The other one takes over when the session of the frozen one ends, and goes on with other batches.
        with sinks.running(member="the-other") as other:
            eventually(lambda: is_complete(feed, store), 90, f"the other sink takes over at {point}")
            process.resume()
            feed.send(300)
            eventually(lambda: is_complete(feed, store), 90, "both go on")
            for each in (frozen, other):
                each.terminate()
            assert other.wait(30) == 0
            frozen.wait(30)
    assert is_complete(feed, store)


@pytest.mark.req("P-03", "P-06")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_that_landed_in_part_when_the_tokens_are_forgotten(
    sinks: Sinks, feed: Feed, store: Store, seed: int
) -> None:
    rnd = random.Random(seed)
    feed.send(rnd.randint(100, 500))
    killed(sinks, feed, "sink.after_intent", rnd.randint(1, 3))
    _land_in_part(sinks.stack, store, rnd)
    feed.send(rnd.randint(100, 500))
    killed(sinks, feed, rnd.choice(("sink.between_inserts", "sink.after_insert")), rnd.randint(1, 3))
    for table in TABLES:
        store.command(f"ALTER TABLE tradetape.{table} MODIFY SETTING non_replicated_deduplication_window = 0")
    try:
        finish(sinks, feed, store)
    finally:
        for table in TABLES:
            store.command(f"ALTER TABLE tradetape.{table} MODIFY SETTING non_replicated_deduplication_window = 10000")


def _land_in_part(stack: settings.Settings, store: Store, rnd: random.Random) -> None:
    """About half of the rows of the pending batches, as an insert leaves them that ClickHouse did not finish."""
    group = {"bootstrap.servers": stack.bootstrap_servers, "group.id": GROUP, "enable.auto.commit": False}
    consumer = Consumer(group)
    number = 0
    for tp in consumer.committed([TopicPartition(topics.AUDITED, n) for n in range(PARTITIONS)], timeout=10):
        intent = intents.read(tp.metadata)
        if intent is None:
            continue
        consumer.assign([TopicPartition(tp.topic, tp.partition, intent.first)])
        bodies: list[bytes] = []
        there = store.stored(STREAMS[tp.topic].sources, tp.partition, 0, 10**9)
        left = intent.rows
        while left:
            for message in consumer.consume(left, 10):
                left -= 1
                position = parse_key(message.key()).position
                if rnd.random() < 0.5 and position not in there and STREAMS[tp.topic].route(message.value()) is EVENTS:
                    bodies.append(message.value()[HEADER.size :])
                    there.add(position)
        if bodies:
            store.insert(EVENTS, output_schema("audited"), bodies, f"part {tp.partition} {intent.sha256}")
            number += len(bodies)
    consumer.close()
    assert number, "nothing was pending"


@pytest.mark.req("P-03", "P-06")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_answers_of_inserts_that_are_lost(sinks: Sinks, feed: Feed, store: Store, seed: int) -> None:
    with Deaf(sinks.stack.clickhouse_url, random.Random(seed)) as deaf:
        through = replace(sinks, stack=replace(sinks.stack, clickhouse_url=deaf.url))
        with through.running() as sink:

            def lost() -> bool:
                feed.send(40)
                return deaf.lost >= 3

            eventually(lost, 90, "answers are lost")
            eventually(lambda: is_complete(feed, store), 90, "all rows are there")
            sink.terminate()
            assert sink.wait(30) == 0
    assert is_complete(feed, store)


@pytest.mark.req("P-03", "P-08")
def test_a_record_that_is_refused_alone_goes_to_quarantine(sinks: Sinks, feed: Feed, store: Store) -> None:
    finish(sinks, feed, store)
    refused = feed.offset + 7
    feed.send(50, refused=refused)
    finish(sinks, feed, store)
    found = store.query("SELECT raw_partition, raw_offset FROM tradetape.quarantine WHERE has(reasons, 'unstorable')")
    assert found == [(1, refused)]
    together = "tradetape.audited-0, tradetape.audited-1, tradetape.audited-2, tradetape.audited-3: refused together"
    assert sinks.log.read_text().count(together) == 1


@pytest.mark.req("N-03", "P-03")
def test_the_ingest_ledger_has_every_record_once(sinks: Sinks, feed: Feed, store: Store) -> None:
    finish(sinks, feed, store)
    consumer = Consumer({"bootstrap.servers": sinks.stack.bootstrap_servers, "group.id": "ends"})
    for topic in (topics.AUDITED, topics.RISK):
        for number in range(PARTITIONS):
            end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            batches = store.query(
                "SELECT first_offset, end_offset, records, length(sha256) FROM tradetape.ingest_ledger FINAL "
                "WHERE topic = {topic:String} AND partition = {number:Int32} ORDER BY first_offset",
                {"topic": topic, "number": number},
            )
            assert [batch[0] for batch in batches] == [0, *(batch[1] for batch in batches[:-1])]
            assert batches[-1][1] == end
            assert all(batch[2] == batch[1] - batch[0] and batch[3] == 64 for batch in batches)
    consumer.close()


@pytest.mark.req("P-03")
def test_a_hole_stops_the_sink_and_nothing_behind_it_is_stored(sinks: Sinks, feed: Feed, store: Store) -> None:
    found = answers(store)
    feed.send(10, skip=1)
    with sinks.running() as sink:
        assert sink.wait(60) == EXIT_HOLE
    assert answers(store) | {"risk": found["risk"]} == found


@pytest.mark.req("P-11", "P-03")
@pytest.mark.timeout(3600)
def test_a_hole_is_judged_again_where_the_raw_records_are_there(sinks: Sinks, feed: Feed, store: Store) -> None:
    producer = Producer({"bootstrap.servers": sinks.stack.bootstrap_servers, "linger.ms": 20})
    for partition in range(PARTITIONS):
        for number in range(feed.offset):
            producer.produce(topics.EVENTS, b"no event %d" % number, partition=partition)
            producer.poll(0)
    producer.flush()
    hole = feed.offset - 11
    with sinks.running() as sink:
        verdicts = PARTITIONS * feed.offset
        # All of them are judged; the more seeds, the more there are.
        seconds = 120 + verdicts / 200
        eventually(lambda: sum(answers(store)[t][0] for t in ("events", "quarantine")) == verdicts, seconds, "all")
        sink.terminate()
        assert sink.wait(30) == 0
    repaired = store.query(
        "SELECT raw, reasons FROM tradetape.quarantine WHERE raw_offset = {hole:Int64} AND disposition = 'rejected'",
        {"hole": hole},
    )
    assert [(row[0], row[1]) for row in repaired] == [(f"no event {hole}", ["undecodable"])] * PARTITIONS
    landed = store.query("SELECT sum(landed) FROM tradetape.ingest_ledger FINAL WHERE sink = 'repair'")
    assert landed == [(PARTITIONS,)]


class Deaf:
    """In front of ClickHouse: one in three inserts arrives, and its answer does not."""

    def __init__(self, url: str, rnd: random.Random) -> None:
        self._target = urlsplit(url)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.lost = 0
        self._random = rnd

    def __enter__(self) -> Deaf:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        assert self._target.hostname is not None
        assert self._target.port is not None
        with client, socket.create_connection((self._target.hostname, self._target.port)) as server:
            is_lost = threading.Event()
            back = threading.Thread(target=self._answer, args=(server, client, is_lost), daemon=True)
            back.start()
            while data := client.recv(1 << 16):
                is_insert = b"INSERT" in data[:2_000] and b"tradetape.ingest_ledger" not in data
                if is_insert and self._random.random() < 1 / 3:
                    is_lost.set()
                server.sendall(data)

    def _answer(self, server: socket.socket, client: socket.socket, is_lost: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if is_lost.is_set():
                    self.lost += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
