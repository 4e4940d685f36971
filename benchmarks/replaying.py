"""Events a second of ``tradetape verify`` and ``tradetape replay``, from the store and from the topic.

The record is one of orders (``load``), judged by a worker and stored by a sink, which are idle while it is folded
again. What is timed is what the commands call, without the start of Python; the run fails unless everything agrees.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, stack
from benchmarks.sink import ClickHouse
from tradetape.infra import completeness, replay, settings, verification
from tradetape.schemas.registry import Registry

EVENTS = 20_000
INSTANCES = 200
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Folding:
    """One command: rows compared; events per wall second, CPU µs per event here and in ClickHouse."""

    name: str
    events: int
    rows: int
    per_second: float
    cpu_us: float
    clickhouse_us: float


def run() -> list[Folding]:
    """Each command on the same record."""
    with stack.running("kafka", "registry", "clickhouse", "worker", "sink") as environment:
        servers = environment[settings.BOOTSTRAP_SERVERS]
        clickhouse = ClickHouse(environment)
        records = load.records(Registry(environment[settings.REGISTRY_URL]), EVENTS, INSTANCES, seed=1)
        stack.produce(servers, records)
        missing = completeness.wait_until_stored(clickhouse.store, servers, 2 * stack.PATIENCE)
        if missing:
            raise stack.Stalled(f"{missing} events are not stored")
        clickhouse.settle()
        found = settings.load(Path(environment[settings.HOME]))
        commands: dict[str, Callable[[], int]] = {
            "replay --from-topic": lambda: _replay(found, from_topic=True),
            "replay --from-store": lambda: _replay(found, from_topic=False),
            "verify": lambda: _verify(found),
        }
        return [_measure(name, command, clickhouse) for name, command in commands.items()]


def _measure(name: str, command: Callable[[], int], clickhouse: ClickHouse) -> Folding:
    rounds = []
    for _ in range(ROUNDS):
        server, cpu, wall = clickhouse.cpu_seconds(), time.process_time(), time.monotonic()
        rows = command()
        took, spent = time.monotonic() - wall, time.process_time() - cpu
        server_us = (clickhouse.cpu_seconds() - server) / EVENTS * 1e6
        rounds.append(Folding(name, EVENTS, rows, EVENTS / took, spent / EVENTS * 1e6, server_us))
    return min(rounds, key=lambda one: one.cpu_us)


def _replay(found: settings.Settings, *, from_topic: bool) -> int:
    outcomes = replay.run(found, from_topic=from_topic, partitions=(), on_progress=lambda *_: None)
    if not all(outcome.agrees for outcome in outcomes):
        raise RuntimeError(f"replay differs: {outcomes}")
    return sum(outcome.equal for outcome in outcomes)


def _verify(found: settings.Settings) -> int:
    verdict = verification.run(found, partitions=(), on_progress=lambda *_: None)
    if not verdict.agrees:
        raise RuntimeError(f"verify differs: {list(verdict.differences())}")
    return verdict.equal
