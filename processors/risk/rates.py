"""Orders, cancels and rejects of an instance in sliding windows of event time (P-02).

A window is BUCKETS counters of equal length per kind: it slides by one of them, so it holds the last 50 to 60 seconds,
and the last 50 to 60 minutes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tradetape.processors.lineage import CANCELLED, CREATED, FAILED

BUCKETS = 6
KINDS: Final = {CREATED: 0, CANCELLED: 1, FAILED: 2}
"""What is counted, and where it stands among the counts."""
NAMES = ("orders", "cancels", "rejects")
"""What the counts are called, in that order."""

Counts = tuple[int, int, int]
"""Orders, cancels and rejects."""


class Window(msgspec.Struct, array_like=True):
    """Counters that are not 0, by kind × BUCKETS + age; of age 0 is ``newest``, a bucket's number since 1970."""

    newest: int = 0
    counters: dict[int, int] = {}


def count(window: Window, length: int, kind: int, at: int) -> None:
    """Count one event of ``kind`` at ``at`` in a window of ``length`` microseconds."""
    bucket = at // (length // BUCKETS)
    window.counters = _slid(window, bucket)
    window.newest = max(window.newest, bucket)
    age = window.newest - bucket
    if age < BUCKETS:
        place = kind * BUCKETS + age
        window.counters[place] = window.counters.get(place, 0) + 1


def counts(window: Window, length: int, at: int) -> Counts:
    """How many of each kind the window holds at ``at``."""
    found = [0] * len(KINDS)
    for place, counter in _slid(window, at // (length // BUCKETS)).items():
        found[place // BUCKETS] += counter
    orders, cancels, rejects = found
    return orders, cancels, rejects


def _slid(window: Window, bucket: int) -> dict[int, int]:
    """The counters once ``bucket`` is the newest, or as they are where it is an older one."""
    by = bucket - window.newest
    if by <= 0:
        return window.counters
    return {place + by: counter for place, counter in window.counters.items() if place % BUCKETS + by < BUCKETS}
