"""Time in microseconds, and how far a producer's clock is believed."""

from __future__ import annotations

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

TOLERANCE = 5 * MINUTE
"""By how much a producer's clock may run ahead of the broker's, or fall behind itself."""


def bounded(ts_utc: int, ingest_ts_utc: int) -> int:
    """The time of an event that was appended at ``ingest_ts_utc``: its own, at most TOLERANCE later than that.

    A clock that runs wild must not hold a day, a window, a mark or the order of executions in the future.
    """
    return min(ts_utc, ingest_ts_utc + TOLERANCE)
