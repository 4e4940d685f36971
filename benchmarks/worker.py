"""Worker CPU per event against peers that do the same pure work and write the same outputs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from benchmarks import load, quix_environment, stack
from benchmarks.judging import peer_topic
from tradetape.infra import settings
from tradetape.schemas import topics
from tradetape.schemas.catalogue import OUTPUTS
from tradetape.schemas.registry import Registry

WARM_UP = 3_000
EVENTS = 20_000
FAUST_EVENTS = 1_500
AGREEING = 400
"""Events that all sides judge from the log's start, for their outputs to be compared."""

INSTANCES = 200
ROUNDS = 2
BUDGET = 1.3
QUIX_BUDGET = 3.0


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that are compared.

    ``inputs`` are what its group commits, in the order of the flow. One that ``joins`` is assigned its partitions by
    the group; one that ``skips`` can go on at the log's end, past events that others were measured with.
    """

    name: str
    command: Sequence[str]
    group: str
    inputs: Sequence[str]
    outputs: Mapping[str, str]
    events: int = EVENTS
    warm_up: int = WARM_UP
    rounds: int = ROUNDS
    joins: bool = True
    skips: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds per event, and events per wall second."""

    name: str
    cpu_us: float
    events_per_second: float


WORKER = Side(
    "worker",
    (sys.executable, "-m", "tradetape.processors.worker"),
    "tradetape-worker",
    (topics.EVENTS, topics.PORTFOLIO),
    {name: topics.of_output(name) for name in OUTPUTS},
    skips=False,  # an event that is missing stops it
)


def sides() -> list[Side]:
    """The worker and its peers. Raises TradetapeError where Quix Streams cannot be installed."""
    quix = str(quix_environment.python())
    return [
        WORKER,
        replace(
            _peer("bare", "bare loop", (sys.executable, "-m", "benchmarks.bare_loop")),
            inputs=(topics.EVENTS,),
            joins=False,
        ),
        replace(_peer("quix", "Quix Streams", (quix, "-m", "benchmarks.quix")), variables=quix_environment.variables()),
        replace(
            _peer("faust", "vanilla Faust", (sys.executable, "-m", "benchmarks.vanilla_faust")),
            events=FAUST_EVENTS,
            warm_up=WARM_UP // 8,
            rounds=1,
        ),
    ]


def _peer(peer: str, name: str, command: Sequence[str]) -> Side:
    outputs = {output: peer_topic(peer, output) for output in OUTPUTS}
    return Side(name, command, f"bench-{peer}", (topics.EVENTS, outputs["portfolio"]), outputs)


class Bench:
    """A running stack with the sides on it, one after the other."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._servers = environment[settings.BOOTSTRAP_SERVERS]
        self._registry = Registry(environment[settings.REGISTRY_URL])
        self._ends = stack.Ends(self._servers)

    def agree(self, compared: Sequence[Side]) -> None:
        """Let every side judge the same events. Raises RuntimeError unless their outputs are the same.

        The first side is there before the events, the others find them. Figures of portfolios follow from the order in
        which deltas of several partitions arrived: they are counted.
        """
        for side in compared:
            process = self._start(side)
            try:
                if side.joins:
                    stack.wait_joined(self._servers, side.group, process)
                if side is compared[0]:
                    stack.produce(self._servers, load.records(self._registry, AGREEING, INSTANCES, seed=99))
                self._done(side, AGREEING, process)
            finally:
                stack.stop(process)
        for name in OUTPUTS:
            made = {side.name: self._values(side.outputs[name]) for side in compared}
            first, *others = made.values()
            if any(len(one) != len(first) or (name != "portfolios" and one != first) for one in others):
                counts = {side: len(values) for side, values in made.items()}
                raise RuntimeError(f"the sides do not send the same {name}: {counts}")

    def measure(self, side: Side, seed: int) -> Cost:
        """CPU per event of ``side``, start-up and warm-up left out, what follows from the last event included."""
        made = load.records(self._registry, side.warm_up + side.events, INSTANCES, seed)
        if side.skips:
            self._ends.skip(side.group, side.inputs)
        audited = side.outputs["audited"]
        process = self._start(side)
        try:
            if side.joins:
                stack.wait_joined(self._servers, side.group, process)
            if not side.skips:
                self._done(side, self._ends.count(topics.EVENTS), process)
            before = self._ends.count(audited)
            stack.produce(self._servers, made[: side.warm_up])
            self._done(side, before + side.warm_up, process)
            alone, figures = self._members(side), self._ends.count(side.outputs["risk"])
            started, cpu = time.monotonic(), stack.cpu_seconds(process)
            stack.produce(self._servers, made[side.warm_up :])
            self._ends.wait(audited, before + len(made), process)
            took = time.monotonic() - started
            self._done(side, before + len(made), process)
            spent = stack.cpu_seconds(process) - cpu
            if self._members(side) != alone or len(alone) != side.joins:
                raise stack.Stalled(f"{side.name}: the members of {side.group} changed while it was measured")
            if self._ends.count(side.outputs["risk"]) - figures < side.events / 2:
                raise stack.Stalled(f"{side.name}: few of the events measured changed a figure; were they repeats?")
            return Cost(side.name, spent / side.events * 1e6, side.events / took)
        finally:
            stack.stop(process)

    def _start(self, side: Side) -> subprocess.Popen[bytes]:
        return stack.start(side.command, self._environment, **side.variables)

    def _done(self, side: Side, audited: int, process: subprocess.Popen[bytes]) -> None:
        """Return when ``side`` has sent ``audited`` verdicts and committed all it reads."""
        self._ends.wait(side.outputs["audited"], audited, process)
        self._ends.wait_committed(side.group, side.inputs, process)

    def _members(self, side: Side) -> frozenset[str]:
        return stack.members(self._servers, side.group) if side.joins else frozenset()

    def _values(self, topic: str) -> list[bytes]:
        return sorted(message.value() for message in stack.read(self._servers, topic))


def run() -> dict[str, list[Cost]]:
    """The rounds of each side, by its name, the cheapest first."""
    compared = sides()
    found: dict[str, list[Cost]] = {side.name: [] for side in compared}
    with stack.running("kafka", "registry") as environment:
        peers = [topic for side in compared if side is not WORKER for topic in side.outputs.values()]
        stack.create_topics(environment[settings.BOOTSTRAP_SERVERS], peers)
        bench = Bench(environment)
        bench.agree(compared[::-1])  # Faust first: it may lose what is there before it is
        # Every measurement has events of its own: the worker also judges what its peers were measured with, and
        # events that came before are duplicates, which cost it a fraction.
        seeds = count(1)
        for number in range(ROUNDS):
            for side in compared if number % 2 == 0 else reversed(compared):
                if number < side.rounds:
                    found[side.name].append(bench.measure(side, next(seeds)))
    return {name: sorted(costs, key=lambda cost: cost.cpu_us) for name, costs in found.items()}
