"""Writes a simulated Quantum bot's Redis streams: simulated time, entry ids made of it, heartbeats, trimming."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from random import Random
from typing import Any

from tradetape.producers.adapters.quantum_entries import FLOW
from tradetape.schemas import identity, numbers, times

MAXLEN = {"market.candle.new": 50_000, "audit.decision.log": 0, "market.tick.price": 1_000}
DEFAULT_MAXLEN = 10_000

HEARTBEAT_MS = 30_000
SERVICES = ("data_collector", "risk_kernel", "execution_engine", "exit_brain")

_BATCH = 500


class Writer:
    """The streams of one bot, from where they end. ``now_ms`` is the simulated time.

    With ``correlate`` entries carry event_id, correlation_id and causation_id; ``begin_chain`` starts another chain.
    """

    def __init__(self, client: Any, name: str, start_ms: int, *, correlate: bool) -> None:
        self._client = client
        self._pipeline = client.pipeline(transaction=False)
        self._name = name
        self._last = {stream: self._last_of(stream) for stream in self.added()}
        newest = max((ms for ms, _ in self._last.values()), default=0)
        self.now_ms = max(newest + 1000, start_ms)
        self._beat_at = self._began = self.now_ms
        self._correlate = correlate
        self._chain = self._cause = ""

    def last_price(self) -> str | None:
        """The newest tick."""
        tick = self._client.xrevrange("market.tick.price", count=1)
        return tick[0][1]["price"] if tick else None

    def added(self) -> dict[str, int]:
        """Entries that each stream of the bot ever had."""
        there = [stream for stream in FLOW if self._client.exists(stream)]
        return {stream: n for stream in there if (n := self._client.xinfo_stream(stream)["entries-added"])}

    def begin_chain(self) -> None:
        """What comes next has another cause."""
        self._chain = self._cause = ""

    def add(self, random: Random, stream: str, payload: Mapping[str, Any]) -> None:
        """Write one entry a moment later, heartbeats before it where they are due."""
        while self._beat_at <= self.now_ms:
            self._beat()
        self.now_ms += random.randint(0, 900)
        self.write(stream, {"timestamp": times.text(self.now_ms * 1000), **payload})

    def _beat(self) -> None:
        moment = times.text(self._beat_at * 1000)
        for service in SERVICES:
            alive = {"service": service, "status": "HEALTHY", "uptime_seconds": (self._beat_at - self._began) // 1000}
            more = {"last_activity": moment, "metrics": {"events": 12}, "timestamp": moment}
            self.write("system.health.heartbeat", {**alive, **more}, at_ms=self._beat_at, chained=False)
        self._beat_at += HEARTBEAT_MS

    def write(self, stream: str, payload: Mapping[str, Any], *, at_ms: int | None = None, chained: bool = True) -> None:
        """Write one entry as it is."""
        ms = at_ms or self.now_ms
        last_ms, last_number = self._last.get(stream, (0, 0))
        number = last_number + 1 if last_ms == ms else 0
        self._last[stream] = ms, number
        fields = {name: _text(value) for name, value in payload.items()}
        if self._correlate and chained:
            event_id = identity.derive(self._name, stream, f"{ms}-{number}")
            self._chain = self._chain or event_id
            fields |= {"event_id": event_id, "correlation_id": self._chain}
            fields |= {"causation_id": self._cause} if self._cause else {}
            self._cause = event_id
        length = MAXLEN.get(stream, DEFAULT_MAXLEN)
        self._pipeline.xadd(stream, fields, id=f"{ms}-{number}", maxlen=length or None, approximate=True)
        if len(self._pipeline) >= _BATCH:
            self._pipeline.execute()

    def flush(self) -> None:
        """Send what is waiting."""
        self._pipeline.execute()

    def _last_of(self, stream: str) -> tuple[int, int]:
        ms, _, number = self._client.xinfo_stream(stream)["last-generated-id"].partition("-")
        return int(ms), int(number)


def _text(value: Any) -> str:
    """A value as the bot writes it: all text, objects as JSON."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, Decimal):
        return numbers.text(value)
    return str(value)
