"""Seconds from the start of a worker without local state to its first output, by the size of its state."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks import changelog, load, stack
from benchmarks.changelog import Contents
from benchmarks.worker import WORKER
from tradetape.infra import settings
from tradetape.schemas import topics
from tradetape.schemas.registry import Registry

KEYS = (0, 10_000, 100_000)
"""State keys of all partitions together; 0 is what starting costs by itself."""

INSTANCES = 200
CHUNK = 2_000
ROUNDS = 3

Record = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Recovery:
    """The shortest and the longest of ROUNDS starts; ``records`` are those of the changelogs, read on every start."""

    keys: int
    records: int
    seconds: float
    longest: float


def _records(registry: Registry) -> Iterator[Record]:
    encode = load.encoders(registry)
    for event in load.events(10**9, INSTANCES, seed=1):
        yield event["instance_name"].encode(), encode[event["event_type"]].encode(event)


class Worker:
    """A worker on a running stack."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._servers = environment[settings.BOOTSTRAP_SERVERS]
        self._ends = stack.Ends(self._servers)
        self._load = _records(Registry(environment[settings.REGISTRY_URL]))

    def fill(self, keys: int) -> Contents:
        """Judge events until the changelogs hold ``keys`` keys or a few more."""
        found = changelog.contents(self._servers)
        if found.keys >= keys:
            return found
        process = self._start()
        try:
            while found.keys < keys:
                # The first chunk tells how many keys an event brings.
                judged = self._ends.count(topics.EVENTS)
                count = int((keys - found.keys) * judged / found.keys) + 100 if found.keys > CHUNK else CHUNK
                stack.produce(self._servers, list(islice(self._load, count)))
                self._wait(process)
                self._ends.wait_committed(WORKER.group, WORKER.inputs, process)
                found = changelog.contents(self._servers)
        finally:
            stack.stop(process)
        return found

    def recover(self) -> float:
        """Seconds from the start of the process to the verdict on an event that waits for it."""
        shutil.rmtree(Path(self._environment[settings.HOME]) / "worker", ignore_errors=True)
        stack.produce(self._servers, list(islice(self._load, 1)))
        started = time.monotonic()
        process = self._start()
        try:
            self._wait(process)
            took = time.monotonic() - started
            self._ends.wait_committed(WORKER.group, WORKER.inputs, process)
            return took
        finally:
            stack.stop(process)

    def _start(self) -> subprocess.Popen[bytes]:
        return stack.start(WORKER.command, self._environment)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        self._ends.wait(topics.AUDITED, self._ends.count(topics.EVENTS), process, pause=0.01)


def run() -> list[Recovery]:
    """One measurement per number of keys, on one stack whose state grows."""
    found = []
    with stack.running("kafka", "registry") as environment:
        worker = Worker(environment)
        for keys in KEYS:
            filled = worker.fill(keys)
            took = [worker.recover() for _ in range(ROUNDS)]
            found.append(Recovery(filled.keys, filled.records, min(took), max(took)))
    return found
