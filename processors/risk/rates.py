"""Orders, cancels and rejects of an instance in sliding windows of event time (P-02).

A window is BUCKETS counters of equal length per kind: it slides by one of them, so it holds the last 50 to 60 seconds,
and the last 50 to 60 minutes.
"""

from __future__ import annotations

from typing import Final

import msgspec

BUCKETS = 6
KINDS: Final = {"order_created": 0, "order_cancelled": 1, "order_failed": 2}
MINUTE, HOUR = 60_000_000, 3_600_000_000

Counts = tuple[int, int, int]
"""Orders, cancels and rejects."""


class Window(msgspec.Struct, array_like=True):
    """Counters by kind, newest bucket first; ``newest`` is that bucket's number since 1970."""

    newest: int = 0
    counters: list[int] = []


def count(window: Window, length: int, kind: int, at: int) -> None:
    """Count one event of ``kind`` at ``at`` in a window of ``length`` microseconds."""
    bucket = at // (length // BUCKETS)
    window.counters = _slid(window, bucket)
    window.newest = max(window.newest, bucket)
    age = window.newest - bucket
    if age < BUCKETS:
        window.counters[kind * BUCKETS + age] += 1


def counts(window: Window, length: int, at: int) -> Counts:
    """How many of each kind the window holds at ``at``."""
    slid = _slid(window, at // (length // BUCKETS))
    return sum(slid[:BUCKETS]), sum(slid[BUCKETS : 2 * BUCKETS]), sum(slid[2 * BUCKETS :])


def _slid(window: Window, bucket: int) -> list[int]:
    """The counters once ``bucket`` is the newest, or as they are where it is an older one."""
    old = window.counters or [0] * BUCKETS * len(KINDS)
    by = min(max(bucket - window.newest, 0), BUCKETS)
    if not by:
        return old
    return [
        counter for start in range(0, len(old), BUCKETS) for counter in [0] * by + old[start : start + BUCKETS - by]
    ]
