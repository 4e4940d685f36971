"""Stand-ins for the emitter, and the shared real databases."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from tradetape.producers.emitter import EventTooLarge
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Encoder
from tradetape.schemas.errors import TradetapeError

SHARED = Path(os.environ.get("TRADETAPE_SHARED") or Path(__file__).parents[3] / "shared")
REAL = SHARED / "data" / "hummingbot"
"""Real databases; a checkout without them fails the tests that need them."""

NAMES = (
    "conf_xemm_1",
    "conf_pure_mm_7",
    "conf_pure_mm_3",
    "conf_hedge_3",
    "conf_avellaneda_market_making_2",
)

_ENCODERS = {name: Encoder(event_type.schema, 1) for name, event_type in event_types().items()}


class Listed:
    """An emitter that encodes like the real one, and keeps the events; ``fail_after`` events it breaks."""

    def __init__(self, fail_after: int | None = None, largest: int = 16_000_000) -> None:
        self.events: list[dict[str, Any]] = []
        self.acknowledged: list[dict[str, Any]] = []
        self.fail_after = fail_after
        self.largest = largest

    def emit(self, event: dict[str, Any], event_type_name: str) -> None:
        assert event["event_type"] == event_type_name
        if len(_ENCODERS[event_type_name].encode(event)) > self.largest:
            raise EventTooLarge("too large")
        if self.fail_after is not None and len(self.events) >= self.fail_after:
            raise TradetapeError("Kafka went away")
        self.events.append(dict(event))

    def flush(self, timeout: float = 60.0) -> None:
        self.acknowledged = list(self.events)

    def cluster_id(self) -> str:
        return "test"

    def types(self) -> dict[str, int]:
        return dict(Counter(event["event_type"] for event in self.events))

    def of(self, event_type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event_type"] == event_type]


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows of plain SQL over ``path``."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
