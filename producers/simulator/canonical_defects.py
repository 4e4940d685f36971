"""The defects of a canonical bot: each spoils the events of one step, and says what it is found by."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tradetape.schemas import times

DEFECTS: dict[str, tuple[str, str]] = {
    "lost": ("sequence_gap", ""),
    "doubled": ("duplicate_event_id", ""),
    "reordered": ("sequence_regressed", ""),
    "orphaned": ("fill_without_order", ""),
    "malformed": ("not_json", ""),
    "clock_skewed": ("clock_ahead", ""),
    "truncated_price": ("zero_price", ""),
    "wrong_arithmetic": ("overfill", ""),
    "conflicting_terminal": ("conflicting_terminals", ""),
    "silent": ("", "lines that end say nothing about their bot; a watchdog would have to look at the clock"),
}
"""What can be injected: the code that must catch it, or why nothing can.

``malformed`` is a line for each way of ``lines.BREAKS``; each of them names its own code.
"""

SKEW_US = 60 * 365 * 86_400_000_000
"""How far a skewed clock runs ahead, in microseconds."""

Event = dict[str, Any]
Spoil = Callable[[list[Event]], str]
"""Changes the events of a step; returns the subject that the defect is found by."""


def _first(events: list[Event], event_type: str) -> Event:
    return next(event for event in events if event["event_type"] == event_type)


def _orphaned(events: list[Event]) -> str:
    created = _first(events, "order_created")
    events.remove(created)
    return str(created["payload"]["client_order_id"])


def _wrong_arithmetic(events: list[Event]) -> str:
    order = _first(events, "order_created")["payload"]
    order["amount_base"] = str(Decimal(order["amount_base"]) / 2)
    return str(order["client_order_id"])


def _conflicting_terminal(events: list[Event]) -> str:
    return str(_first(events, "order_created")["payload"]["client_order_id"])  # its step has two endings


def _truncated_price(events: list[Event]) -> str:
    fill = _first(events, "order_filled")
    fill["payload"] |= {"fill_price": "0", "fill_qty_quote": "0"}
    return str(fill["event_id"])


def _clock_skewed(events: list[Event]) -> str:
    events[0]["ts_utc"] = times.text(times.parse(events[0]["ts_utc"]) + SKEW_US)
    return str(events[0]["event_id"])


def _lost(events: list[Event]) -> str:
    return str(events.pop(0)["run_id"])


def _doubled(events: list[Event]) -> str:
    fill = _first(events, "order_filled")
    events.insert(events.index(fill), fill)
    return str(fill["event_id"])


def _reordered(events: list[Event]) -> str:
    events[0], events[1] = events[1], events[0]
    return str(events[0]["run_id"])


TOLD: dict[str, Spoil] = {
    "orphaned": _orphaned,
    "wrong_arithmetic": _wrong_arithmetic,
    "conflicting_terminal": _conflicting_terminal,
    "truncated_price": _truncated_price,
    "clock_skewed": _clock_skewed,
}
"""Defects in what the bot says."""

WRITTEN: dict[str, Spoil] = {"lost": _lost, "doubled": _doubled, "reordered": _reordered}
"""Defects in how it writes that down, after the events were numbered."""
