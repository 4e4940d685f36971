"""Signals, the filters they met, and unit sizes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR
from typing import Any

from tradetape.producers.sdk.contexts.arithmetic import (
    PERIOD,
    PLACES,
    STOP_MULTIPLIER,
    Context,
    present,
    rounded,
    sign_of,
)
from tradetape.producers.sdk.values import Exact, exact
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.numbers import WIDE, text


def signal_context(
    *, direction: str, system: str, trigger_price: Exact, signal_price: Exact, channel_period: int, **more: Any
) -> Context:
    """A breakout of the 20- or 55-bar channel (rules 6 and 8); ``more``: correlation_group, breakout."""
    sign_of(direction)
    return {
        "direction": direction,
        "system": system,
        "trigger_price": exact(trigger_price),
        "signal_price": exact(signal_price),
        "channel_period": channel_period,
        **more,
    }


def filter_context(filters: Mapping[str, Context]) -> Context:
    """Filters in the order they were asked, each with ``passed``; says whether all passed, and which first did not."""
    blocking = next((name for name, found in filters.items() if not found["passed"]), None)
    return present(
        {
            **filters,
            "all_passed": blocking is None,
            "blocking_filter": blocking,
            "evaluation_order": list(filters),
        }
    )


def sizing_context(
    *,
    price: Exact,
    n_value: Exact,
    equity_actual: Exact,
    equity_notional: Exact,
    system: str,
    direction: str,
    risk_percent: Exact,
    stop_multiplier: Exact = STOP_MULTIPLIER,
    point_value: Exact = 1,
    atr_period: int = PERIOD,
    places: int = PLACES,
) -> Context:
    """Unit size = floor(notional equity × risk / (N × point value)), and its stop (rules 4 and 10)."""
    entry, n, notional, risk = exact(price), exact(n_value), exact(equity_notional), exact(risk_percent)
    multiplier, point, sign = exact(stop_multiplier), exact(point_value), sign_of(direction)
    dollars, volatility, distance = notional * risk, n * point, multiplier * n
    if volatility <= 0:
        raise TradetapeError(f"N × point value is {volatility}: no size follows from it")
    raw = WIDE.divide(dollars, volatility)
    contracts = raw.to_integral_value(ROUND_FLOOR)
    return {
        "price": entry,
        "n_value": n,
        "equity_actual": exact(equity_actual),
        "equity_notional": notional,
        "system": system,
        "direction": direction,
        "risk_percent": risk,
        "stop_multiplier": multiplier,
        "point_value": point,
        "atr_period": atr_period,
        "risk_dollars": rounded(dollars, places),
        "dollar_volatility": volatility,
        "raw_unit_size": rounded(raw, places),
        "stop_distance": rounded(distance, places),
        "contracts": contracts,
        "position_value": rounded(entry * contracts, places),
        "initial_stop": rounded(entry - sign * distance, places),
        "risk_per_contract": rounded(distance * point, places),
        "formula": "contracts = floor((equity_notional × risk_percent) / (n_value × point_value))",
        "calculation": f"floor(({text(notional)} × {text(risk)}) / ({text(n)} × {text(point)})) = {text(contracts)}",
    }
