"""Small price moves are left out, and counted (S1-05)."""

from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal

from tradetape.schemas.errors import TradetapeError

DEFAULT_CHANGE = Decimal("0.001")
"""Relative change from which a price is worth recording: 0.1 %."""


class PriceThrottle:
    """Lets a key's price through when it moved by more than ``change`` since the last one kept.

    ``offer`` judges, and ``keep`` follows when the price is on record: one that could not be recorded is judged anew.
    ``change`` is a fraction. The first price of a key always passes, and so does every move from zero. Raises
    TradetapeError for a negative ``change``.
    """

    def __init__(self, change: Decimal = DEFAULT_CHANGE) -> None:
        if change < 0:
            raise TradetapeError(
                f"a relative change of {change} is negative", hint="0.001 is 0.1 %; 0 lets all through"
            )
        self.change = change
        self._last: dict[Hashable, tuple[Decimal, int]] = {}
        self.suppressed = 0
        """Prices left out so far, of all keys."""

    def offer(self, key: Hashable, price: Decimal) -> int | None:
        """None where ``price`` is to be left out, which counts it; else how many of ``key`` were left out before it."""
        last = self._last.get(key)
        if last is None:
            return 0
        before, left_out = last
        if abs(price - before) <= self.change * abs(before) and (before or not price):
            self._last[key] = (before, left_out + 1)
            self.suppressed += 1
            return None
        return left_out

    def keep(self, key: Hashable, price: Decimal) -> None:
        """``price`` is on record, with the number of those left out before it."""
        self._last[key] = (price, 0)

    def left_out(self, key: Hashable) -> int:
        """How many prices of ``key`` were left out since the last one kept."""
        last = self._last.get(key)
        return last[1] if last is not None else 0

    def forget(self, key: Hashable) -> None:
        """Drop a key that ended; nothing happens where it is not known."""
        self._last.pop(key, None)
