"""From an event's send to its row being queryable, on the whole stack: Kafka, registry, worker, sink, ClickHouse.

Events are encoded ahead and sent at a pace, as the SDK's emitter sends them. Another thread asks ClickHouse again and
again how far each partition is stored; a row counts as queryable when the answer that shows it is here. Latency says
something only where the stack holds the rate: one is stopped where the stack falls behind, and lower ones are tried.
The limit is what the stack makes of a burst: events a second from its first event's send to its last row.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice

from confluent_kafka import Message, Producer

from benchmarks import load, stack
from tradetape.infra import settings
from tradetape.producers.emitter import DELIVERY
from tradetape.schemas import topics
from tradetape.schemas.registry import Registry
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS

RATE = 5_000
"""Events a second of the budget."""

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
"""Of the limit: the rates that are tried where RATE is not held."""

SECONDS = 40.0
"""A rate is held for so long; the first WARM_UP of it do not count."""

WARM_UP = 10.0
BEHIND_SECONDS = 4.0
"""A rate at which the stack is so far behind is not held."""

STEADY_SECONDS = 1.5
"""How far behind a stack may be at the end of a rate that it holds."""

BUDGET_SECONDS = 1.5
"""Of the 99th percentile, at RATE."""

INSTANCES = 200
FIRST, BURST = 2_000, 20_000
"""Events sent at once: those that warm the stack up, and those that show its limit."""

TICK = 0.005
POLL = 0.05

_STORED = f"SELECT raw_partition, max(raw_offset) FROM {EVENTS.full_name} WHERE raw_offset >= {{low:Int64}} GROUP BY 1"


@dataclass(frozen=True, slots=True)
class Held:
    """One rate: the events sent, how far behind the stack was at the end, latency in seconds of those that count."""

    rate: float
    events: int
    behind: int
    held: bool
    p50: float
    p90: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Every rate that was tried, and the events a second that the stack makes of a burst."""

    limit: float
    rates: list[Held]

    @property
    def best(self) -> Held | None:
        """The highest rate that was held."""
        return max((rate for rate in self.rates if rate.held), key=lambda rate: rate.rate, default=None)


class Visible:
    """Watches how far each partition is stored, in a thread; ``looks`` are (moment, offset of the last row) of each."""

    def __init__(self, url: str) -> None:
        self._store = Store(url)
        self.looks: list[list[tuple[float, int]]] = [[(0.0, -1)] for _ in range(topics.DEFAULT_PARTITIONS)]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._store.close()

    def count(self) -> int:
        """Events that are queryable."""
        return sum(looks[-1][1] + 1 for looks in self.looks)

    def moment(self, partition: int, offset: int) -> float:
        """When the row of ``offset`` was first seen."""
        looks = self.looks[partition]
        return looks[bisect_right(looks, offset - 1, key=lambda look: look[1])][0]

    def _watch(self) -> None:
        while not self._end.wait(POLL):
            low = min(looks[-1][1] for looks in self.looks)
            found = self._store.query(_STORED, {"low": low})
            now = time.monotonic()
            for partition, offset in found:
                if offset > self.looks[partition][-1][1]:
                    self.looks[partition].append((now, int(offset)))


class Sending:
    """Sends events at a pace and remembers when each was sent, and where Kafka put it."""

    def __init__(self, environment: dict[str, str], visible: Visible) -> None:
        registry = Registry(environment[settings.REGISTRY_URL])
        self._encode = load.encoders(registry)
        self._events = load.events(10**9, INSTANCES, seed=1)
        self._visible = visible
        self._places: list[tuple[float, int, int]] = []
        self.sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": environment[settings.BOOTSTRAP_SERVERS],
                **DELIVERY,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )

    def at(self, rate: float, seconds: float) -> Held:
        """Send ``rate`` events a second for ``seconds`` or until the stack falls behind; wait until all are stored."""
        count = int(rate * seconds)
        sending = self._prepared(count)
        self._places = []
        began = time.monotonic()
        done = 0
        while done < count and self.behind() < rate * BEHIND_SECONDS:
            due = min(count, int((time.monotonic() - began) * rate) + 1)
            for key, value in sending[done:due]:
                self._send(key, value)
            done = due
            self._producer.poll(0)
            time.sleep(TICK)
        behind = self.behind()
        self._producer.flush()
        self.drain()
        return self._held(rate, began, behind, whole=done == count)

    def behind(self) -> int:
        """Events that are sent and not queryable."""
        return self.sent - self._visible.count()

    def drain(self) -> None:
        """Return when everything is queryable. Raises stack.Stalled."""
        seen, last = self._visible.count(), time.monotonic()
        while seen < self.sent:
            time.sleep(POLL)
            if (now := self._visible.count()) > seen:
                seen, last = now, time.monotonic()
            if time.monotonic() - last > stack.PATIENCE:
                raise stack.Stalled(f"{self.sent - seen} events are not stored")

    def burst(self, count: int) -> float:
        """The events a second that the stack makes of ``count`` events, sent at once."""
        sending = self._prepared(count)
        began = time.monotonic()
        for key, value in sending:
            self._send(key, value)
        self._producer.flush()
        self.drain()
        return count / (time.monotonic() - began)

    def _prepared(self, count: int) -> list[tuple[bytes, bytes]]:
        """The next ``count`` events, encoded: what a bot spends there is no part of what is measured."""
        return [
            (event["instance_name"].encode(), self._encode[event["event_type"]].encode(event))
            for event in islice(self._events, count)
        ]

    def _send(self, key: bytes, value: bytes) -> None:
        moment = time.monotonic()
        self._producer.produce(
            topics.EVENTS,
            value,
            key,
            on_delivery=lambda error, message: self._delivered(error, message, moment),
        )
        self.sent += 1

    def _delivered(self, error: object, message: Message, moment: float) -> None:
        if error is not None:
            raise stack.Stalled(f"Kafka does not take an event: {error}")
        self._places.append((moment, message.partition(), message.offset()))

    def _held(self, rate: float, began: float, behind: int, *, whole: bool) -> Held:
        took = sorted(
            self._visible.moment(partition, offset) - moment
            for moment, partition, offset in self._places
            if moment - began > WARM_UP or not whole
        )
        quantiles = [took[int(len(took) * q)] for q in (0.5, 0.9, 0.99)]
        held = whole and behind <= rate * STEADY_SECONDS
        return Held(rate, len(self._places), behind, held, *quantiles, took[-1])


def run(rate: float = RATE) -> Latency:
    """``rate`` first; where it is not held, SHARES of what the stack takes at most."""
    with stack.running("kafka", "registry", "clickhouse", "worker", "sink") as environment:
        visible = Visible(environment[settings.CLICKHOUSE_URL])
        try:
            sending = Sending(environment, visible)
            sending.burst(FIRST)
            rates: list[Held] = [sending.at(rate, SECONDS)]
            limit = sending.burst(BURST)
            for share in SHARES if not rates[0].held else ():
                rates.append(sending.at(round(limit * share), SECONDS))
                if rates[-1].held:
                    break
            return Latency(limit, rates)
        finally:
            visible.close()
