"""Orders, opening gaps and fast markets."""

from __future__ import annotations

from typing import Any

from tradetape.producers.sdk.contexts.arithmetic import PLACES, Context, maybe, present, rounded
from tradetape.producers.sdk.values import Exact, exact
from tradetape.schemas.numbers import WIDE


def order_context(
    *,
    action: str,
    quantity: Exact,
    order_id: str | None = None,
    order_type: str = "MARKET",
    fill_price: Exact | None = None,
    expected_price: Exact | None = None,
    gap: Context | None = None,
    fast_market: Context | None = None,
    **more: Any,
) -> Context:
    """An order, its slippage where both prices are known, rules 16a and 16b; ``more``: limit_price, commission, …"""
    filled, expected = maybe(fill_price), maybe(expected_price)
    slippage = filled - expected if filled is not None and expected is not None else None
    return present(
        {
            "order_id": order_id,
            "order_type": order_type,
            "action": action,
            "quantity": exact(quantity),
            "fill_price": filled,
            "expected_price": expected,
            "slippage": slippage,
            "gap": gap,
            "fast_market": fast_market,
            **more,
        }
    )


def gap_context(
    *, previous_close: Exact, open_price: Exact, signal_price: Exact, executed_at_open: bool, places: int = PLACES
) -> Context:
    """An open, and whether the market gapped through the bot's level ``signal_price`` with it (rule 16a).

    It did where the level lies between the last close and the open, and is neither: the document asks that twice, of
    the market (``is_gap_open``) and of the open (``gapped_through``). The direction is that of such a gap, None without
    one; ``gap_size`` is the signed difference in either case, and ``gap_percent`` what it is of the close.
    """
    closed, opened, level = exact(previous_close), exact(open_price), exact(signal_price)
    size = opened - closed
    through = min(closed, opened) < level < max(closed, opened)
    return {
        "is_gap_open": through,
        "gap_direction": ("up" if size > 0 else "down") if through else None,
        "previous_close": closed,
        "open_price": opened,
        "gap_size": size,
        "gap_percent": rounded(WIDE.divide(100 * size, closed), places) if closed else None,
        "signal_price": level,
        "gapped_through": through,
        "executed_at_open": executed_at_open,
    }


def fast_market_context(
    *,
    bid: Exact,
    ask: Exact,
    spread_threshold: Exact,
    execution_delayed: bool = False,
    places: int = PLACES,
    **more: Any,
) -> Context:
    """The spread when the signal fired, and whether it counts as fast (rule 16b)."""
    low, high, threshold = exact(bid), exact(ask), exact(spread_threshold)
    spread = high - low
    return {
        "detected": spread > threshold,
        "spread_at_signal": spread,
        "spread_threshold": threshold,
        "spread_percent": rounded(WIDE.divide(100 * spread, high), places) if high else None,
        "execution_delayed": execution_delayed,
        **more,
    }
