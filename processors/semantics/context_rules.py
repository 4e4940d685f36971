"""The arithmetic of Turtle's contexts, rule by rule (S0-05; rules 3 to 5, 10 to 12, 16 and 17 of S0-06).

Formulas are those of the document's context schemas. Its rounding and naming leave three things open; either is right:
P&L of a position from its average entry or from its units, P&L in N by the N of the first or of the latest unit, and
spreads in percent of any price beside them. Not recomputed, because the document's own example follows no one formula:
``exit_efficiency``, and whether an open is a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from tradetape.processors.findings import Finding
from tradetape.processors.money import ZERO
from tradetape.processors.semantics.arithmetic import Rule, check, of, rule

SIGNS = {"LONG": Decimal(1), "SHORT": Decimal(-1)}
STOP_MULTIPLIER = Decimal(2)
"""Rule 10: a stop lies two N from its entry."""
PYRAMID_INTERVAL = Decimal("0.5")
"""Rule 11: a unit is added every half N."""
WILDER = frozenset({None, "wilder", "wilders"})


def _floor(number: Decimal) -> Decimal:
    return number.to_integral_value(ROUND_FLOOR)


def _spread(base: str) -> Any:
    return of(f"order.fast_market.spread_at_signal {base}", lambda spread, price: 100 * spread / price)


_COST = "position.average_entry position.contracts"
_PNL = f"position.sign position.current_price {_COST}"

RULES: Mapping[str, tuple[Rule, ...]] = {
    "market": (
        rule(
            "market.n.value",
            of(
                "market.n.wilder_period market.n.prev_n market.n.true_range",
                lambda period, before, true_range: ((period - 1) * before + true_range) / period,
            ),
        ),
    ),
    "account": (
        rule(
            "account.drawdown.current_percent",
            of("account.equity_high_water account.equity_actual", lambda peak, actual: 100 * (peak - actual) / peak),
        ),
        rule("account.equity_notional", of("account.equity_actual account.kept", lambda actual, kept: actual * kept)),
        rule(
            "account.limits.units_total",
            of("account.limits.units_long account.limits.units_short", lambda long, short: long + short),
        ),
    ),
    "sizing": (
        rule(
            "sizing.risk_dollars",
            of("sizing.equity_notional sizing.risk_percent", lambda equity, risk: equity * risk),
        ),
        rule("sizing.dollar_volatility", of("sizing.n_value sizing.point_value", lambda n, point: n * point)),
        rule(
            "sizing.raw_unit_size",
            of(
                "sizing.equity_notional sizing.risk_percent sizing.n_value sizing.point_value",
                lambda equity, risk, n, point: equity * risk / (n * point),
            ),
            of("sizing.risk_dollars sizing.dollar_volatility", lambda dollars, volatility: dollars / volatility),
        ),
        rule(
            "sizing.contracts",
            of(
                "sizing.equity_notional sizing.risk_percent sizing.n_value sizing.point_value",
                lambda equity, risk, n, point: _floor(equity * risk / (n * point)),
            ),
        ),
        rule("sizing.stop_distance", of("sizing.n_value sizing.stop_multiplier", lambda n, factor: n * factor)),
        rule("sizing.position_value", of("sizing.price sizing.contracts", lambda price, contracts: price * contracts)),
        rule(
            "sizing.initial_stop",
            of(
                "sizing.price sizing.sign sizing.n_value sizing.stop_multiplier",
                lambda price, sign, n, factor: price - sign * n * factor,
            ),
            of(
                "sizing.price sizing.sign sizing.stop_distance",
                lambda price, sign, distance: price - sign * distance,
            ),
        ),
        rule(
            "sizing.risk_per_contract",
            of(
                "sizing.n_value sizing.stop_multiplier sizing.point_value",
                lambda n, factor, point: n * factor * point,
            ),
            of("sizing.stop_distance sizing.point_value", lambda distance, point: distance * point),
        ),
    ),
    "position": (
        rule("position.contracts", of("position.level_contracts", lambda contracts: contracts)),
        rule("position.units", of("position.level_count", lambda units: units)),
        rule(
            "position.average_entry",
            of("position.level_cost position.level_contracts", lambda cost, contracts: cost / contracts),
        ),
        rule(
            "position.position_value",
            of("position.current_price position.contracts", lambda price, contracts: price * contracts),
        ),
        rule("position.stop_distance", of("position.last_n stop_multiplier", lambda n, factor: n * factor)),
        rule(
            "position.current_stop",
            of(
                "position.last_entry position.sign position.last_n stop_multiplier",
                lambda entry, sign, n, factor: entry - sign * n * factor,
            ),
            of(
                "position.last_entry position.sign position.stop_distance",
                lambda entry, sign, distance: entry - sign * distance,
            ),
        ),
        rule(
            "position.unrealized_pnl",
            of(_PNL, lambda sign, price, entry, contracts: sign * (price - entry) * contracts),
            of(
                "position.sign position.current_price position.level_contracts position.level_cost",
                lambda sign, price, contracts, cost: sign * (price * contracts - cost),
            ),
        ),
        rule(
            "position.unrealized_pnl_percent",
            of(f"position.unrealized_pnl {_COST}", lambda pnl, entry, contracts: 100 * pnl / (entry * contracts)),
            of(_PNL, lambda sign, price, entry, _: 100 * sign * (price - entry) / entry),
            of(
                "position.sign position.current_price position.level_contracts position.level_cost",
                lambda sign, price, contracts, cost: 100 * sign * (price * contracts - cost) / cost,
            ),
        ),
        rule(
            "position.pnl_in_n",
            *(
                formula
                for n in ("position.initial_n", "position.last_n")
                for formula in (
                    of(
                        f"position.unrealized_pnl {n} position.contracts",
                        lambda pnl, n, contracts: pnl / (n * contracts),
                    ),
                    of(f"{_PNL} {n}", lambda sign, price, entry, _, n: sign * (price - entry) / n),
                    of(
                        f"position.sign position.current_price position.level_contracts position.level_cost {n}",
                        lambda sign, price, contracts, cost, n: sign * (price * contracts - cost) / (n * contracts),
                    ),
                )
            ),
        ),
        rule(
            "position.next_pyramid.trigger_price",
            of(
                "position.last_entry position.sign pyramid_interval position.last_n",
                lambda entry, sign, interval, n: entry + sign * interval * n,
            ),
        ),
        rule(
            "position.next_pyramid.distance_to_trigger",
            of(
                "position.sign position.next_pyramid.trigger_price position.current_price",
                lambda sign, trigger, price: sign * (trigger - price),
            ),
            of(
                "position.sign position.last_entry pyramid_interval position.last_n position.current_price",
                lambda sign, entry, interval, n, price: sign * (entry - price) + interval * n,
            ),
        ),
    ),
    "order": (
        rule("order.slippage", of("order.fill_price order.expected_price", lambda fill, expected: fill - expected)),
        rule(
            "order.gap.gap_size",
            of("order.gap.open_price order.gap.previous_close", lambda opened, closed: opened - closed),
        ),
        rule(
            "order.gap.gap_percent",
            of(
                "order.gap.open_price order.gap.previous_close",
                lambda opened, closed: 100 * (opened - closed) / closed,
            ),
        ),
        rule(
            "order.fast_market.spread_percent",
            *map(_spread, ("market.price", "market.bid", "market.ask", "order.expected_price", "order.fill_price")),
        ),
    ),
    "exit": (
        rule(
            "exit.breach_amount",
            of(
                "exit.sign exit.trigger_price exit.current_price",
                lambda sign, trigger, price: sign * (trigger - price),
            ),
        ),
        rule(
            "exit.pnl.slippage",
            of("exit.pnl.fill_price exit.pnl.expected_price", lambda fill, expected: fill - expected),
        ),
        rule(
            "exit.pnl.gross_pnl",
            of(
                "exit.sign exit.pnl.fill_price exit.entry_price exit.contracts",
                lambda sign, fill, entry, contracts: sign * (fill - entry) * contracts,
            ),
        ),
        rule("exit.pnl.net_pnl", of("exit.pnl.gross_pnl exit.pnl.commission", lambda gross, paid: gross - paid)),
        rule(
            "exit.pnl.pnl_percent",
            of(
                "exit.pnl.net_pnl exit.entry_price exit.contracts",
                lambda net, entry, contracts: 100 * net / (entry * contracts),
            ),
        ),
        rule(
            "exit.pnl.pnl_in_n",
            *(
                of(f"exit.pnl.net_pnl {n} exit.contracts", lambda net, n, contracts: net / (n * contracts))
                for n in ("position.initial_n", "position.last_n")
            ),
        ),
        rule(
            "exit.realized_pnl",
            of("exit.pnl.net_pnl", lambda net: net),
            of("exit.pnl.gross_pnl", lambda gross: gross),
            of(
                "exit.sign order.fill_price exit.entry_price exit.contracts",
                lambda sign, fill, entry, contracts: sign * (fill - entry) * contracts,
            ),
            of(
                "exit.sign order.fill_price exit.entry_price exit.contracts order.commission",
                lambda sign, fill, entry, contracts, paid: sign * (fill - entry) * contracts - paid,
            ),
        ),
    ),
    "pyramid": (
        rule(
            "pyramid.trigger_price",
            of(
                "pyramid.last_entry_price pyramid.sign pyramid_interval pyramid.n_at_last_entry",
                lambda entry, sign, interval, n: entry + sign * interval * n,
            ),
        ),
        rule(
            "pyramid.new_contracts",
            of(
                "pyramid.equity_notional pyramid.risk_percent pyramid.n_current point_value",
                lambda equity, risk, n, point: _floor(equity * risk / (n * point)),
            ),
        ),
        rule(
            "pyramid.contracts_after",
            of("pyramid.contracts_before pyramid.new_contracts", lambda before, added: before + added),
        ),
        rule(
            "pyramid.stop_after",
            of(
                "pyramid.new_entry_price pyramid.sign pyramid.n_at_new_entry stop_multiplier",
                lambda entry, sign, n, factor: entry - sign * n * factor,
            ),
        ),
        rule(
            "pyramid.stop_moved_by",
            of("pyramid.stop_after pyramid.stop_before", lambda after, before: after - before),
            of(
                "pyramid.new_entry_price pyramid.sign pyramid.n_at_new_entry stop_multiplier pyramid.stop_before",
                lambda entry, sign, n, factor, before: entry - sign * n * factor - before,
            ),
        ),
    ),
}
"""Rules by the block of the context that the figure stands in."""


def observe(event: Mapping[str, Any]) -> list[Finding]:
    """What does not add up in an event whose type has a decision context."""
    context = event["payload"]["context"]
    if context is None:
        return []
    blocks = {name: context[name] for name in RULES if context.get(name) is not None}
    if not blocks:
        return []
    facts = facts_of(blocks)
    return [found for name in blocks for found in check(RULES[name], facts, event["event_id"])]


def facts_of(blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, Decimal]:
    """The numbers of the ``blocks`` by their paths, and what follows from them."""
    facts: dict[str, Decimal] = {}
    for name, block in blocks.items():
        _collect(f"{name}.", block, facts)
        if block.get("direction") is not None:
            facts[f"{name}.sign"] = SIGNS[block["direction"]]
    facts["stop_multiplier"] = facts.get("sizing.stop_multiplier", STOP_MULTIPLIER)
    facts["point_value"] = facts.get("sizing.point_value", Decimal(1))
    facts["pyramid_interval"] = facts.get("pyramid.pyramid_interval", PYRAMID_INTERVAL)
    volatility = blocks.get("market", {}).get("n")
    if volatility and "market.n.period" in facts and _folded(volatility.get("smoothing")) in WILDER:
        facts["market.n.wilder_period"] = facts["market.n.period"]
    _drawdown(blocks.get("account", {}).get("drawdown") or {}, facts)
    _levels(blocks.get("position", {}), facts)
    return facts


def _put(name: str, value: Decimal | None, facts: dict[str, Decimal]) -> None:
    if value is not None:
        facts[name] = value


def _collect(prefix: str, record: Mapping[str, Any], facts: dict[str, Decimal]) -> None:
    for key, value in record.items():
        if isinstance(value, Decimal):
            facts[prefix + key] = value
        elif isinstance(value, dict):
            _collect(f"{prefix}{key}.", value, facts)
        elif isinstance(value, int) and not isinstance(value, bool):
            facts[prefix + key] = Decimal(value)


def _folded(smoothing: str | None) -> str | None:
    return smoothing and smoothing.replace("'", "").casefold()


def _drawdown(drawdown: Mapping[str, Any], facts: dict[str, Decimal]) -> None:
    """The part of equity that units are sized from (rule 5)."""
    if drawdown.get("triggered") is False:
        facts["account.kept"] = Decimal(1)
    elif drawdown.get("triggered") and drawdown.get("reduction_percent") is not None:
        facts["account.kept"] = 1 - drawdown["reduction_percent"] / 100


def _levels(position: Mapping[str, Any], facts: dict[str, Decimal]) -> None:
    """The units of a position: their sums, and the entry and N of the latest one."""
    levels = position.get("pyramid_levels")
    if not levels:
        if position.get("units") in (None, 1):
            _put("position.last_entry", position.get("initial_entry_price"), facts)
            _put("position.last_n", position.get("initial_n"), facts)
        return
    facts["position.level_count"] = Decimal(len(levels))
    _put("position.last_entry", levels[-1].get("entry_price"), facts)
    _put("position.last_n", levels[-1].get("n_at_entry"), facts)
    contracts = [level.get("contracts") for level in levels]
    entries = [level.get("entry_price") for level in levels]
    if None not in contracts:
        facts["position.level_contracts"] = sum(contracts, ZERO)
        if None not in entries:
            costs = (entry * held for entry, held in zip(entries, contracts, strict=True))
            facts["position.level_cost"] = sum(costs, ZERO)
