"""Markets for the simulated turtles: daily bars on random walks, Wilder's N and Donchian channels, printed to cents."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random
from typing import Any, NamedTuple

from tradetape.producers.simulator.walk import Walk

CENT = Decimal("0.01")
ATR_PERIOD = 20
PERIODS = (10, 20, 55)
WARM_UP = 60
"""Bars before the first day of trading: the longest channel has its 55."""
MOVES = 7
"""Prices of a day: its open, what the monitor sees, and the close are three of them."""
SEEN = 3


def cents(value: Decimal) -> Decimal:
    """``value`` to the printed precision of prices."""
    return value.quantize(CENT, ROUND_HALF_EVEN)


def rounded(value: Decimal, places: int) -> Decimal:
    """``value`` to ``places`` decimals."""
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)


class Bar(NamedTuple):
    """One day; ``seen`` is the price when the monitor looks."""

    day: date
    open: Decimal
    seen: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


class Market:
    """One symbol, day by day. ``n`` is Wilder's 20-day average true range of the last whole day."""

    def __init__(self, symbol: str, group: str, start: Decimal, random: Random) -> None:
        self.symbol = symbol
        self.group = group
        self.bars: list[Bar] = []
        self.n = self.prev_n = self.true_range = CENT
        self._random = random
        self._walk = Walk(random, start, step=120)

    def trade(self, day: date, *, seen: Decimal | None = None, close: Decimal | None = None) -> None:
        """One more day; ``seen`` and ``close`` are what news makes of these prices."""
        prices = [self._walk.move() for _ in range(MOVES)]
        if seen is not None:
            prices[SEEN] = seen
        if close is not None:
            prices[-1] = self._walk.price = close
        bar = Bar(
            day, prices[0], prices[SEEN], max(prices), min(prices), prices[-1], self._random.randint(10**5, 10**7)
        )
        previous = self.bars[-1].close if self.bars else bar.open
        self.true_range = max(bar.high, previous) - min(bar.low, previous)
        self.prev_n = self.n if self.bars else self.true_range
        self.n = max(cents((19 * self.prev_n + self.true_range) / 20), CENT)
        self.bars.append(bar)

    def channel(self, period: int) -> tuple[Decimal, Decimal]:
        """Highest high and lowest low of the ``period`` bars before today's."""
        bars = self.bars[-period - 1 : -1]
        return max(bar.high for bar in bars), min(bar.low for bar in bars)

    def context(self, price: Decimal) -> dict[str, Any]:
        """The market block, at ``price``."""
        bar = self.bars[-1]
        return {
            "symbol": self.symbol,
            "price": price,
            "bid": price - 5 * CENT,
            "ask": price + 5 * CENT,
            "open": bar.open,
            "high": bar.high,
            "low": bar.low,
            "volume": bar.volume,
            "bar_date": bar.day.isoformat(),
            "n": {
                "value": self.n,
                "date": bar.day.isoformat(),
                "period": ATR_PERIOD,
                "smoothing": "wilders",
                "prev_n": self.prev_n,
                "true_range": self.true_range,
                "calculation": f"((19 × {self.prev_n}) + {self.true_range}) / 20 = {self.n}",
            },
            "donchian": {
                **{
                    f"dc{period}": dict(zip(("high", "low", "period"), (*self.channel(period), period), strict=True))
                    for period in PERIODS
                },
                "exclude_current_bar": True,
            },
            "source": "yahoo",
            "source_timestamp": datetime.combine(bar.day, time(21), UTC).isoformat().replace("+00:00", "Z"),
        }
