"""Positions, their exits and their pyramids."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

from tradetape.producers.sdk.contexts.arithmetic import (
    MAX_UNITS,
    PLACES,
    PYRAMID_INTERVAL,
    STOP_MULTIPLIER,
    Context,
    maybe,
    percent,
    present,
    rounded,
    sign_of,
    written,
)
from tradetape.producers.sdk.values import Exact, exact
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.numbers import WIDE, text


class Unit(NamedTuple):
    """One unit of a position: what it was bought or sold at, N then, and its contracts."""

    entry_price: Exact
    n_at_entry: Exact
    contracts: Exact
    entry_date: str | None = None


def position_context(
    symbol: str,
    direction: str,
    system: str,
    units: Sequence[Unit],
    *,
    current_price: Exact,
    max_pyramids: int = MAX_UNITS,
    stop_multiplier: Exact = STOP_MULTIPLIER,
    pyramid_interval: Exact = PYRAMID_INTERVAL,
    places: int = PLACES,
    **more: Any,
) -> Context:
    """A position from its units, first one first: average, value, stop (rule 10), P&L and next unit (rules 11, 13)."""
    sign = sign_of(direction)
    if not units:
        raise TradetapeError("a position has at least one unit")
    levels = [(exact(unit.entry_price), exact(unit.n_at_entry), exact(unit.contracts)) for unit in units]
    price, multiplier, interval = exact(current_price), exact(stop_multiplier), exact(pyramid_interval)
    contracts = sum((amount for _, _, amount in levels), Decimal(0))
    cost = sum((entry * amount for entry, _, amount in levels), Decimal(0))
    last_entry, last_n, _ = levels[-1]
    value = price * contracts
    pnl = sign * (value - cost)
    stop = last_entry - sign * multiplier * last_n
    trigger = last_entry + sign * interval * last_n
    can_pyramid = len(units) < max_pyramids
    following = {
        "level": len(units) + 1,
        "trigger_price": rounded(trigger, places),
        "trigger_calculation": written(last_entry, sign, interval, last_n, places=places),
        "distance_to_trigger": rounded(sign * (trigger - price), places),
    }
    return present(
        {
            "symbol": symbol,
            "direction": direction,
            "system": system,
            "initial_entry_price": levels[0][0],
            "initial_entry_date": units[0].entry_date,
            "initial_n": levels[0][1],
            "contracts": contracts,
            "units": len(units),
            "average_entry": rounded(WIDE.divide(cost, contracts), places) if contracts else None,
            "position_value": rounded(value, places),
            "current_stop": rounded(stop, places),
            "stop_distance": rounded(multiplier * last_n, places),
            "stop_calculation": written(last_entry, -sign, multiplier, last_n, places=places),
            "current_price": price,
            "unrealized_pnl": rounded(pnl, places),
            "unrealized_pnl_percent": percent(pnl, cost),
            "pnl_in_n": rounded(WIDE.divide(pnl, last_n * contracts), places) if last_n and contracts else None,
            "pyramid_levels": [
                present(
                    {
                        "level": index,
                        "entry_price": entry,
                        "entry_date": unit.entry_date,
                        "contracts": amount,
                        "n_at_entry": n,
                    }
                )
                for index, ((entry, n, amount), unit) in enumerate(zip(levels, units, strict=True), 1)
            ],
            "max_pyramids": max_pyramids,
            "can_pyramid": can_pyramid,
            "next_pyramid": following if can_pyramid else None,
            **more,
        }
    )


def exit_context(
    *,
    reason: str,
    trigger_type: str,
    trigger_price: Exact,
    current_price: Exact,
    direction: str,
    contracts: Exact,
    entry_price: Exact,
    n: Exact,
    fill_price: Exact | None = None,
    commission: Exact = 0,
    places: int = PLACES,
    **more: Any,
) -> Context:
    """Why a position ends and, once it is filled, its result; ``trigger_type`` is stop, donchian_10 or donchian_20."""
    sign, trigger, current = sign_of(direction), exact(trigger_price), exact(current_price)
    held, entry, filled, paid = exact(contracts), exact(entry_price), maybe(fill_price), exact(commission)
    result: Context | None = None
    if filled is not None:
        gross = sign * (filled - entry) * held
        net = gross - paid
        result = {
            "expected_price": trigger,
            "fill_price": filled,
            "slippage": filled - trigger,
            "gross_pnl": rounded(gross, places),
            "commission": paid,
            "net_pnl": rounded(net, places),
            "pnl_percent": percent(net, entry * held),
            "pnl_in_n": rounded(WIDE.divide(net, exact(n) * held), places) if exact(n) and held else None,
            "calculation": (
                f"({text(filled)} - {text(entry)}) × {text(held)} = {text(rounded(gross, places))}"
                if sign > 0
                else f"({text(entry)} - {text(filled)}) × {text(held)} = {text(rounded(gross, places))}"
            ),
        }
    return present(
        {
            "reason": reason,
            "trigger_type": trigger_type,
            "trigger_price": trigger,
            "current_price": current,
            "breach_amount": sign * (trigger - current),
            "direction": direction,
            "contracts": held,
            "entry_price": entry,
            "pnl": result,
            **more,
        }
    )


def pyramid_context(
    *,
    level: int,
    direction: str,
    last_entry_price: Exact,
    n_at_last_entry: Exact,
    current_price: Exact,
    n_current: Exact,
    equity_notional: Exact,
    risk_percent: Exact,
    contracts_before: Exact,
    stop_before: Exact,
    fill_price: Exact | None = None,
    point_value: Exact = 1,
    pyramid_interval: Exact = PYRAMID_INTERVAL,
    stop_multiplier: Exact = STOP_MULTIPLIER,
    max_units: int = MAX_UNITS,
    places: int = PLACES,
) -> Context:
    """A unit added at +½N (rule 11): its size, and where it moves the stop of all units once filled (rule 12)."""
    sign, last, then, now = sign_of(direction), exact(last_entry_price), exact(n_at_last_entry), exact(n_current)
    notional, risk, before, old = map(exact, (equity_notional, risk_percent, contracts_before, stop_before))
    interval, multiplier, point, filled = map(exact, (pyramid_interval, stop_multiplier, point_value, fill_price or 0))
    if now * point <= 0:
        raise TradetapeError(f"N × point value is {now * point}: no size follows from it")
    trigger = last + sign * interval * then
    added = WIDE.divide(notional * risk, now * point).to_integral_value(ROUND_FLOOR)
    moved: Context = {}
    if fill_price is not None:
        stop = filled - sign * multiplier * now
        moved = {
            "new_entry_price": filled,
            "n_at_new_entry": now,
            "stop_after": rounded(stop, places),
            "stop_calculation": written(filled, -sign, multiplier, now, places=places),
            "stop_moved_by": rounded(stop - old, places),
            "fill_price": filled,
        }
    return {
        "level": level,
        "direction": direction,
        "last_entry_price": last,
        "n_at_last_entry": then,
        "pyramid_interval": interval,
        "trigger_price": rounded(trigger, places),
        "current_price": exact(current_price),
        "trigger_calculation": written(last, sign, interval, then, places=places),
        "n_current": now,
        "equity_notional": notional,
        "risk_percent": risk,
        "new_contracts": added,
        "contracts_before": before,
        "contracts_after": before + added,
        "units_after": level,
        "max_units": max_units,
        "stop_before": old,
        **moved,
    }
