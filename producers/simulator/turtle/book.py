"""What a simulated turtle holds, and the context blocks that say so: numbers follow from those printed with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

from tradetape.producers.simulator.turtle.market import ATR_PERIOD, CENT, Market, cents, rounded

LONG, SHORT = "LONG", "SHORT"
EQUITY = Decimal("100000.00")
RISK = Decimal("0.005")
STOP_MULTIPLIER = Decimal("2.0")
INTERVAL = Decimal("0.5")
MAX_UNITS = 4
MAX_GROUP = 6
MAX_TOTAL = 12
MAX_RISK = Decimal("20.0")
UNIT_RISK = RISK * 100
DRAWDOWN, REDUCTION = Decimal("10.0"), Decimal("20.0")
LEVERAGE = 2
MARGIN = Decimal("0.25")


class Unit(NamedTuple):
    """One entry of a position."""

    price: Decimal
    day: date
    contracts: int
    n: Decimal


@dataclass(slots=True)
class Position:
    """One open position; ``sign`` is 1 for long and −1 for short."""

    market: Market
    direction: str
    system: str
    units: list[Unit]
    best: Decimal = Decimal(0)
    worst: Decimal = Decimal(0)

    @property
    def sign(self) -> int:
        return 1 if self.direction == LONG else -1

    @property
    def contracts(self) -> int:
        return sum(unit.contracts for unit in self.units)

    @property
    def average(self) -> Decimal:
        """Average entry, to six decimals: what every figure of the position is computed from."""
        return rounded(sum((u.price * u.contracts for u in self.units), Decimal(0)) / self.contracts, 6).normalize()

    @property
    def stop(self) -> Decimal:
        """Two N from the last entry, for all units (rules 10 and 12)."""
        return self.units[-1].price - self.sign * STOP_MULTIPLIER * self.units[-1].n

    @property
    def next_price(self) -> Decimal:
        """Half an N beyond the last entry (rule 11)."""
        return self.units[-1].price + self.sign * INTERVAL * self.units[-1].n

    def pnl(self, price: Decimal) -> Decimal:
        """Unrealised, at ``price``."""
        return cents(self.sign * (price - self.average) * self.contracts)

    def mark(self, price: Decimal) -> None:
        """Remember the best and the worst it ever stood at."""
        self.best, self.worst = max(self.best, self.pnl(price)), min(self.worst, self.pnl(price))

    def reaches(self, price: Decimal, level: Decimal) -> bool:
        """Whether ``price`` is at ``level`` or better for it."""
        return self.sign * (price - level) >= 0

    def context(self, price: Decimal, today: date) -> dict[str, Any]:
        """The position block, at ``price``."""
        first, last = self.units[0], self.units[-1]
        operator = "-" if self.direction == LONG else "+"
        opposite = "+" if self.direction == LONG else "-"
        days = (today - first.day).days
        return {
            "symbol": self.market.symbol,
            "direction": self.direction,
            "system": self.system,
            "initial_entry_price": first.price,
            "initial_entry_date": first.day.isoformat(),
            "initial_n": first.n,
            "contracts": self.contracts,
            "units": len(self.units),
            "average_entry": self.average,
            "position_value": price * self.contracts,
            "current_stop": self.stop,
            "stop_distance": STOP_MULTIPLIER * last.n,
            "stop_calculation": f"{last.price} {operator} (2 × {last.n}) = {self.stop}",
            "current_price": price,
            "unrealized_pnl": self.pnl(price),
            "unrealized_pnl_percent": rounded(self.pnl(price) / (self.average * self.contracts) * 100, 1),
            "pnl_in_n": rounded(self.pnl(price) / (first.n * self.contracts), 2),
            "pyramid_levels": [
                {
                    "level": level,
                    "entry_price": unit.price,
                    "entry_date": unit.day.isoformat(),
                    "contracts": unit.contracts,
                    "n_at_entry": unit.n,
                }
                for level, unit in enumerate(self.units, 1)
            ],
            "max_pyramids": MAX_UNITS,
            "can_pyramid": len(self.units) < MAX_UNITS,
            "next_pyramid": {
                "level": len(self.units) + 1,
                "trigger_price": self.next_price,
                "trigger_calculation": f"{last.price} {opposite} (0.5 × {last.n}) = {self.next_price}",
                "distance_to_trigger": self.sign * (self.next_price - price),
            },
            "days_held": days,
            "trading_days_held": days,
        }


@dataclass(slots=True)
class Book:
    """Cash, positions and the last S1 trades. Prices for valuing are the markets' last closes."""

    markets: dict[str, Market]
    realised: Decimal = Decimal(0)
    high_water: Decimal = EQUITY
    positions: dict[str, Position] = field(default_factory=dict)
    last_s1: dict[str, dict[str, Any]] = field(default_factory=dict)

    def equity(self) -> Decimal:
        """Account value; the high-water mark follows it."""
        open_pnl = sum((p.pnl(p.market.bars[-1].close) for p in self.positions.values()), Decimal(0))
        equity = EQUITY + self.realised + open_pnl
        self.high_water = max(self.high_water, equity)
        return equity

    def notional(self) -> Decimal:
        """What units are sized from: 20 % less in a drawdown of 10 % (rule 5)."""
        equity = self.equity()
        return cents(equity * (100 - REDUCTION) / 100) if self.in_drawdown() else equity

    def in_drawdown(self) -> bool:
        """Whether rule 5 holds."""
        equity = self.equity()
        return (self.high_water - equity) * 100 >= DRAWDOWN * self.high_water

    def held(self) -> Decimal:
        """The value of all positions."""
        return sum((p.market.bars[-1].close * p.contracts for p in self.positions.values()), Decimal(0))

    def buying_power(self) -> Decimal:
        """What new positions may cost."""
        return max(LEVERAGE * self.equity() - self.held(), Decimal("0.00"))

    def units(self, group: str = "") -> int:
        """Units held, of one group or of all."""
        return sum(len(p.units) for p in self.positions.values() if group in ("", p.market.group))

    def has_room(self, units: int = 1) -> bool:
        """Whether ``units`` more keep the limit of all units and the risk cap (rule 17)."""
        after = self.units() + units
        return after <= MAX_TOTAL and after * UNIT_RISK <= MAX_RISK

    def can_pyramid(self, position: Position) -> bool:
        """Whether one more unit of ``position`` keeps every limit."""
        in_group = self.units(position.market.group)
        return len(position.units) < MAX_UNITS and in_group < MAX_GROUP and self.has_room()

    def account(self) -> dict[str, Any]:
        """The account block."""
        equity = self.equity()
        margin = cents(self.held() * MARGIN)
        groups = sorted({p.market.group for p in self.positions.values()})
        return {
            "equity_actual": equity,
            "equity_high_water": self.high_water,
            "buying_power": self.buying_power(),
            "drawdown": {
                "current_percent": rounded((self.high_water - equity) / self.high_water * 100, 1),
                "threshold_percent": DRAWDOWN,
                "reduction_percent": REDUCTION,
                "triggered": self.in_drawdown(),
            },
            "equity_notional": self.notional(),
            "limits": {
                "mode": "risk_cap",
                "units_total": self.units(),
                "units_max": MAX_TOTAL,
                "units_long": sum(len(p.units) for p in self.positions.values() if p.direction == LONG),
                "units_short": sum(len(p.units) for p in self.positions.values() if p.direction == SHORT),
                "units_by_market": {name: len(p.units) for name, p in sorted(self.positions.items())},
                "units_by_group": {group: self.units(group) for group in groups},
            },
            "margin_used": margin,
            "margin_available": max(equity - margin, Decimal("0.00")),
        }

    def sizing(self, market: Market, price: Decimal, direction: str, system: str) -> dict[str, Any]:
        """The sizing block: one unit at ``price`` (rule 4)."""
        notional, distance = self.notional(), STOP_MULTIPLIER * market.n
        dollars = cents(notional * RISK)
        raw = notional * RISK / market.n
        contracts = int(raw.to_integral_value(ROUND_FLOOR))
        return {
            "price": price,
            "n_value": market.n,
            "equity_actual": self.equity(),
            "equity_notional": notional,
            "system": system,
            "direction": direction,
            "risk_percent": RISK,
            "stop_multiplier": STOP_MULTIPLIER,
            "point_value": Decimal("1.0"),
            "atr_period": ATR_PERIOD,
            "risk_dollars": dollars,
            "dollar_volatility": market.n,
            "raw_unit_size": rounded(raw, 2),
            "stop_distance": distance,
            "contracts": contracts,
            "position_value": price * contracts,
            "initial_stop": price - (distance if direction == LONG else -distance),
            "risk_per_contract": distance,
            "formula": "contracts = floor((equity_notional × risk_percent) / (n_value × point_value))",
            "calculation": f"floor(({notional} × {RISK}) / ({market.n} × 1)) = floor({rounded(raw, 2)}) = {contracts}",
        }

    def filters(self, market: Market, direction: str, system: str) -> dict[str, Any]:
        """The filters block of a signal."""
        last = self.last_s1.get(market.symbol)
        s1_passed = system != "S1" or last is None or last["result"] != "winner"
        held = self.positions.get(market.symbol)
        in_market, in_group = len(held.units) if held else 0, self.units(market.group)
        risk = self.units() * UNIT_RISK
        checks: dict[str, dict[str, Any]] = {
            "s1_filter": {
                "applied": system == "S1",
                "system": system,
                "last_s1_trade": last,
                "passed": s1_passed,
                "reason": None if s1_passed else "Last S1 trade was winner, skipping per Rule 7",
            },
            "limit_market": {
                "symbol": market.symbol,
                "current": in_market,
                "max": MAX_UNITS,
                "passed": in_market < MAX_UNITS,
            },
            "limit_correlated": {
                "group": market.group,
                "symbols_in_group": sorted(m.symbol for m in self.markets.values() if m.group == market.group),
                "current": in_group,
                "max": MAX_GROUP,
                "passed": in_group < MAX_GROUP,
            },
            "limit_total": {
                "mode": "risk_cap",
                "current_units": self.units(),
                "max_units": MAX_TOTAL,
                "current_risk_percent": risk,
                "max_risk_percent": MAX_RISK,
                "passed": self.has_room(),
                "reason": f"{self.units()} of {MAX_TOTAL} units, {risk}% current + {UNIT_RISK}% new of {MAX_RISK}%",
            },
        }
        blocking = next((name for name, check in checks.items() if not check["passed"]), None)
        return {
            **checks,
            "all_passed": blocking is None,
            "blocking_filter": blocking,
            "evaluation_order": list(checks),
        }


def exit_context(position: Position, why: tuple[str, str, str, Decimal], price: Decimal, today: date) -> dict[str, Any]:
    """The exit block before the fill; ``why`` is reason, rule, trigger type and trigger price."""
    reason, rule, trigger_type, trigger = why
    return {
        "reason": reason,
        "rule": rule,
        "trigger_type": trigger_type,
        "trigger_price": trigger,
        "current_price": price,
        "breach_amount": position.sign * (trigger - price),
        "direction": position.direction,
        "contracts": position.contracts,
        "units": len(position.units),
        "entry_price": position.average,
        "entry_date": position.units[0].day.isoformat(),
        "hold_duration_days": (today - position.units[0].day).days,
        "max_favorable_excursion": position.best,
        "max_adverse_excursion": position.worst,
    }


def exit_pnl(position: Position, trigger: Decimal, fill: Decimal, commission: Decimal) -> dict[str, Any]:
    """The profit of an exit filled at ``fill``."""
    gross = position.pnl(fill)
    net = gross - commission
    first, cost = position.units[0], position.average * position.contracts
    ends = (position.average, fill) if position.direction == LONG else (fill, position.average)
    return {
        "expected_price": trigger,
        "fill_price": fill,
        "slippage": fill - trigger,
        "gross_pnl": gross,
        "commission": commission,
        "net_pnl": net,
        "pnl_percent": rounded(net / cost * 100, 1),
        "pnl_in_n": rounded(net / (first.n * position.contracts), 2),
        "calculation": f"({ends[1]} - {ends[0]}) × {position.contracts} = {gross}",
    }


def commission(contracts: int) -> Decimal:
    """Half a cent a share, at least 65 cents."""
    return max(cents(contracts * CENT / 2), Decimal("0.65"))
