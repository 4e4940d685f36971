"""What ``Recorder.record`` costs the bot: its own thread's time with a spool, Kafka there and Kafka stopped.

The peer is what a bot without us would do for its own log: ``json.dumps`` of the same event and one write to a file.
Events come at a pace, so that the drain has time to work beside them, and to be in their way: 2,000 a second, far more
than bots do, and 100 a second, a busy bot. At 100 a second the processor's caches are cold for whatever runs then, so
compare with the peer at the same pace. The last SPIN_SECONDS before an event are spun for and not slept for: waking up
is no cost of recording.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import stack
from tradetape.infra import settings
from tradetape.producers.recorder import Recorder
from tradetape.producers.spool import PatientEmitter, Spool

WARM_UP = 1_000
SPIN_SECONDS = 0.001
ROUNDS = 2
BUDGET_US = 25.0
"""Of the median, in the caller's thread."""

DRAIN_EVENTS = 5_000
DRAIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How many events are measured, at how many a second."""

    events: int
    per_second: int


FAST, BUSY = Pace(6_000, 2_000), Pace(500, 100)


@dataclass(frozen=True, slots=True)
class Emitting:
    """Microseconds in the caller's thread for one event: wall time by quantile, and CPU on average."""

    name: str
    p50: float
    p99: float
    p999: float
    cpu: float
    drained_per_second: float | None = None


def measure(what: str, record: Callable[[int], object], pace: Pace) -> Emitting:
    """Call ``record`` at ``pace``."""
    took: list[int] = []
    cpu = 0
    gc.collect()
    for number in range(pace.events):
        due = time.perf_counter() + 1 / pace.per_second
        cpu_began, began = time.thread_time_ns(), time.perf_counter_ns()
        record(number)
        took.append(time.perf_counter_ns() - began)
        cpu += time.thread_time_ns() - cpu_began
        _await(due)
    took.sort()
    p50, p99, p999 = (took[int(pace.events * quantile)] / 1000 for quantile in (0.5, 0.99, 0.999))
    return Emitting(f"{what}, {pace.per_second:,}/s", p50, p99, p999, cpu / pace.events / 1000)


def _await(due: float) -> None:
    left = due - time.perf_counter()
    if left > SPIN_SECONDS:
        time.sleep(left - SPIN_SECONDS)
    while time.perf_counter() < due:
        pass


def recorded(what: str, where: tuple[str, str], pace: Pace, *, up: bool) -> Emitting:
    """A bot with a spool that drains to ``where``; where Kafka is ``up``, how fast it then empties too."""
    with tempfile.TemporaryDirectory(prefix="tradetape-bench-") as folder:
        spool = Spool(Path(folder))
        spool.start(partial(PatientEmitter, *where))
        recorder = Recorder(
            instance_name="bot", producer="bench", connector_name="kucoin", trading_pair="BTC-USDT", spool=spool
        )

        def record(number: int) -> None:
            recorder.order_created(
                client_order_id=f"order-{number}",
                side="buy",
                order_type="limit",
                price="27000.5",
                amount_base="0.01",
                is_live=True,
            )

        try:
            _warm_up(record)
            if not up:
                return measure(what, record, pace)
            recorder.flush(DRAIN_SECONDS)
            found = measure(what, record, pace)
            recorder.flush(DRAIN_SECONDS)
            return replace(found, drained_per_second=_drain_rate(record, recorder))
        finally:
            spool.close(0)


def _warm_up(record: Callable[[int], object]) -> None:
    for number in range(WARM_UP):
        record(number)


def _drain_rate(record: Callable[[int], object], recorder: Recorder) -> float:
    for number in range(DRAIN_EVENTS):
        record(number)
    began = time.monotonic()
    recorder.flush(DRAIN_SECONDS)
    return DRAIN_EVENTS / (time.monotonic() - began)


def logged(pace: Pace) -> Emitting:
    """The peer: the same event as a line of the bot's own log."""
    with tempfile.TemporaryDirectory(prefix="tradetape-bench-") as folder:
        descriptor = os.open(Path(folder) / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def record(number: int) -> None:
            line = {
                "event_type": "order_created",
                "ts": time.time_ns(),
                "instance_name": "bot",
                "connector_name": "kucoin",
                "trading_pair": "BTC-USDT",
                "client_order_id": f"order-{number}",
                "side": "buy",
                "order_type": "limit",
                "price": "27000.5",
                "amount_base": "0.01",
                "is_live": True,
            }
            os.write(descriptor, json.dumps(line).encode() + b"\n")

        try:
            _warm_up(record)
            return measure("json.dumps and write", record, pace)
        finally:
            os.close(descriptor)


def run() -> list[Emitting]:
    """The best of ROUNDS rounds of each, by median."""
    logs: dict[Pace, list[Emitting]] = {FAST: [], BUSY: []}
    up: dict[Pace, list[Emitting]] = {FAST: [], BUSY: []}
    down = []
    with stack.running("kafka", "registry") as environment:
        where = (environment[settings.BOOTSTRAP_SERVERS], environment[settings.REGISTRY_URL])
        for pace in (FAST, BUSY) * ROUNDS:
            logs[pace].append(logged(pace))
            up[pace].append(recorded("record(), Kafka there", where, pace, up=True))
    for _ in range(ROUNDS):
        down.append(recorded("record(), all stopped", where, FAST, up=False))
    rounds = (logs[FAST], down, up[FAST], logs[BUSY], up[BUSY])
    return [min(found, key=lambda one: one.p50) for found in rounds]
