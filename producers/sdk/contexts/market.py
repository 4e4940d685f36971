"""Prices, volatility (N) and channels."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tradetape.producers.sdk.contexts.arithmetic import PERIOD, PLACES, Context, present, rounded
from tradetape.producers.sdk.values import Exact, exact
from tradetape.schemas.numbers import WIDE, text


def n_context(*, true_range: Exact, prev_n: Exact, period: int = PERIOD, places: int = PLACES, **more: Any) -> Context:
    """N by Wilder's smoothing: ((period − 1) × previous N + true range) / period (rule 3)."""
    ranged, before = exact(true_range), exact(prev_n)
    value = rounded(WIDE.divide((period - 1) * before + ranged, Decimal(period)), places)
    return {
        "value": value,
        "period": period,
        "smoothing": "wilders",
        "prev_n": before,
        "true_range": ranged,
        "calculation": f"(({period - 1} × {text(before)}) + {text(ranged)}) / {period} = {value}",
        **more,
    }


def donchian_context(
    *, dc10: tuple[Exact, Exact], dc20: tuple[Exact, Exact], dc55: tuple[Exact, Exact], exclude_current_bar: bool = True
) -> Context:
    """Channels as (high, low)."""
    channels = {"dc10": (dc10, 10), "dc20": (dc20, 20), "dc55": (dc55, 55)}
    return {
        **{
            name: {"high": exact(high), "low": exact(low), "period": period}
            for name, ((high, low), period) in channels.items()
        },
        "exclude_current_bar": exclude_current_bar,
    }


def market_context(
    symbol: str, price: Exact, *, n: Context | None = None, donchian: Context | None = None, **more: Any
) -> Context:
    """Prices, volatility and channels; ``more``: bid, ask, open, high, low, volume, bar_date, source, …"""
    return present({"symbol": symbol, "price": exact(price), "n": n, "donchian": donchian, **more})
