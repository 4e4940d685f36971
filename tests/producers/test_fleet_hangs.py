"""A store that does not answer holds up its own source, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.producers.support import Listed
from tests.producers.tables import Table, connected, job, positions, table
from tests.support import eventually

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.fleet import Kafka, Pace, run_many
from tradetape.producers.connectors.source import Lag
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.connectors.taken import Job, Status
from tradetape.producers.events import Event
from tradetape.schemas.errors import TradetapeError

QUICK = Pace(interval=0.02, report_every=0.05, patience=0.2, grace=0.5)


@dataclass
class Server:
    """Hangs in the calls named by ``hangs`` until ``answers`` is set; counts who is in it, and how often it was met."""

    hangs: set[str] = field(default_factory=set)
    answers: threading.Event = field(default_factory=threading.Event)
    inside: int = 0
    most: int = 0
    calls: list[str] = field(default_factory=list)

    def reach(self, call: str) -> None:
        self.calls.append(call)
        self.inside += 1
        self.most = max(self.most, self.inside)
        if call in self.hangs:
            assert self.answers.wait(60)
        self.inside -= 1


class Hanging(Table):
    """A table behind a server that may hang in any call."""

    def __init__(self, server: Server, path: Path, saved: dict[str, Any] | None) -> None:
        self.server = server
        server.reach("open")
        super().__init__(path, saved)

    def poll(self, limit: int) -> Sequence[Event]:
        self.server.reach("poll")
        return super().poll(limit)

    def lag(self) -> Lag:
        self.server.reach("lag")
        return super().lag()

    def acknowledge(self) -> None:
        self.server.reach("acknowledge")
        super().acknowledge()

    def close(self) -> None:
        self.server.reach("close")
        super().close()


@dataclass
class Running:
    """``run_many`` over ``slow`` (which hangs) and ``fast``, following, on a thread of its own."""

    server: Server
    slow: Path
    fast: Path
    checkpoints: Checkpoints
    connect: Callable[[], Any]
    stop: threading.Event = field(default_factory=threading.Event)
    warnings: list[str] = field(default_factory=list)
    reports: list[dict[str, Status]] = field(default_factory=list)
    results: list[Summary | TradetapeError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        slow = Job("slow", lambda kept: Hanging(self.server, self.slow, kept.load("slow")))
        self.results += run_many(
            [slow, job(self.fast)],
            self.connect,
            follow=True,
            stop=self.stop,
            pace=QUICK,
            on_report=lambda seen: self.reports.append({status.name: status for status in seen}),
            on_warning=self.warnings.append,
        )

    def state(self) -> str:
        return self.reports[-1]["slow"].state if self.reports else ""

    def end(self) -> None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    return table(tmp_path / "slow.db", 3), table(tmp_path / "fast.db", 3)


@pytest.mark.req("P-08")
@pytest.mark.parametrize("call", ["open", "poll", "acknowledge", "lag"])
def test_the_others_go_on_and_it_joins_them_where_it_was(
    call: str, tables: tuple[Path, Path], checkpoints: Checkpoints
) -> None:
    emitter, server = Listed(), Server({call})
    running = Running(server, *tables, checkpoints, lambda: connected(emitter, checkpoints))
    eventually(lambda: running.state() == "away", 20, "it is told as away")
    told = len(running.reports)
    for more in range(3):
        table(tables[1], 1, first=False)
        eventually(lambda n=4 + more: checkpoints.load("fast") == {"position": n, "ended": False}, 20, "fast goes on")
    eventually(lambda: len(running.reports) > told + 2, 20, "reports go on")
    assert running.state() == "away"
    assert running.warnings == [
        "slow is at work for more than 0.2 s; its store hangs or is slow; it goes on where it is when the store answers"
    ]
    server.hangs.clear()
    server.answers.set()
    table(tables[0], 2, first=False)
    eventually(lambda: running.state() == "following" and len(positions(emitter.acknowledged, "slow")) == 5)
    running.end()
    assert positions(emitter.acknowledged, "slow") == [1, 2, 3, 4, 5]
    assert positions(emitter.acknowledged, "fast") == [1, 2, 3, 4, 5, 6]
    assert checkpoints.load("slow") == {"position": 5, "ended": False}
    assert server.most == 1
    assert server.calls.count("open") == server.calls.count("close") == 1
    assert len(running.warnings) == 1


@pytest.mark.req("P-08")
def test_a_stop_does_not_wait_for_it(tables: tuple[Path, Path], checkpoints: Checkpoints) -> None:
    emitter, server = Listed(), Server({"poll"})
    running = Running(server, *tables, checkpoints, lambda: connected(emitter, checkpoints))
    eventually(lambda: running.state() == "away")
    before = time.monotonic()
    running.end()
    assert time.monotonic() - before < QUICK.grace + 1.5
    assert len(running.results) == 2
    server.answers.set()
    eventually(lambda: server.calls == ["open", "poll", "close"], 20, "it is let go when its call comes back")
    assert positions(emitter.events, "slow") == []  # nobody would wait for Kafka to have them


@pytest.mark.req("P-06", "P-08")
def test_kafka_away_meanwhile_means_opened_again_once_it_is_back(
    tables: tuple[Path, Path], checkpoints: Checkpoints
) -> None:
    server = Server({"poll"})
    connections: list[Listed] = []

    @contextmanager
    def connect() -> Iterator[Kafka]:
        connections.append(Listed(fail_after=None if connections else 4))
        yield Kafka(connections[-1], checkpoints)

    running = Running(server, *tables, checkpoints, connect)
    eventually(lambda: running.state() == "away")
    table(tables[1], 3, first=False)  # the fifth event does not get through
    eventually(lambda: checkpoints.load("fast") == {"position": 6, "ended": False}, 20, "fast goes on")
    assert len(connections) == 2
    assert server.calls == ["open", "poll"]
    server.hangs.clear()
    server.answers.set()
    eventually(lambda: positions(connections[1].acknowledged, "slow") == [1, 2, 3], 20, "slow is back")
    running.end()
    assert positions(connections[0].events, "slow") == []
    assert server.calls[:5] == ["open", "poll", "close", "open", "poll"]
    assert server.most == 1


@pytest.mark.req("P-08")
def test_taken_in_to_its_end_it_is_waited_for(tables: tuple[Path, Path], checkpoints: Checkpoints) -> None:
    emitter, server = Listed(), Server({"poll"})
    warnings: list[str] = []

    def warned(text: str) -> None:
        warnings.append(text)
        server.hangs.clear()
        server.answers.set()

    results = run_many(
        [Job("slow", lambda kept: Hanging(server, tables[0], kept.load("slow"))), job(tables[1])],
        lambda: connected(emitter, checkpoints),
        follow=False,
        stop=threading.Event(),
        pace=QUICK,
        on_warning=warned,
    )
    assert len(warnings) == 1
    assert all(isinstance(result, Summary) and result.sent == 4 for result in results)
    assert checkpoints.load("slow") == {"position": 3, "ended": True}
