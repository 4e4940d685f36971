"""Figures and records as JSON has them: decimals as text, times as ISO-8601 with Z."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tradetape.schemas import numbers, times

TIMES = frozenset(
    {"ts_utc", "ingest_ts_utc", "last_ts_utc", "mark_ts_utc", "since", "until", "cooldown_until", "last_reconciliation"}
    | {"ordered_ts_utc", "acknowledged_ts_utc", "flat_ts_utc"}
)
"""Keys whose values are microseconds."""


def plain(value: Any, key: str = "") -> Any:
    """``value`` with what JSON cannot say said as text."""
    if isinstance(value, Decimal):
        return numbers.text(value)
    if isinstance(value, Mapping):
        return {name: plain(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if key in TIMES and isinstance(value, int):
        return times.text(value)
    return value
