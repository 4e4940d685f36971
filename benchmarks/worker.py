"""Worker CPU per event against the bare loop that does the same pure work and writes the same outputs."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import load, stack
from tradetape.schemas import topics
from tradetape.schemas.catalogue import OUTPUTS
from tradetape.schemas.registry import Registry

WARM_UP = 4_000
EVENTS = 40_000
INSTANCES = 200
BUDGET = 1.3


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds and wall seconds for a number of events."""

    name: str
    cpu_us: float
    events_per_second: float


def measure(name: str, command: list[str], environment: dict[str, str], output: str, seed: int) -> Cost:
    """CPU per event of one consumer process, start-up and warm-up left out."""
    servers = environment["TRADETAPE_BOOTSTRAP_SERVERS"]
    encode = load.encoders(Registry(environment["TRADETAPE_REGISTRY_URL"]))
    made = [
        (event["instance_name"].encode(), encode[event["event_type"]].encode(event))
        for event in load.events(WARM_UP + EVENTS, INSTANCES, seed)
    ]
    ends = stack.Ends(servers)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        if name == "bare loop":
            process.stdout.readline()
        else:
            # The worker catches up with what the bare loop was given before it is measured.
            ends.wait(output, ends.count(topics.EVENTS), process)
        before = ends.count(output)
        stack.produce(servers, made[:WARM_UP])
        ends.wait(output, before + WARM_UP, process)
        started, cpu = time.monotonic(), stack.cpu_seconds(process)
        stack.produce(servers, made[WARM_UP:])
        ends.wait(output, before + WARM_UP + EVENTS, process)
        spent, took = stack.cpu_seconds(process) - cpu, time.monotonic() - started
        return Cost(name, spent / EVENTS * 1e6, EVENTS / took)
    finally:
        stack.stop(process)


def run() -> tuple[Cost, Cost]:
    """The worker and the bare loop, the better of two rounds each."""
    with stack.running("kafka", "registry") as environment:
        admin = AdminClient({"bootstrap.servers": environment["TRADETAPE_BOOTSTRAP_SERVERS"]})
        peers = [NewTopic(f"bench.{name}", topics.DEFAULT_PARTITIONS, 1) for name in OUTPUTS]
        for created in admin.create_topics(peers).values():
            created.result(30)
        rounds: list[tuple[Cost, Cost]] = []
        for seed in (1, 2):
            bare = measure(
                "bare loop", [sys.executable, "-m", "benchmarks.bare_loop"], environment, "bench.audited", seed
            )
            worker = measure(
                "worker", [sys.executable, "-m", "tradetape.processors.worker"], environment, topics.AUDITED, seed + 10
            )
            rounds.append((worker, bare))
    return min((r[0] for r in rounds), key=lambda c: c.cpu_us), min((r[1] for r in rounds), key=lambda c: c.cpu_us)
