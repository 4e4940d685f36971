"""Whatever fails wherever, every record reaches Kafka, in order, and no checkpoint runs ahead of it (P-06)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.producers.support import Listed
from tests.producers.tables import Table, connected, in_order_once, positions, table

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.fleet import Pace, run_many
from tradetape.producers.connectors.runner import run
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.connectors.taken import Job, Status
from tradetape.producers.events import Event
from tradetape.schemas.errors import TradetapeError


class Outage(Exception):
    """What a kill looks like to the code: nothing after it runs."""


@dataclass
class Fate:
    """Counts the steps of a run, and fails the one that is its turn. ``lands`` is how much of a queue Kafka took."""

    at: list[int]
    lands: float
    kill: bool
    step: int = 0
    failures: int = 0

    def reach(self) -> bool:
        self.step += 1
        if self.step in self.at:
            self.failures += 1
            return True
        return False

    def check(self) -> None:
        if self.reach():
            raise Outage if self.kill else TradetapeError("away")


@dataclass
class Broker:
    """What Kafka holds, and the furthest position that any checkpoint spoke of, by source."""

    fate: Fate
    log: list[Event] = field(default_factory=list)


class Wire(Listed):
    """A connection that loses what it has not acknowledged when it fails, and is dead from then on.

    Like the idempotent producer: what lands of its queue is the beginning, never something behind a hole.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self.broker = broker
        self.queue: list[Event] = []
        self.dead = False
        self.lock = threading.Lock()

    def emit(self, event: dict[str, Any], event_type_name: str) -> None:
        with self.lock:
            self._check()
            self.queue.append(dict(event))

    def flush(self, timeout: float = 60.0) -> None:
        with self.lock:
            self._check()
            self.broker.log += self.queue
            self.queue = []

    def _check(self) -> None:
        if self.dead:
            raise TradetapeError("Kafka is gone")
        if self.broker.fate.reach():
            self.dead = True
            self.broker.log += self.queue[: int(len(self.queue) * self.broker.fate.lands)]
            raise Outage if self.broker.fate.kill else TradetapeError("Kafka went away")


class Sworn(Checkpoints):
    """Checkpoints that check that Kafka has what they speak of; they fail before or after they are written."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        super().__init__(folder)
        self.broker = broker

    def save(self, source_id: str, state: dict[str, Any]) -> None:
        self.broker.fate.check()
        assert in_order_once(self.broker.log, source_id) == list(range(1, state["position"] + 1))
        super().save(source_id, state)
        self.broker.fate.check()


class Shaky(Table):
    """A store that fails to be polled, before or after it moved on, and to be acknowledged."""

    fate: Fate

    def poll(self, limit: int) -> Sequence[Event]:
        self.fate.check()
        polled = super().poll(limit)
        self.fate.check()
        return polled

    def acknowledge(self) -> None:
        self.fate.check()


FATES = st.builds(
    Fate,
    at=st.lists(st.integers(1, 120), min_size=1, max_size=8, unique=True),
    lands=st.sampled_from([0.0, 0.3, 1.0]),
    kill=st.booleans(),
)
EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)


@pytest.fixture(scope="class")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("stores")
    return [table(folder / f"{name}.db", records) for name, records in (("a", 23), ("b", 7), ("c", 0))]


@pytest.mark.req("P-06")
@EXAMPLES
@given(fate=FATES)
def test_one_source_loses_nothing(fate: Fate, paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    broker = Broker(fate)
    folder = tmp_path_factory.mktemp("one")
    while True:
        kept = Sworn(folder, broker)
        source = Shaky(paths[0], kept.load("a"))
        source.fate = fate
        try:
            run(source, Wire(broker), kept, batch=5)
            break
        except (TradetapeError, Outage):
            continue
        finally:
            source.close()
    assert in_order_once(broker.log, "a") == list(range(1, 24))
    assert any(event["event_id"] == "the end" for event in broker.log)
    assert len(positions(broker.log, "a")) <= 23 + 5 * fate.failures


@pytest.mark.req("P-06")
@EXAMPLES
@given(fate=FATES)
def test_many_sources_lose_nothing_and_need_nobody(
    fate: Fate, paths: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    fate.kill = False  # of a process with threads: the crash tests of the connectors
    broker = Broker(fate)
    kept = Sworn(tmp_path_factory.mktemp("many"), broker)
    stop = threading.Event()

    def opened(path: Path) -> Job:
        def open_it(checkpoints: Checkpoints) -> Shaky:
            source = Shaky(path, checkpoints.load(path.stem))
            source.fate = fate
            return source

        return Job(path.stem, open_it)

    def reported(_statuses: Sequence[Status]) -> None:
        if all(kept.load(name) == {"position": n, "ended": False} for name, n in (("a", 23), ("b", 7))):
            stop.set()

    def waited(_seconds: float) -> None:
        reported(())

    now = iter(range(10**9))
    results = run_many(
        [opened(path) for path in paths],
        lambda: connected(Wire(broker), kept),
        follow=True,
        stop=stop,
        pace=Pace(batch=5, round=2, interval=0.0, report_every=5.0),
        on_report=reported,
        clock=lambda: float(next(now)),
        wait=waited,
    )
    assert all(isinstance(result, Summary) for result in results)
    assert in_order_once(broker.log, "a") == list(range(1, 24))
    assert in_order_once(broker.log, "b") == list(range(1, 8))
