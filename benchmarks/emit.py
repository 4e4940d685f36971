"""What ``Recorder.record`` costs the bot: its own thread's time with a spool, Kafka there and Kafka stopped.

The peer is what a bot without us would do for its own log: ``json.dumps`` of the same event and one write to a file.
Events come at a bot's pace, one each PACE_SECONDS, spun for and not slept for: a sleep would measure cold caches. So
the drain has time to work beside them, and to be in their way.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import stack
from tradetape.infra import settings
from tradetape.producers.recorder import Recorder
from tradetape.producers.spool import PatientEmitter, Spool

EVENTS = 10_000
WARM_UP = 1_000
PACE_SECONDS = 0.0005
ROUNDS = 2
BUDGET_US = 25.0
"""Of the median, in the caller's thread."""

DRAIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Emitting:
    """Microseconds in the caller's thread for one event: wall time by quantile, and CPU on average."""

    name: str
    p50: float
    p99: float
    p999: float
    cpu: float
    drained_per_second: float | None = None


def measure(name: str, record: Callable[[int], object]) -> Emitting:
    """Call ``record`` EVENTS times at the pace."""
    for number in range(WARM_UP):
        record(number)
    took: list[int] = []
    cpu = 0
    gc.collect()
    for number in range(EVENTS):
        due = time.perf_counter_ns() + int(PACE_SECONDS * 1e9)
        cpu_began, began = time.thread_time_ns(), time.perf_counter_ns()
        record(number)
        took.append(time.perf_counter_ns() - began)
        cpu += time.thread_time_ns() - cpu_began
        while time.perf_counter_ns() < due:
            pass
    took.sort()
    p50, p99, p999 = (took[int(EVENTS * quantile)] / 1000 for quantile in (0.5, 0.99, 0.999))
    return Emitting(name, p50, p99, p999, cpu / EVENTS / 1000)


def recorded(name: str, where: tuple[str, str], *, drain: bool) -> Emitting:
    """A bot with a spool that drains to ``where``; with ``drain``, how fast it then empties."""
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
            if drain:
                record(0)
                recorder.flush(DRAIN_SECONDS)
            found = measure(name, record)
            if not drain:
                return found
            recorder.flush(DRAIN_SECONDS)
            return Emitting(
                name, found.p50, found.p99, found.p999, found.cpu, drained_per_second=_drain_rate(record, recorder)
            )
        finally:
            spool.close(0)


def _drain_rate(record: Callable[[int], object], recorder: Recorder) -> float:
    for number in range(EVENTS):
        record(number)
    began = time.monotonic()
    recorder.flush(DRAIN_SECONDS)
    return EVENTS / (time.monotonic() - began)


def logged() -> Emitting:
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
            return measure("the bot's own log (json.dumps, write)", record)
        finally:
            os.close(descriptor)


def run() -> list[Emitting]:
    """The best of ROUNDS rounds of each, by median."""
    peers, up, down = [], [], []
    with stack.running("kafka", "registry") as environment:
        where = (environment[settings.BOOTSTRAP_SERVERS], environment[settings.REGISTRY_URL])
        for _ in range(ROUNDS):
            peers.append(logged())
            up.append(recorded("record(), Kafka there", where, drain=True))
    for _ in range(ROUNDS):
        down.append(recorded("record(), Kafka and registry stopped", where, drain=False))
    return [min(found, key=lambda one: one.p50) for found in (peers, up, down)]
