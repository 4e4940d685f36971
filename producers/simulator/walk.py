"""Prices that walk at random, exactly: Decimal, from a seed alone."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from random import Random


class Walk:
    """A price that moves by at most ``step`` basis points at each turn, rounded to ``places`` decimals."""

    def __init__(self, random: Random, start: Decimal, *, step: int = 30, places: int = 2) -> None:
        self._random = random
        self._step = step
        self._quantum = Decimal(1).scaleb(-places)
        self.price = start

    def move(self) -> Decimal:
        """The next price; never below one quantum."""
        factor = 1 + Decimal(self._random.randint(-self._step, self._step)).scaleb(-4)
        self.price = max((self.price * factor).quantize(self._quantum, ROUND_HALF_EVEN), self._quantum)
        return self.price
