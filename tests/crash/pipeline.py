"""A stack of a test's own with a worker and a sink that die on command, and a producer that remembers its receipts."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from tests.forks import CLI, Forks, Process
from tests.support import eventually

from tradetape.infra import settings
from tradetape.infra.embedded import processes, status
from tradetape.schemas import topics
from tradetape.schemas.crashpoints import VARIABLE
from tradetape.schemas.registry import Registry, register_all
from tradetape.sinks.store import Store

WORKER, SINK = "tradetape.processors.worker", "tradetape.sinks.writer_main"
BRIDGE, READER, BOT = "tradetape.producers.bridge.main", "tests.crash.reading", "tests.crash.bot"

KILLED = -signal.SIGKILL

START_SECONDS = 180.0
LAST_WORDS = 3_000
"""Characters of a log in a message."""

RESTART_PAUSE = 0.3
"""Seconds before the restart of a process that ended by itself."""

Keyed = tuple[bytes, bytes]


def pause(seconds: float) -> None:
    """Let the processes work for a moment."""
    threading.Event().wait(seconds)


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a process: the crash point under which it ran (empty: none), whether the test killed it, its code."""

    point: str
    by_test: bool
    code: int

    @property
    def at_point(self) -> bool:
        """It died where it was told to."""
        return bool(self.point) and not self.by_test and self.code == KILLED

    @property
    def is_kill(self) -> bool:
        return self.code == KILLED


class Victim:
    """A process that is started again whenever it ends, each time under the next planned crash point."""

    def __init__(self, name: str, module: str, env: Mapping[str, str], log: Path, forks: Forks) -> None:
        self.name = name
        self.deaths: list[Death] = []
        self._module = module
        self._forks = forks
        self._env = dict(env)
        self._log = log
        self._plan: deque[str] = deque()
        self._stopping = False
        self._by_test = False
        self._lock = threading.Lock()
        self._process = self._spawn("")
        self._point = ""
        self._thread = threading.Thread(target=self._keep_running, name=name, daemon=True)
        self._thread.start()

    def kill(self, points: Sequence[str] = ()) -> None:
        """SIGKILL it now; it comes back to die at each of ``points`` in turn, and then to live."""
        with self._lock:
            self._plan = deque(points)
            if self._process.poll() is None:
                self._by_test = True
                self._process.kill()

    def has_died_as_planned(self) -> bool:
        """It runs, and no crash point is left."""
        with self._lock:
            return not self._plan and not self._point and self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM; returns its exit code."""
        self._stopping = True
        with self._lock:
            self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._thread.join(10)

    def log_text(self) -> str:
        """What it wrote since it was first started."""
        return self._log.read_bytes().decode("utf-8", "replace")

    def _keep_running(self) -> None:
        while True:
            code = self._process.wait()
            with self._lock:
                if self._stopping:
                    return
                self.deaths.append(Death(self._point, self._by_test, code))
            if code != KILLED:
                pause(RESTART_PAUSE)
            with self._lock:
                if self._stopping:
                    return
                self._by_test = False
                self._point = self._plan.popleft() if self._plan else ""
                self._process = self._spawn(self._point)

    def _spawn(self, point: str) -> Process:
        return self._forks.start(self._module, (), {**self._env, VARIABLE: point} if point else self._env, self._log)


@dataclass(slots=True)
class Sender:
    """An idempotent producer on ``tradetape.events``; ``acknowledged`` is what Kafka confirmed, by place."""

    bootstrap_servers: str
    acknowledged: dict[tuple[int, int], bytes] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    sent: int = 0
    _producer: Any = None

    def __post_init__(self) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "message.timeout.ms": 120_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    def send(self, records: Iterable[Keyed]) -> None:
        """Queue ``records`` in their order."""
        for key, value in records:
            self._producer.produce(topics.EVENTS, key=key, value=value, on_delivery=self._delivered)
            self.sent += 1
        self._producer.poll(0)

    def flush(self) -> None:
        """Return when Kafka acknowledged everything."""
        assert self._producer.flush(120) == 0
        assert self.failures == []
        assert len(self.acknowledged) == self.sent, "two records acknowledged at one place"

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failures.append(str(error))
            return
        self.acknowledged[message.partition(), message.offset()] = message.value() or b""


class Pipeline:
    """Kafka, registry and ClickHouse under the stack's own supervisor; worker and sink under the test's."""

    def __init__(self, home: Path, forks: Forks) -> None:
        self.home = home
        self.forks = forks
        found = settings.load(home)
        self.bootstrap_servers = found.bootstrap_servers
        self.registry = Registry(found.registry_url)
        self.store = Store(found.clickhouse_url)
        self.env = {
            **os.environ,
            settings.HOME: str(home),
            settings.BOOTSTRAP_SERVERS: found.bootstrap_servers,
            settings.REGISTRY_URL: found.registry_url,
            settings.CLICKHOUSE_URL: found.clickhouse_url,
            "PYTHONUNBUFFERED": "1",
        }
        self.env.pop(VARIABLE, None)
        logs = home / "logs"
        self._ready = home / "run" / "crash-worker.ready"
        worker = {**self.env, "TRADETAPE_READY_FILE": str(self._ready)}
        self.worker = Victim("worker", WORKER, worker, logs / "crash-worker.log", forks)
        self.sink = Victim("sink", SINK, {**self.env, "TRADETAPE_SINK_ID": "sink-1"}, logs / "crash-sink.log", forks)

    @property
    def victims(self) -> tuple[Victim, Victim]:
        return self.worker, self.sink

    def kill_server(self, name: str) -> None:
        """SIGKILL a server of the stack, and return when its supervisor has seen it."""
        before = self._server(name)
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        eventually(lambda: self._server(name).restarts > before.restarts, 20, f"the supervisor sees {name} die")

    def wait_healthy(self) -> None:
        """Return when every server answers."""
        eventually(lambda: {c.state for c in status.read(self.home)} == {status.HEALTHY}, 90, "the servers are back")

    def wait_ready(self) -> None:
        """Return when a worker that starts after this call has its partitions."""
        self._ready.unlink(missing_ok=True)
        eventually(self._ready.exists, 60, "the worker is ready")

    def _server(self, name: str) -> status.ComponentStatus:
        found = [component for component in status.read(self.home) if component.name == name]
        assert found, f"no status of {name}"
        return found[0]

    def diagnosis(self) -> str:
        """How the processes died so far, and their last words."""
        texts = []
        for victim in self.victims:
            ends = [death for death in victim.deaths if not death.is_kill]
            words = victim.log_text()[-LAST_WORDS:]
            texts.append(f"{victim.name}: {len(victim.deaths)} deaths, not killed: {ends}\n{words}")
        return "\n".join(texts)


def tradetape(forks: Forks, home: Path, *arguments: str) -> None:
    """Run a command on ``home``, wherever other stacks are."""
    env = {key: value for key, value in os.environ.items() if key not in {*settings.ADDRESSES.values(), VARIABLE}}
    done = forks.run(CLI, ("--home", str(home), *arguments), env, seconds=START_SECONDS)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@contextmanager
def running(home: Path, forks: Forks) -> Iterator[Pipeline]:
    """A pipeline in ``home``; nothing of it runs afterwards."""
    tradetape(forks, home, "up", "--only", "kafka,registry,clickhouse")
    try:
        refused = [state for state in register_all(Registry(settings.load(home).registry_url)) if state.problems]
        assert refused == []
        pipeline = Pipeline(home, forks)
        try:
            yield pipeline
        finally:
            codes = [victim.stop() for victim in pipeline.victims]
    finally:
        tradetape(forks, home, "down")
    assert set(codes) <= {0, -signal.SIGTERM}, pipeline.diagnosis()
    assert processes.leftovers(home) == []


def random_moment(rng: random.Random, longest: float) -> None:
    """Wait a seeded while, at most ``longest`` seconds."""
    pause(rng.random() * longest)
