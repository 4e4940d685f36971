"""Equity under the drawdown rule, and unit limits."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tradetape.producers.sdk.contexts.arithmetic import PLACES, Context, present, rounded
from tradetape.producers.sdk.values import Exact, exact
from tradetape.schemas.numbers import WIDE


def account_context(
    equity_actual: Exact,
    equity_high_water: Exact,
    *,
    threshold_percent: Exact = 10,
    reduction_percent: Exact = 20,
    limits: Context | None = None,
    places: int = PLACES,
    **more: Any,
) -> Context:
    """Equity under the drawdown rule (rule 5): past the threshold, notional equity is reduced."""
    actual, peak = exact(equity_actual), exact(equity_high_water)
    threshold, reduction = exact(threshold_percent), exact(reduction_percent)
    drawdown = WIDE.divide(100 * (peak - actual), peak) if peak else Decimal(0)
    triggered = drawdown >= threshold
    notional = actual * (1 - reduction / 100) if triggered else actual
    return present(
        {
            "equity_actual": actual,
            "equity_high_water": peak,
            "drawdown": {
                "current_percent": rounded(drawdown, 1),
                "threshold_percent": threshold,
                "reduction_percent": reduction,
                "triggered": triggered,
            },
            "equity_notional": rounded(notional, places),
            "limits": limits,
            **more,
        }
    )


def limits_context(
    *,
    mode: str,
    units_by_market: Mapping[str, Exact],
    units_by_group: Mapping[str, Exact],
    units_max: Exact = 12,
    **more: Any,
) -> Context:
    """Units held against their limits (rule 17); ``mode`` is risk_cap or original."""
    markets = {name: exact(held) for name, held in units_by_market.items()}
    return {
        "mode": mode,
        "units_total": sum(markets.values(), Decimal(0)),
        "units_max": exact(units_max),
        "units_by_market": markets,
        "units_by_group": {name: exact(held) for name, held in units_by_group.items()},
        **more,
    }
