"""The worker with 10, 200 and 10,000 instances: CPU and changelog per event, and the state they come to."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import changelog, load, stack
from benchmarks.worker import WORKER
from tradetape.infra import settings
from tradetape.schemas import topics
from tradetape.schemas.registry import Registry

COUNTS = (10, 200, 10_000)
MIDDLE = 200
WARM_UP = 30_000
"""Most of 10,000 instances have been heard of after these."""

EVENTS = 10_000
ROUNDS = 2
SINGLE = 200
"""Events sent one by one, each after the worker committed the one before: the smallest batches there can be."""

FLAT = 0.15
CHANGELOG_BUDGET = 400.0


@dataclass(frozen=True, slots=True)
class Growth:
    """Of ``instances``: CPU and changelog per event; state after all events. ``stored`` is what Kafka keeps, lz4."""

    instances: int
    cpu_us: float
    records: float
    written: float
    stored: float
    keys: int
    state_bytes: int
    single_written: float | None = None


def measure(instances: int, *, single: bool) -> Growth:
    """A stack of its own, so that the state is that of ``instances`` and no others."""
    with stack.running("kafka", "registry") as environment:
        servers = environment[settings.BOOTSTRAP_SERVERS]
        count = WARM_UP + ROUNDS * EVENTS
        made = load.records(Registry(environment[settings.REGISTRY_URL]), count + SINGLE, instances, seed=1)
        ends = stack.Ends(servers)
        process = stack.start(WORKER.command, environment)

        def take(start: int, end: int) -> None:
            stack.produce(servers, made[start:end])
            ends.wait(topics.AUDITED, end, process)
            ends.wait_committed(WORKER.group, WORKER.inputs, process)

        try:
            take(0, WARM_UP)
            since, stored = changelog.ends(servers), stack.stored_bytes(environment, changelog.TOPICS)
            spent = []
            for start in range(WARM_UP, count, EVENTS):
                cpu = stack.cpu_seconds(process)
                take(start, start + EVENTS)
                spent.append(stack.cpu_seconds(process) - cpu)
            found = changelog.contents(servers, since)
            stored = stack.stored_bytes(environment, changelog.TOPICS) - stored
            single_written = None
            if single:
                since = changelog.ends(servers)
                for number in range(count, count + SINGLE):
                    stack.produce(servers, made[number : number + 1])
                    ends.wait(topics.AUDITED, number + 1, process, pause=0.01)
                ends.wait_committed(WORKER.group, WORKER.inputs, process)
                single_written = changelog.contents(servers, since).written / SINGLE
        finally:
            stack.stop(process)
    events = ROUNDS * EVENTS
    return Growth(
        instances,
        min(spent) / EVENTS * 1e6,
        found.records / events,
        found.written / events,
        stored / events,
        found.keys,
        found.state_bytes,
        single_written,
    )


def run() -> list[Growth]:
    """One measurement per count of instances, with the same number of events."""
    return [measure(count, single=count == MIDDLE) for count in COUNTS]
