"""A simulated turtle: it trades breakouts by the rules of the document and logs every decision with its context."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from tradetape.producers.simulator.turtle.book import (
    INTERVAL,
    LONG,
    MAX_UNITS,
    RISK,
    SHORT,
    Book,
    Position,
    Unit,
    commission,
    exit_context,
    exit_pnl,
)
from tradetape.producers.simulator.turtle.desk import Desk
from tradetape.producers.simulator.turtle.market import CENT, WARM_UP, Market, rounded

MARKETS = (
    ("QQQ", "equity_index", "523.45"),
    ("SPY", "equity_index", "601.20"),
    ("XLE", "energy", "50.25"),
    ("GLD", "metals", "183.10"),
    ("TLT", "bonds", "94.80"),
)
OPENS, CLOSES = time(14, 30), time(21, 5)
ROOM = Decimal(60_000)
"""Buying power that is sure to pay for one more unit."""

S2_PERIOD, S1_PERIOD = 55, 20
EXIT_PERIODS = {"S1": 10, "S2": 20}
EXIT_RULES = {"S1": "Rule 13: 10-day exit", "S2": "Rule 14: 20-day exit"}
BLOCKED = {
    "s1_filter": "filtered_s1",
    "limit_market": "limit_market",
    "limit_correlated": "limit_correlated",
    "limit_total": "limit_total",
}
REFUSALS = ("rejected", "market_closed", "insufficient_shares")


class Turtle:
    """One bot. ``step`` lives through one day; ``defect`` bends its one sure trade."""

    def __init__(self, random: Random, number: int) -> None:
        self.random = random
        self.desk = Desk(random, number)
        self.markets = {name: Market(name, group, Decimal(price), random) for name, group, price in MARKETS}
        self.book = Book(self.markets)

    def begin(self, start: datetime) -> None:
        """Be at ``start`` or later, with enough bars to look back on."""
        self.desk.now = max(self.desk.now, start)
        if not self.markets["QQQ"].bars:
            for back in range(WARM_UP, 0, -1):
                for market in self.markets.values():
                    market.trade((self.desk.now - timedelta(days=back)).date())

    def step(self, defect: str = "") -> str:
        """One day: a monitor run and a scanner run. With ``defect`` one order is made sure of, and bent: its id."""
        self.desk.now = datetime.combine(self.desk.now.date() + timedelta(days=1), time(0), UTC)
        self.desk.defect, self.desk.order_id = defect, ""
        self.desk.at = self._news() if defect else ""
        if not defect:
            for market in self.markets.values():
                market.trade(self.desk.now.date())
        self._monitor()
        self._scan()
        return self.desk.order_id

    def _news(self) -> str:
        """A day on which one market breaks out, or falls through a stop where there is no room; returns its symbol."""
        free = [m for name, m in self.markets.items() if name not in self.book.positions]
        room = self.book.has_room(1 + len(self.book.positions))  # all that is held may grow before the entry
        if free and room and (self.book.buying_power() > ROOM or not self.book.positions):
            chosen = self.random.choice(free)
            news = {"close": max(bar.high for bar in chosen.bars[-S2_PERIOD:]) + chosen.n}
        else:
            position = self.book.positions[self.random.choice(sorted(self.book.positions))]
            chosen = position.market
            news = {"seen": max(position.stop - position.sign * 2 * CENT, CENT)}
        for market in self.markets.values():
            market.trade(self.desk.now.date(), **(news if market is chosen else {}))
        return chosen.symbol

    def _monitor(self) -> None:
        self.desk.run("monitor", OPENS)
        before = self.desk.now
        held = sorted(self.book.positions)
        self.desk.log("monitor_started", "executed", context={"run_id": self.desk.run_id, "positions": held})
        if self.random.random() < 0.1:
            self._disturbance()
        exits = pyramids = 0
        for symbol in held:
            done = self._check(self.book.positions[symbol])
            exits += done == "exit"
            pyramids += done == "pyramid"
        counts = {"positions_checked": len(held), "exits": exits, "pyramids": pyramids}
        self.desk.log("monitor_completed", "executed", context=counts | {"duration_sec": self._since(before)})

    def _disturbance(self) -> None:
        if self.random.random() < 0.3:
            self.desk.log("error_occurred", "recovered", reason="no answer from the data source within 5 s")
            return
        self.desk.log("connection_lost", "reconnect_failed", reason="socket closed by the broker")
        self.desk.log("connection_restored", "reconnected", context={"reason": "second attempt"})

    def _scan(self) -> None:
        self.desk.run("scanner", CLOSES)
        before = self.desk.now
        self.desk.log(
            "scanner_started", "executed", context={"run_id": self.desk.run_id, "symbols": list(self.markets)}
        )
        found = [self._look(market) for market in self.markets.values()]
        counts = {"signals_found": len(found) - found.count(""), "positions_opened": found.count("opened")}
        context = {"run_id": self.desk.run_id, **counts, "duration_sec": self._since(before)}
        self.desk.log("scanner_completed", "executed", context=context)

    def _since(self, before: datetime) -> int:
        return (self.desk.now - before) // timedelta(seconds=1)

    def _affordable(self, what: str, market: Market, sizing: Mapping[str, Any], blocks: Mapping[str, Any]) -> bool:
        if sizing["contracts"] and sizing["position_value"] <= self.book.buying_power():
            return True
        reason = f"Buying power ${self.book.buying_power()} < required ${sizing['position_value']}"
        self.desk.log(f"{what}_attempted", "insufficient_cash", market.symbol, reason, {**blocks, "reason": reason})
        return False

    # Positions

    def _check(self, position: Position) -> str:
        market, price, today = position.market, position.market.bars[-1].seen, self.desk.now.date()
        position.mark(price)
        period = EXIT_PERIODS[position.system]
        high, low = market.channel(period)
        channel = low if position.direction == LONG else high
        outcome, why = "hold", ("", "", "", price)
        if position.reaches(position.stop, price):
            outcome, why = "exit_stop_triggered", ("stop_hit", "Rule 10: 2N stop", "stop", position.stop)
        elif not position.reaches(price, channel):
            rule = EXIT_RULES[position.system]
            outcome, why = "exit_breakout_triggered", ("breakout_exit", rule, f"donchian_{period}", channel)
        elif self.book.can_pyramid(position) and position.reaches(price, position.next_price):
            outcome = "pyramid_triggered"
        context = {"market": market.context(price), "position": position.context(price, today)}
        leaves = outcome.startswith("exit")
        if leaves:
            context["exit"] = exit_context(position, why, price, today)
        self.desk.log("position_checked", outcome, market.symbol, context=context)
        if leaves:
            return self._exit(position, context, price)
        return self._pyramid(position, context, price) if outcome == "pyramid_triggered" else ""

    def _exit(self, position: Position, context: Mapping[str, Any], price: Decimal) -> str:
        side, contracts = ("SELL" if position.direction == LONG else "BUY"), position.contracts
        order = self.desk.order(position.market, side, contracts, price)
        if not self.desk.submit("exit", position.market, {**context, "order": order}):
            return ""
        filled = self.desk.filled(order, contracts)
        pnl = exit_pnl(position, context["exit"]["trigger_price"], filled["fill_price"], filled["commission"])
        best = position.best
        efficiency = rounded(pnl["gross_pnl"] / best, 2) if best > 0 else Decimal(0)
        told = {**context["exit"], "pnl": pnl, "exit_efficiency": efficiency}
        self.desk.fill("exit", "filled", position.market, {**context, "order": filled, "exit": told})
        self.book.realised += pnl["net_pnl"]
        del self.book.positions[position.market.symbol]
        if position.system == "S1":
            self.book.last_s1[position.market.symbol] = {
                "symbol": position.market.symbol,
                "direction": position.direction,
                "entry_date": position.units[0].day.isoformat(),
                "exit_date": self.desk.now.date().isoformat(),
                "entry_price": position.average,
                "exit_price": filled["fill_price"],
                "result": "loser" if told["reason"] == "stop_hit" else "winner",
                "pnl": pnl["net_pnl"],
                "pnl_in_n": pnl["pnl_in_n"],
            }
        return "exit"

    def _pyramid(self, position: Position, context: Mapping[str, Any], price: Decimal) -> str:
        market, last = position.market, position.units[-1]
        sizing = self.book.sizing(market, price, position.direction, position.system)
        contracts = sizing["contracts"]
        operator = "+" if position.direction == LONG else "-"
        pyramid = {
            "level": len(position.units) + 1,
            "direction": position.direction,
            "last_entry_price": last.price,
            "n_at_last_entry": last.n,
            "pyramid_interval": INTERVAL,
            "trigger_price": position.next_price,
            "current_price": price,
            "trigger_calculation": f"{last.price} {operator} (0.5 × {last.n}) = {position.next_price}",
            "n_current": market.n,
            "equity_notional": sizing["equity_notional"],
            "risk_percent": RISK,
            "new_contracts": contracts,
            "contracts_before": position.contracts,
            "contracts_after": position.contracts + contracts,
            "units_after": len(position.units) + 1,
            "max_units": MAX_UNITS,
            "stop_before": position.stop,
        }
        order = self.desk.order(market, "BUY" if position.direction == LONG else "SELL", contracts, price)
        blocks = {**context, "account": self.book.account(), "sizing": sizing, "pyramid": pyramid, "order": order}
        if not self._affordable("pyramid", market, sizing, blocks) or not self.desk.submit("pyramid", market, blocks):
            return ""
        filled, stop = self.desk.filled(order, contracts), position.stop
        position.units.append(Unit(filled["fill_price"], self.desk.now.date(), contracts, market.n))
        back = "-" if position.direction == LONG else "+"
        pyramid |= {
            "new_entry_price": filled["fill_price"],
            "n_at_new_entry": market.n,
            "stop_after": position.stop,
            "stop_calculation": f"{filled['fill_price']} {back} (2 × {market.n}) = {position.stop}",
            "stop_moved_by": position.stop - stop,
            "fill_price": filled["fill_price"],
        }
        held = position.context(price, self.desk.now.date())
        blocks = {"market": context["market"], "order": filled, "position": held, "pyramid": pyramid}
        self.desk.fill("pyramid", "filled", market, blocks)
        self.desk.log("stop_modified", "executed", market.symbol, context={"position": held, "pyramid": pyramid})
        return "pyramid"

    # Signals

    def _look(self, market: Market) -> str:
        price = market.bars[-1].close
        found = self._breakout(market, price)
        if found is None:
            self.desk.log("signal_detected", "no_breakout", market.symbol, context={"market": market.context(price)})
            return ""
        direction, system, period, level = found
        signal = {
            "direction": direction,
            "system": system,
            "trigger_price": level,
            "signal_price": price,
            "channel_period": period,
            "correlation_group": market.group,
            "breakout": {
                "type": "high" if direction == LONG else "low",
                "channel_value": level,
                "channel_start_date": market.bars[-period - 1].day.isoformat(),
                "bars_since_breakout": 0,
            },
        }
        context = {"market": market.context(price), "signal": signal}
        self.desk.log("signal_detected", f"breakout_{period}", market.symbol, context=context)
        filters = self.book.filters(market, direction, system)
        context |= {"account": self.book.account(), "filters": filters}
        outcome, reason = "approved", None
        if market.symbol in self.book.positions:
            outcome, reason = "already_in_position", f"{market.symbol} is held already"
        elif not filters["all_passed"]:
            blocking = filters["blocking_filter"]
            outcome, reason = BLOCKED[blocking], filters[blocking].get("reason") or f"{blocking} is reached"
        self.desk.log("signal_evaluated", outcome, market.symbol, reason, context)
        return "signal" if outcome != "approved" else self._enter(market, signal, context)

    def _breakout(self, market: Market, price: Decimal) -> tuple[str, str, int, Decimal] | None:
        for system, period in (("S2", S2_PERIOD), ("S1", S1_PERIOD)):
            high, low = market.channel(period)
            if price > high:
                return LONG, system, period, high
            if price < low:
                return SHORT, system, period, low
        return None

    def _enter(self, market: Market, signal: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
        price, direction = signal["signal_price"], signal["direction"]
        sizing = self.book.sizing(market, price, direction, signal["system"])
        contracts = sizing["contracts"]
        order = self.desk.order(
            market, "BUY" if direction == LONG else "SELL", contracts, price, signal["trigger_price"]
        )
        blocks = {**seen, "order": order, "sizing": sizing}
        if not self._affordable("entry", market, sizing, blocks):
            return "signal"
        sure = self.desk.at == market.symbol
        if not sure and self.random.random() < 0.08:
            order["fast_market"] |= {
                "detected": True,
                "spread_at_signal": Decimal("0.60"),
                "spread_percent": rounded(Decimal("0.60") / price * 100, 2),
                "execution_delayed": True,
                "delay_reason": "spread above its threshold",
                "delay_duration_sec": 30,
                "stabilization_price": price,
            }
            self.desk.log("entry_attempted", "delayed_fast_market", market.symbol, "spread 0.60 > 0.50", blocks)
        if not sure and self.random.random() < 0.08:
            refusal = self.random.choice(REFUSALS[: 3 if direction == SHORT else 2])
            self.desk.log("entry_attempted", refusal, market.symbol, f"broker: {refusal}", blocks)
            return "signal"
        if not self.desk.submit("entry", market, blocks):
            return "signal"
        if not sure and self.random.random() < 0.06:
            ending = self.random.choice(("cancelled", "expired"))
            context = {"market": seen["market"], "order": order}
            self.desk.log("entry_filled", ending, market.symbol, f"{ending} by the broker", context)
            return "signal"
        filled = self.desk.filled(order, contracts)
        unit = Unit(filled["fill_price"], self.desk.now.date(), contracts, market.n)
        position = Position(market, direction, signal["system"], [unit])
        self.book.positions[market.symbol] = position
        blocks = {
            "market": seen["market"],
            "signal": signal,
            "order": filled,
            "position": position.context(price, self.desk.now.date()),
        }
        first = contracts // 3
        if not sure and first and self.random.random() < 0.1:
            for outcome, part in (("partial_fill", first), ("filled", contracts - first)):
                executed = {**filled, "filled_quantity": part, "commission": commission(part)}
                self.desk.fill("entry", outcome, market, {**blocks, "order": executed})
        else:
            at_gap = filled["gap"]["is_gap_open"]
            self.desk.fill("entry", "filled_at_gap" if at_gap else "filled", market, blocks)
        return "opened"
