"""The sink killed with -9 at its crash points, on real Kafka and the real engine: each row once, whatever happens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from tests.sinks import rows
from tests.support import eventually

from tradetape.infra import settings
from tradetape.schemas import topics
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.codec import Encoder
from tradetape.schemas.crashpoints import VARIABLE
from tradetape.schemas.registry import Registry
from tradetape.sinks.store import Store

pytestmark = [pytest.mark.integration, pytest.mark.crash]

POINTS = ("sink.polled", "sink.before_insert", "sink.between_inserts", "sink.after_insert", "sink.after_commit")
PARTITIONS = 4
EXIT_HOLE = 4
TABLES = ("events", "quarantine", "risk")


def tradetape(home: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "tradetape.infra.cli.main", "--home", str(home), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=240)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[settings.Settings]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in settings.ADDRESSES.values():
            patch.delenv(variable, raising=False)
        tradetape(home, "up", "--only", "kafka,registry,clickhouse", "--partitions", str(PARTITIONS))
        try:
            tradetape(home, "schemas", "register")
            yield settings.load(home)
        finally:
            tradetape(home, "down")


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

    def send(self, count: int, skip: int = 0) -> None:
        again = max(0, self.offset - self._random.choice((0, 0, 7, 200)))
        for partition in range(PARTITIONS):
            for offset in range(again if not skip else self.offset + skip, self.offset + skip + count):
                disposition = random.Random(offset).choice(("accepted", "accepted", "duplicate", "rejected"))
                row = rows.audited(offset, partition=partition, disposition=disposition)
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


def start(stack: settings.Settings, crash_at: str = "") -> subprocess.Popen[bytes]:
    addresses = {variable: getattr(stack, name) for name, variable in settings.ADDRESSES.items()}
    # A static member takes its partitions back at once, instead of when the session of the dead one ends.
    env = {**os.environ, **addresses, "TRADETAPE_SINK_ID": "crash-test", VARIABLE: crash_at}
    return subprocess.Popen([sys.executable, "-m", "tradetape.sinks.writer_main"], env=env, stderr=subprocess.DEVNULL)


def answers(store: Store) -> dict[str, tuple[int, int]]:
    position = "raw_partition, raw_offset, derived_seq"
    return {
        table: store.query(f"SELECT count(), uniqExact({position}) FROM tradetape.{table}")[0]  # type: ignore[misc]
        for table in TABLES
    }


@pytest.mark.req("P-03", "P-06")
@pytest.mark.timeout(600)
def test_rows_are_those_of_an_undisturbed_run(stack: settings.Settings) -> None:
    seed = 20261121
    rnd = random.Random(seed)
    feed = Feed(stack, seed)
    store = Store(stack.clickhouse_url)
    for point in (*POINTS, *POINTS):
        feed.send(rnd.randint(300, 1500))
        with start(stack, f"{point}:{rnd.randint(1, 6)}") as sink:

            def ended(process: subprocess.Popen[bytes] = sink) -> bool:
                if process.poll() is None:
                    feed.send(rnd.randint(1, 60))
                return process.poll() is not None

            eventually(ended, 60, f"the sink dies at {point}")
            assert sink.returncode == -signal.SIGKILL
    expected = feed.offset * PARTITIONS
    figures = len(range(0, feed.offset, 3)) * PARTITIONS
    with start(stack) as sink:

        def complete() -> bool:
            found = answers(store)
            return found["events"][0] + found["quarantine"][0] >= expected and found["risk"][0] >= figures

        eventually(complete, 90, f"{expected} rows and {figures} figures are there (seed {seed})")
        sink.terminate()
        assert sink.wait(30) == 0
    found = answers(store)
    assert found["events"][0] + found["quarantine"][0] == expected
    assert found["risk"] == (figures, figures)
    assert all(count == distinct for count, distinct in found.values())
    # A hole: the sink stops with its own exit code, and nothing behind it is stored.
    feed.send(10, skip=1)
    with start(stack) as sink:
        assert sink.wait(60) == EXIT_HOLE
    assert answers(store) | {"risk": (figures, figures)} == found
