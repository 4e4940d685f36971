"""What tests of Turtle's connector share."""

from __future__ import annotations

from typing import Any

from tests.producers.turtle_rows import row


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def rest(self) -> None:
        """Let every rest be over."""
        self.now += 3600.0


def checked(sequence: int, **columns: Any) -> dict[str, Any]:
    return row("position_checked", "hold", **{"sequence": sequence, **columns})


def positions(events: list[dict[str, Any]]) -> list[int]:
    return [event["source_position"] for event in events]
