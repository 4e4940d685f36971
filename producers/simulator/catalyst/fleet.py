"""Catalyst bots that never were: they trade on alerts and write their own event stores, as the document's code does."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from random import Random
from typing import Any

from tradetape.producers.simulator.catalyst.log import MIGRATION_DDL, SNAPSHOTS_DDL, STORE_DDL, EventLog, to_json
from tradetape.producers.simulator.ledger import SILENT, START_MS, Defects, Injected, Ledger, spoken, to_inject
from tradetape.producers.simulator.walk import Walk

TICKERS = (("AAPL", "189.50"), ("NVDA", "481.20"), ("AMC", "7.35"), ("PLTR", "18.40"))
STEP_MS = 60_000
THROTTLE = Decimal("0.001")
"""A price that moved less than this since the last one recorded is not recorded."""

CENT = Decimal("0.01")

DEFECTS: dict[str, tuple[str, str]] = {
    "lost": ("sequence_gap", ""),
    "doubled": ("overfill", ""),
    "reordered": ("sequence_regressed", ""),
    "orphaned": ("unmapped", ""),
    "malformed": ("unmapped", ""),
    "clock_skewed": ("out_of_order", ""),
    "truncated_price": ("zero_price", ""),
    "wrong_arithmetic": ("arithmetic_mismatch", ""),
    "conflicting_terminal": ("conflicting_terminals", ""),
    "silent": ("", "a bot that writes nothing leaves no event; the watchdog tells it when its time is over"),
}
"""What can be injected: the code that catches it, or why none does. An orphaned fill names no instrument, so it is
rejected before its order could be missed."""


def simulate(
    target: Path,
    *,
    bots: int,
    steps: int,
    seed: int,
    defects: Defects = (),
    start_ms: int = START_MS,
) -> Ledger:
    """Write one event store per bot into the folder ``target`` (``catalyst_1.db``…), or go on with those there.

    A step is one alert and what it leads to. Odd bots have the migration's tables, even ones those of the bot's own
    store. ``defects`` names what to inject, once per bot, or how often per bot. Raises ValueError for an unknown defect
    and for more defects than steps.
    """
    wanted = to_inject(defects, DEFECTS, room=steps)
    kinds = spoken(wanted)
    target.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    for number in range(1, bots + 1):
        path = target / f"catalyst_{number}.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(MIGRATION_DDL if number % 2 else STORE_DDL + SNAPSHOTS_DDL)
            bot = _Bot(connection, number, seed, start_ms)
            bot.trade(steps, kinds, ledger, silent=SILENT in wanted)
            ledger.rows[bot.instance] = {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("event_log", "event_snapshots")
            }
        ledger.files.append(path)
    return ledger


class _Bot:
    """Trades one ticker, alert after alert, one position at a time."""

    def __init__(self, connection: sqlite3.Connection, number: int, seed: int, start_ms: int) -> None:
        self.instance = f"catalyst_{number}"
        self._connection = connection
        done, last_ms = connection.execute("SELECT count(*), max(created_at) FROM event_log").fetchone()
        self._random = Random(f"catalyst:{seed}:{number}:{done}")
        self._log = EventLog(connection, self._random, max(last_ms or 0, start_ms + number * 137))
        self._ticker, price = TICKERS[(number - 1) % len(TICKERS)]
        self._walk = Walk(self._random, self._last_price() or Decimal(price), step=60)
        self._realized = Decimal(0)

    def _last_price(self) -> Decimal | None:
        row = self._connection.execute(
            "SELECT payload FROM event_log WHERE event_type = 'DAILY_PNL_CALCULATED' ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        return json.loads(row[0], parse_float=Decimal, parse_int=Decimal)["last_price"] if row else None

    def trade(self, steps: int, kinds: list[str], ledger: Ledger, *, silent: bool) -> None:
        """``steps`` alerts, the defects ``kinds`` spread over them; a ``silent`` bot stops after the last defect."""
        last = len(kinds) + (steps - len(kinds)) // 2 if silent else steps
        places = dict(zip(self._random.sample(range(last), len(kinds)), kinds, strict=True))
        for index in range(last):
            kind = places.get(index)
            with self._connection:
                subject = self._alert(kind)
                self._day()
            self._log.clock += STEP_MS
            if kind is not None:
                ledger.injected.append(Injected(kind, self.instance, subject, *DEFECTS[kind]))
        if silent:
            ledger.injected.append(Injected("silent", self.instance, self.instance, *DEFECTS["silent"]))

    def _alert(self, kind: str | None) -> str:
        """One alert and what it leads to; returns the native id of what a defect is in."""
        alert_id, signal_id = f"alert_{self._log.id()[:12]}", f"sig_{self._log.id()[:12]}"
        score = Decimal(self._random.randint(10, 99)).scaleb(-2)
        trades = kind is not None or score > Decimal("0.35")
        alert = {"alert_id": alert_id, "ticker": self._ticker}
        self._about("alert", alert_id, "ALERT_RECEIVED", {**alert, "title": f"{self._ticker} in the news"})
        classified = {
            **alert,
            "catalyst_type": self._random.choice(("earnings", "fda", "merger")),
            "score": score,
            "keywords_matched": ["beats", "guidance"],
            "confidence": score,
            "sentiment_sources": {"vader": score},
            "classification_version": "1.0",
        }
        self._about("alert", alert_id, "ALERT_CLASSIFIED", classified)
        self._about("alert", alert_id, "ALERT_SCORED", {"alert_id": alert_id, "score": score})
        decided: dict[str, Any] = {
            "alert_id": alert_id,
            "decision": "trade" if trades else "skip",
            "reasoning": "score over the threshold" if trades else "score under the threshold",
            "score": score,
            "min_score_threshold": Decimal("0.35"),
            "override_flags": [],
            "signal_id": signal_id if trades else None,
        }
        self._about("alert", alert_id, "ALERT_DECISION_MADE", decided, signal_id if trades else None)
        if not trades:
            self._about("alert", alert_id, "ALERT_SKIPPED", {"alert_id": alert_id, "reason": "score"})
            return alert_id
        signal = {
            "signal_id": signal_id,
            "ticker": self._ticker,
            "action": "buy",
            "confidence": score,
            "reasoning": "catalyst",
            "timeframe": "5m",
            "source_alert_id": alert_id,
        }
        caused = self._about("signal", signal_id, "SIGNAL_GENERATED", signal, signal_id)
        self._about("signal", signal_id, "RISK_CHECK_PASSED", {"check": "max_position", "signal_id": signal_id})
        return self._trade(kind, alert_id, signal_id, caused)

    def _trade(self, kind: str | None, alert_id: str, signal_id: str, caused: str) -> str:
        quantity = self._random.randint(1, 40) * 5
        price = self._walk.move()
        if kind is None and self._random.random() < 0.15:
            return self._failed_order(signal_id, quantity, price)
        if kind == "conflicting_terminal":
            order_id = self._submit(signal_id, "buy", quantity, price, caused)
            for ending in ("ORDER_CANCELLED", "ORDER_EXPIRED"):
                self._about("order", order_id, ending, {"order_id": order_id, "reason": "day over"}, signal_id)
            return order_id
        if kind == "orphaned":
            order_id = f"ord_{self._log.id()[:12]}"
            self._fill(order_id, signal_id, 100, price)
            return order_id
        order_id = self._submit(signal_id, "buy", quantity, price, caused)
        paid = Decimal(0) if kind == "truncated_price" else price
        skewed = self._log.clock - 45_000 if kind == "clock_skewed" else None
        self._fill(order_id, signal_id, quantity, paid, at=skewed)
        if kind == "doubled":
            self._fill(order_id, signal_id, quantity, paid)
        self._about("alert", alert_id, "ALERT_TRADE_EXECUTED", {"alert_id": alert_id, "order_id": order_id}, signal_id)
        position_id = self._position(kind, signal_id, quantity, price)
        return position_id if kind in ("lost", "reordered", "malformed", "wrong_arithmetic") else order_id

    def _failed_order(self, signal_id: str, quantity: int, price: Decimal) -> str:
        ending = self._random.choice(("ORDER_REJECTED", "ORDER_CANCELLED", "ORDER_EXPIRED"))
        order_id = self._submit(signal_id, "buy", quantity, price, None, accepted=ending != "ORDER_REJECTED")
        payload: dict[str, Any] = {"order_id": order_id, "reason": "day over"}
        if ending == "ORDER_REJECTED":
            payload = {
                "order_id": order_id,
                "reject_reason": "insufficient_buying_power",
                "broker_message": "insufficient buying power",
                "rejected_at": _iso(self._log.clock),
            }
        self._about("order", order_id, ending, payload, signal_id)
        return order_id

    def _submit(
        self, signal_id: str, side: str, quantity: int, price: Decimal, caused: str | None, *, accepted: bool = True
    ) -> str:
        order_id = f"ord_{self._log.id()[:12]}"
        order_type = self._random.choice(("market", "limit"))
        submitted = {
            "order_id": order_id,
            "signal_id": signal_id,
            "ticker": self._ticker,
            "side": side,
            "quantity": quantity,
            "order_type": order_type,
            "limit_price": price if order_type == "limit" else None,
            "stop_price": None,
            "extended_hours": False,
        }
        event_id = self._about("order", order_id, "ORDER_SUBMITTED", submitted, signal_id, causation_id=caused)
        if accepted:
            self._about("order", order_id, "ORDER_ACCEPTED", {"order_id": order_id}, signal_id, causation_id=event_id)
        return order_id

    def _fill(self, order_id: str, signal_id: str, quantity: int, price: Decimal, *, at: int | None = None) -> None:
        filled = {
            "order_id": order_id,
            "filled_quantity": quantity,
            "filled_price": price,
            "fill_time": _iso(self._log.clock),
            "slippage": Decimal(self._random.randint(-3, 3)).scaleb(-4),
            "liquidity": self._random.choice(("maker", "taker", None)),
        }
        if quantity > 100 and at is None:
            part = {**filled, "filled_quantity": quantity // 2, "remaining_quantity": quantity - quantity // 2}
            self._about("order", order_id, "ORDER_PARTIALLY_FILLED", part, signal_id)
        self._about("order", order_id, "ORDER_FILLED", filled, signal_id, at=at)

    def _position(self, kind: str | None, signal_id: str, quantity: int, entry: Decimal) -> str:
        """Opened, followed tick by tick and closed by its stop, its target or by hand; returns its id."""
        position_id = f"pos_{self._log.id()[:12]}"
        stop, target = _cents(entry * Decimal("0.985")), _cents(entry * Decimal("1.02"))
        opened = {
            "position_id": position_id,
            "ticker": self._ticker,
            "side": "long",
            "quantity": quantity,
            "entry_price": entry,
            "signal_id": signal_id,
            "stop_loss_price": stop,
            "take_profit_price": target,
            "cost_basis": entry * quantity,
        }
        began = self._log.clock
        self._about("position", position_id, "POSITION_OPENED", opened, signal_id)
        told, injected = entry, kind not in ("lost", "reordered", "malformed")
        for _ in range(30):
            price = self._walk.move()
            self._log.clock += 5_000
            if abs(price - told) / told > THROTTLE or not injected:
                profits = [(one - entry) * quantity for one in (told, price)]
                self._priced(position_id, (told, price), profits, None if injected else kind)
                told, injected = price, True
            if price <= stop or price >= target:
                break
        reason = "stop_loss" if price <= stop else "take_profit" if price >= target else "manual"
        if reason != "manual":
            level = {"stop_loss_price": stop} if reason == "stop_loss" else {"take_profit_price": target}
            triggered = {"position_id": position_id, "trigger_price": price, **level}
            self._about("position", position_id, f"{reason.upper()}_TRIGGERED", triggered)
        order_id = self._submit(signal_id, "sell", quantity, price, None)
        self._fill(order_id, signal_id, quantity, price)
        profit = (price - entry) * quantity
        self._realized += profit
        closed = {
            "position_id": position_id,
            "ticker": self._ticker,
            "side": "long",
            "exit_reason": reason,
            "exit_price": price,
            "entry_price": entry,
            "quantity": quantity,
            "realized_pnl": profit + 100 if kind == "wrong_arithmetic" else profit,
            "hold_duration_seconds": (self._log.clock - began) // 1000,
            "return_pct": _cents((price / entry - 1) * 100),
        }
        last = self._about("position", position_id, "POSITION_CLOSED", closed, order_id)
        state = {"position_id": position_id, "status": "closed", "exit_price": price, "realized_pnl": profit}
        self._log.snapshot(("position", position_id), state, last)
        return position_id

    def _priced(
        self, position_id: str, prices: tuple[Decimal, Decimal], profits: list[Decimal], kind: str | None
    ) -> None:
        payload = {
            "position_id": position_id,
            "old_price": prices[0],
            "new_price": prices[1],
            "old_unrealized_pnl": profits[0],
            "new_unrealized_pnl": profits[1],
            "price_source": "alpaca",
        }
        broken = to_json(payload)[:-20]
        written = broken if kind == "malformed" else payload
        skip = 1 if kind == "lost" else 0
        event_id = self._about("position", position_id, "POSITION_PRICE_UPDATED", written, skip=skip)
        if kind == "reordered":
            self._about("position", position_id, "POSITION_PRICE_UPDATED", payload)
            self._log.swap_last()
        elif kind is None and self._random.random() < 0.2:
            state = {"position_id": position_id, "status": "open", "current_price": prices[1]}
            self._log.snapshot(("position", position_id), state, event_id)

    def _day(self) -> None:
        """The bot's own figures, after each alert."""
        portfolio = ("portfolio", self.instance)
        snapshot = {"equity": 100_000 + self._realized, "cash": 100_000 + self._realized, "positions": {}}
        self._about(*portfolio, "PORTFOLIO_SNAPSHOT_CREATED", {**snapshot, "realized_pnl": self._realized})
        figures = {"date": _iso(self._log.clock)[:10], "realized_pnl": self._realized, "last_price": self._walk.price}
        self._about(*portfolio, "DAILY_PNL_CALCULATED", figures)

    def _about(
        self,
        kind: str,
        name: str,
        event_type: str,
        payload: Mapping[str, Any] | str,
        correlation_id: str | None = None,
        **options: Any,
    ) -> str:
        """Write one event of the aggregate ``kind`` ``name``; ``options`` as ``EventLog.append`` takes them."""
        source = {"order": "order_executor", "position": "position_manager", "alert": "alerts"}.get(kind, kind)
        return self._log.append(
            event_type, (kind, name), payload, source=source, correlation_id=correlation_id, **options
        )


def _cents(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_HALF_EVEN)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).replace(tzinfo=None).isoformat()
