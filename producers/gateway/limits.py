"""How much a client may send: token buckets that may go into debt, and the memory that bodies take (P-08)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""

BURST_SECONDS = 2.0
"""What a client that was silent may send at once, in seconds of its rate."""

MIB = 1024 * 1024
BODIES_BYTES = 256 * MIB
"""Bytes of bodies held at a time."""


class Bucket:
    """A level that refills at ``rate`` a second up to BURST_SECONDS of it, and is charged after the fact.

    A charge is always taken: the level may go below zero, and nothing more is admitted until it is paid off. So one
    POST larger than the burst passes, and the average holds all the same.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._level = rate * BURST_SECONDS
        self._at = clock()

    def charge(self, amount: float) -> None:
        """Take ``amount`` out."""
        self._refill()
        self._level -= amount

    def wait(self) -> float:
        """Seconds until something is admitted; 0 where it is now."""
        self._refill()
        return max(0.0, -self._level / self.rate)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self.rate * BURST_SECONDS, self._level + (now - self._at) * self.rate)
        self._at = now


class Allowance:
    """The two buckets of one client: events and bytes."""

    def __init__(self, events_per_second: float, bytes_per_second: float, clock: Clock) -> None:
        self.events = Bucket(events_per_second, clock)
        self.bytes = Bucket(bytes_per_second, clock)

    def wait(self) -> float:
        """Seconds until the client may post again; 0 where it may now."""
        return max(self.events.wait(), self.bytes.wait())


class Busy(Exception):
    """No memory for another body now."""


class Room:
    """Bounds the bytes of all bodies that are in work."""

    def __init__(self, largest: int = BODIES_BYTES) -> None:
        self._left = largest

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Gives a function that takes so many bytes more, and raises Busy; all are given back at the end."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                raise Busy
            self._left -= size
            taken += size

        try:
            yield take
        finally:
            self._left += taken
