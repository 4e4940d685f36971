"""A simulated Quantum bot: it follows its signals with one symbol and one position at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from tradetape.producers.simulator.ledger import Injected, Ledger
from tradetape.producers.simulator.quantum.writer import Writer
from tradetape.producers.simulator.walk import Walk

DEFECTS: Mapping[str, tuple[str, str]] = {
    "lost": ("", "entries are not numbered, and nothing compares a bot's position with its executions yet"),
    "doubled": ("overfill", ""),
    "reordered": ("fill_before_created", ""),
    "orphaned": ("fill_without_order", ""),
    "malformed": ("unmapped", ""),
    "clock_skewed": ("clock_ahead", ""),
    "truncated_price": ("zero_price", ""),
    "wrong_arithmetic": ("arithmetic_mismatch", ""),
    "conflicting_terminal": ("fill_after_terminal", ""),
    "execution_power": ("execution_power_not_none", ""),
    "silent": ("", "the watchdog tells it when its time is over, no record does"),
}
"""What can be injected: the code that must catch it, or why nothing can."""

SYMBOLS = (("BTCUSDT", "27000"), ("ETHUSDT", "1800"), ("SOLUSDT", "55"))
FAR_AHEAD = "2099-01-01T00:00:00.000000Z"

_CENT = Decimal("0.01")


@dataclass(slots=True)
class _Trade:
    signal_id: str
    long: bool
    size: Decimal
    entry: Decimal
    stop: Decimal
    request_id: str = ""
    position_id: str = ""
    fees: Decimal = Decimal(0)

    @property
    def direction(self) -> str:
        return "LONG" if self.long else "SHORT"

    def profit(self, price: Decimal) -> Decimal:
        return (price - self.entry) * self.size * (1 if self.long else -1)


class Bot:
    """One symbol, one position at a time."""

    def __init__(self, writer: Writer, instance: str, number: int, seed: int) -> None:
        self._writer = writer
        self.instance = instance
        self._random = Random(f"{seed}:{number}:{sum(writer.added().values())}")
        self._symbol, price = SYMBOLS[(number - 1) % len(SYMBOLS)]
        self._walk = Walk(self._random, Decimal(writer.last_price() or price))
        self._regime = "RANGING"

    def trade(self, steps: int, kinds: list[str], ledger: Ledger) -> None:
        """``steps`` turns, the defects ``kinds`` spread over them, and the kill switch."""
        calm = [kind for kind in kinds if kind != "silent"]
        silent = len(kinds) > len(calm)
        places = dict(zip(self._random.sample(range(steps - silent), len(calm)), calm, strict=True))
        for index in range(steps - silent):
            kind = places.get(index, "")
            subject = self._turn(index, kind)
            if kind:
                ledger.injected.append(Injected(kind, self.instance, subject, *DEFECTS[kind]))
        if silent:
            ledger.injected.append(Injected("silent", self.instance, self.instance, *DEFECTS["silent"]))
        else:
            self._kill()
        self._writer.flush()

    def _turn(self, index: int, kind: str) -> str:
        """One turn; returns what a defect in it is about."""
        self._look_at_market(index)
        signal_id = self._id("sig")
        if not kind and index % 5 == 4:
            gate = {"reason": "confidence below gate", "gate_failed": "confidence", "inputs_summary": {"edge": 12}}
            self._add("signals.advisory.no_signal", **gate)
            return ""
        long = self._random.random() < 0.5
        price = self._walk.price
        size = Decimal(self._random.randint(10, 900)).scaleb(-3)
        trade = _Trade(signal_id, long, size, price, self._cents(price * Decimal("0.98" if long else "1.02")))
        self._signal(trade, "FULL" if kind == "execution_power" else "NONE")
        evaluation_id = self._evaluate(trade, vetoed=not kind and index % 6 == 5)
        if not evaluation_id:
            return ""
        trade.request_id = self._request(trade, evaluation_id)
        order_id = self._enter(trade, trade.request_id, kind, rejected=not kind and index % 8 == 7)
        if not order_id:
            return ""
        subject = self._leave(trade, kind)
        return signal_id if kind == "execution_power" else subject or order_id

    def _look_at_market(self, index: int) -> None:
        opened = self._walk.price
        prices = [self._walk.move() for _ in range(3)]
        for price in prices:
            self._tick(price)
        self._writer.begin_chain()
        bar = {"open": opened, "high": max(opened, *prices), "low": min(opened, *prices), "close": prices[-1]}
        self._add("market.candle.new", symbol=self._symbol, timeframe="1m", **bar, volume=Decimal("12.75"))
        before, self._regime = self._regime, self._random.choice(("TRENDING", "RANGING", "CHAOTIC"))
        self._add(
            "regime.classification.update",
            symbol=self._symbol,
            regime=self._regime,
            confidence=Decimal("0.82"),
            previous_regime=before,
            changed=before != self._regime,
        )
        if index % 7 == 6:
            spike = {"current_volatility": "0.05", "baseline_volatility": "0.02", "spike_ratio": "2.5"}
            self._add("regime.volatility.spike", symbol=self._symbol, **spike)

    def _signal(self, trade: _Trade, execution_power: str) -> None:
        self._add(
            "signals.advisory.new",
            signal_id=trade.signal_id,
            symbol=self._symbol,
            edge_score=self._random.randint(55, 95),
            confidence=Decimal("0.71"),
            regime_fit=True,
            regime=self._regime,
            recommended_action=trade.direction,
            reasoning="momentum with the regime",
            model_version="2.4.1",
            execution_power=execution_power,
        )

    def _evaluate(self, trade: _Trade, *, vetoed: bool) -> str:
        evaluation_id = self._id("eval")
        allowed = {"symbol": self._symbol, "direction": trade.direction, "max_size": str(trade.size)}
        checks = ("trade_risk_passed", "daily_risk_passed", "drawdown_passed", "system_integrity_passed")
        self._add(
            "risk.evaluation.complete",
            evaluation_id=evaluation_id,
            signal_id=trade.signal_id,
            decision="VETOED" if vetoed else "APPROVED",
            veto_reason="daily risk budget is used up" if vetoed else "",
            modifications="",
            risk_dimensions=dict.fromkeys(checks, not vetoed),
            position_allowed=allowed | {"max_risk_usd": "250.5"},
        )
        self._add(
            "audit.decision.log",
            decision_id=self._id("dec"),
            service="risk_kernel",
            decision_type="risk_evaluation",
            input_summary={"signal_id": trade.signal_id},
            output={"decision": "VETOED" if vetoed else "APPROVED"},
            reasoning="all dimensions",
            policy_references=["GOVERNANCE.md#risk"],
        )
        return "" if vetoed else evaluation_id

    def _request(self, trade: _Trade, evaluation_id: str) -> str:
        request_id = self._id("req")
        self._add(
            "trades.request.new",
            request_id=request_id,
            evaluation_id=evaluation_id,
            symbol=self._symbol,
            direction=trade.direction,
            size=trade.size,
            entry_price=trade.entry,
            stop_loss=trade.stop,
            risk_amount=self._cents(abs(trade.entry - trade.stop) * trade.size),
            risk_percent=Decimal("0.5"),
        )
        return request_id

    def _enter(self, trade: _Trade, request_id: str, kind: str, *, rejected: bool) -> str:
        """Order and position; returns the order's id, empty if the exchange rejects it."""
        order_id = self._id("ord")
        if kind == "reordered":
            self._fill(trade, request_id, order_id, trade.entry)
        if kind != "orphaned":
            self._submit(request_id, order_id, trade, buys=trade.long)
        if rejected or kind == "conflicting_terminal":
            reason = {"symbol": self._symbol, "reason": "insufficient margin"}
            self._add("trades.order.rejected", request_id=request_id, order_id=order_id, **reason)
        if rejected:
            return ""
        if kind not in ("lost", "reordered"):
            price = Decimal(0) if kind == "truncated_price" else trade.entry
            fill_id = self._fill(trade, request_id, order_id, price, skewed=kind == "clock_skewed")
            if kind == "doubled":
                self._fill(trade, request_id, order_id, price, fill_id=fill_id)
        trade.position_id = self._id("pos")
        self._position("position.opened", trade, entry_price=trade.entry, stop_loss=trade.stop, risk_amount="54.5")
        return order_id

    def _leave(self, trade: _Trade, kind: str) -> str:
        """From the open position to the closed one; returns its id where a defect is about it."""
        opened = self._writer.now_ms
        for turn in range(2):
            price = self._walk.move()
            self._tick(price)
            if kind == "malformed" and turn == 0:
                self._writer.write(
                    "position.state.update", {"payload": f'{{"position_id": "{trade.position_id}", "size": '}
                )
                continue
            self._position(
                "position.state.update",
                trade,
                entry_price=trade.entry,
                current_price=price,
                unrealized_pnl=trade.profit(price),
                unrealized_pnl_percent=self._percent(trade, price),
                stop_loss=trade.stop,
                age_seconds=(self._writer.now_ms - opened) // 1000,
            )
        price = self._walk.price
        stopped = self._random.random() < 0.3
        if stopped:
            hit = {"trigger_price": price, "stop_price": trade.stop}
            self._add("exit.stop.triggered", position_id=trade.position_id, symbol=self._symbol, **hit)
        self._add(
            "exit.decision.made",
            position_id=trade.position_id,
            symbol=self._symbol,
            decision="EXIT_FULL",
            reason="stop" if stopped else "time_exit",
            exit_percent=100,
            new_stop="null",
            priority="URGENT" if stopped else "MEDIUM",
        )
        order_id = self._id("ord")
        self._submit(trade.request_id, order_id, trade, buys=not trade.long)
        self._fill(trade, trade.request_id, order_id, price)
        self._close(trade, price, opened, wrong=kind == "wrong_arithmetic", stopped=stopped)
        return trade.position_id if kind in ("malformed", "wrong_arithmetic", "lost") else ""

    def _close(self, trade: _Trade, price: Decimal, opened: int, *, wrong: bool = False, stopped: bool = True) -> None:
        self._position(
            "position.closed",
            trade,
            entry_price=trade.entry,
            exit_price=price,
            realized_pnl=trade.profit(price) + (1000 if wrong else 0),
            realized_pnl_percent=self._percent(trade, price),
            hold_duration_seconds=(self._writer.now_ms - opened) // 1000,
            exit_reason="stop" if stopped else "time",
        )
        self._daily_status("0.4", "40.25")

    def _kill(self) -> None:
        """A large loss, and what it sets off (section 5 of the document)."""
        self._writer.begin_chain()
        price = self._walk.price
        trade = _Trade(self._id("sig"), True, Decimal("1"), self._cents(price * Decimal("1.1")), price, self._id("pos"))
        self._position(
            "position.closed",
            trade,
            entry_price=trade.entry,
            exit_price=price,
            realized_pnl=trade.profit(price),
            realized_pnl_percent=self._percent(trade, price),
            hold_duration_seconds=3600,
            exit_reason="stop",
        )
        self._daily_status("-5.2", "-520")
        fired = {"trigger": "daily_loss_exceeded", "trigger_value": "-5.2", "threshold": "-5.0"}
        done = {"severity": "CRITICAL", "action_taken": "all orders cancelled", "human_override_required": True}
        self._add("risk.kill_switch.activated", **fired, **done)
        self._add("system.kill_switch.activated", **fired, **done)
        self._add(
            "system.alert.triggered",
            alert_id=self._id("alert"),
            severity="CRITICAL",
            source="kill_switch_service",
            message="Kill-switch activated: Daily loss -5.2%",
            details={"daily_pnl_percent": "-5.2"},
        )

    def _submit(self, request_id: str, order_id: str, trade: _Trade, *, buys: bool) -> None:
        self._add(
            "trades.order.submitted",
            request_id=request_id,
            order_id=order_id,
            symbol=self._symbol,
            side="BUY" if buys else "SELL",
            type="MARKET",
            size=trade.size,
            price="null",
        )

    def _fill(
        self,
        trade: _Trade,
        request_id: str,
        order_id: str,
        price: Decimal,
        *,
        fill_id: str = "",
        skewed: bool = False,
    ) -> str:
        fill_id = fill_id or self._id("fill")
        fees = (price * trade.size * Decimal("0.0004")).quantize(Decimal("1e-8"))
        what = {"fill_id": fill_id, "symbol": self._symbol, "fill_price": price, "fill_size": trade.size, "fees": fees}
        when = {"timestamp": FAR_AHEAD} if skewed else {}
        self._add("trades.order.filled", request_id=request_id, order_id=order_id, **what, **when)
        return fill_id

    def _add(self, stream: str, **payload: Any) -> None:
        self._writer.add(self._random, stream, payload)

    def _position(self, stream: str, trade: _Trade, **more: Any) -> None:
        who = {"position_id": trade.position_id, "symbol": self._symbol, "direction": trade.direction}
        self._add(stream, **who, size=trade.size, **more)

    def _daily_status(self, percent: str, usd: str) -> None:
        self._add(
            "risk.daily_status.update",
            daily_pnl_percent=percent,
            daily_pnl_usd=usd,
            open_positions=0,
            total_exposure_percent="0",
            drawdown_from_hwm="1.5",
            risk_budget_remaining="60",
        )

    def _tick(self, price: Decimal) -> None:
        self._add("market.tick.price", symbol=self._symbol, price=price)

    def _percent(self, trade: _Trade, price: Decimal) -> Decimal:
        return self._cents(trade.profit(price) / (trade.entry * trade.size) * 100)

    @staticmethod
    def _cents(value: Decimal) -> Decimal:
        return value.quantize(_CENT)

    def _id(self, prefix: str) -> str:
        return f"{prefix}-{self._random.getrandbits(48):012x}"
