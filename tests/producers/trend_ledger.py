"""A Trend ledger as its bot writes it, and what is read of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.trend import source as trend
from tradetape.producers.events import Event


def line(number: int, *, name: str = "a") -> bytes:
    record = {
        "event_id": f"00000000-0000-4000-8000-{ord(name):02x}{number:010x}",
        "event_type": "MarketTick",
        "timestamp": f"2024-01-15T10:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
        "sequence_num": number,
        "payload": {"symbol": "BTCUSDT", "price": 42000 + number},
        "metadata": {},
    }
    return json.dumps(record).encode() + b"\n"


def lines(first: int, last: int, *, name: str = "a") -> bytes:
    return b"".join(line(number, name=name) for number in range(first, last + 1))


class Bot:
    """A bot's ledger folder, and what was read of it in all; ``saved`` is the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "events.jsonl"
        self.saved: dict[str, Any] | None = None
        self.source: trend.TrendSource | None = None

    def write(self, content: bytes, name: str = "events.jsonl") -> None:
        with (self.folder / name).open("ab") as file:
            file.write(content)

    def next(self, number: object) -> None:
        (self.folder / "sequence.txt").write_text(f"{number}\n")

    def open(self) -> trend.TrendSource:
        """As a process that was just started: from the checkpoint, through JSON."""
        saved = json.loads(json.dumps(self.saved)) if self.saved else None
        origin = Origin("ledger-1", "trend1", "binance", "trend")
        self.source = trend.TrendSource(trend._ledger(str(self.path)), origin, saved, pause=lambda _: None)
        return self.source

    def poll(self, limit: int = 100, *, save: bool = True) -> list[Event]:
        """Everything new, polled until nothing is."""
        source = self.source or self.open()
        found: list[Event] = []
        while polled := source.poll(limit):
            found += polled
        if save:
            self.saved = source.state()
        return found

    def rotate(self, name: str) -> None:
        self.path.rename(self.folder / name)

    def copy_and_truncate(self, name: str) -> None:
        shutil.copy(self.path, self.folder / name)
        os.truncate(self.path, 0)


def numbers(events: Sequence[Event]) -> list[int | None]:
    return [event["sequence"] for event in events]


def places(events: Sequence[Event]) -> list[tuple[str, int]]:
    return [(event["source_stream"], event["source_position"]) for event in events]


def kinds(events: Sequence[Event]) -> list[str]:
    return [event["event_type"] for event in events]
