"""Trend bots that never were: cycle after cycle they look, decide, trade and write their own ledgers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tradetape.producers.simulator.ledger import SILENT, START_MS, Defects, Injected, Ledger, spoken, to_inject
from tradetape.producers.simulator.walk import Walk

LEDGER = Path("data") / "ledger" / "events.jsonl"
SEQUENCE = "sequence.txt"

SYMBOLS = {"BTCUSDT": "42000", "ETHUSDT": "2500", "SOLUSDT": "95"}
CYCLE_MS = 60_000
SKEW = timedelta(days=365 * 60)
FEE = Decimal("0.0004")

CONFIGURATION = {
    "initial_equity": 10_000,
    "max_daily_loss_pct": 5,
    "max_consecutive_losses": 2,
    "cooldown_seconds": 900,
    "news_risk_seconds": 3_600,
    "settings": {"risk": {"max_positions": 3}, "news": {"source": "wire"}},
}

DEFECTS: dict[str, tuple[str, str]] = {
    "lost": ("sequence_gap", ""),
    "doubled": ("sequence_repeated", ""),
    "reordered": ("sequence_regressed", ""),
    "orphaned": ("fill_without_order", ""),
    "malformed": ("unmapped", ""),
    "clock_skewed": ("clock_ahead", ""),
    "truncated_price": ("zero_price", ""),
    "wrong_arithmetic": ("arithmetic_mismatch", ""),
    "conflicting_terminal": ("conflicting_terminals", ""),
    "silent": ("", "a ledger that ends says nothing about its bot; a watchdog would have to look at the clock"),
}
"""What can be injected: the code that must catch it, or why nothing can."""

_BREAKS = frozenset({"lost", "doubled", "reordered", "malformed", "clock_skewed"})
"""Defects of lines: the rest is in what they say."""


def simulate(
    folder: Path,
    *,
    bots: int,
    steps: int,
    seed: int,
    defects: Defects = (),
    start_ms: int = START_MS,
) -> Ledger:
    """Write ``steps`` cycles of each bot into its ledger (``trend_bot_1/data/ledger/events.jsonl``…), or go on there.

    ``defects`` names what to inject, once per bot, or how often per bot (``DEFECTS`` itself: each once); a ``silent``
    bot stops about in the middle. A bot's clock begins at ``start_ms`` (milliseconds since 1970), or after its last
    line where that is later. Raises ValueError for an unknown defect and for more defects than cycles.
    """
    wanted = to_inject(defects, DEFECTS, room=steps, unit="cycles")
    is_silent, kinds = SILENT in wanted, spoken(wanted)
    cycles = max(len(kinds), steps // 2) if is_silent else steps
    ledger = Ledger()
    for number in range(1, bots + 1):
        bot = _Bot(folder / f"trend_bot_{number}" / LEDGER, number, seed, start_ms)
        bot.trade(cycles, kinds, ledger)
        if is_silent:
            bot.inject("silent", bot.instance, ledger)
        ledger.rows[bot.instance] = {LEDGER.name: bot.write(is_silent=is_silent)}
        ledger.files.append(bot.path)
    return ledger


class _Trade(NamedTuple):
    symbol: str
    quantity: Decimal
    entry: Decimal
    stop: Decimal
    goal: Decimal
    trade_id: str

    def order(self, role: str) -> str:
        """The id of the order that has this ``role`` in the trade."""
        return f"{role}_{self.trade_id}"


class _Bot:
    """Proposes a trade per cycle, and guards what it holds with a stop and a target."""

    def __init__(self, path: Path, number: int, seed: int, start_ms: int) -> None:
        self.path = path
        self.instance = f"trend_bot_{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.read_bytes() if path.exists() else b""
        self._lines_before = written.count(b"\n")
        sequence = path.parent / SEQUENCE
        self._next = int(sequence.read_text()) if sequence.exists() else 1
        self._random = Random(f"trend:{seed}:{number}:{self._next}")
        self._walks = {name: Walk(self._random, Decimal(price)) for name, price in SYMBOLS.items()}
        self._now = datetime.fromtimestamp(start_ms // 1000, UTC) + timedelta(seconds=number)
        if written:
            last = datetime.fromisoformat(json.loads(written.splitlines()[-1])["timestamp"])
            self._now = max(self._now, last + timedelta(milliseconds=CYCLE_MS))
        self._lines: list[bytes] = []
        self._break = ""
        self._broken = ""

    def trade(self, cycles: int, kinds: list[str], ledger: Ledger) -> None:
        """``cycles`` cycles, the defects ``kinds`` spread over them."""
        places = dict(zip(self._random.sample(range(cycles), len(kinds)), kinds, strict=True))
        self._publish("SYSTEM_STARTED", {"version": "0.1.0"}, "main")
        self._publish("CONFIGURATION_RECORDED", CONFIGURATION, "main")
        self._publish("ACCOUNT_SETTING_UPDATED", {"setting": "leverage", "value": 3}, "account")
        self._publish("ACCOUNT_SETTING_FAILED", {"setting": "margin_type", "error": "no change needed"}, "account")
        for index in range(cycles):
            kind = places.get(index)
            if kind is None:
                self._cycle("")
            else:
                self.inject(kind, self._cycle(kind), ledger)
            self._now += timedelta(milliseconds=CYCLE_MS + self._random.randint(0, 999))

    def inject(self, kind: str, subject: str, ledger: Ledger) -> None:
        """Note a defect that was written."""
        ledger.injected.append(Injected(kind, self.instance, subject, *DEFECTS[kind]))

    def write(self, *, is_silent: bool) -> int:
        """Append everything to the ledger; the number of its lines."""
        if not is_silent:
            self._publish("SYSTEM_STOPPED", {"reason": "shutdown", "initiated_by": "operator"}, "main")
        with self.path.open("ab") as file:
            file.writelines(self._lines)
        (self.path.parent / SEQUENCE).write_text(f"{self._next}\n")
        return self._lines_before + len(self._lines)

    def _cycle(self, kind: str) -> str:
        """One look at the markets, with the defect ``kind``; the subject of the defect."""
        self._broken = ""
        self._look()
        symbol = self._random.choice(list(SYMBOLS))
        outcome = 1.0 if kind else self._random.random()
        if outcome < 0.25:
            reason = self._random.choice(("cooldown", "spread too wide"))
            self._publish("ENTRY_SKIPPED", {"symbol": symbol, "reason": reason}, "strategy")
            subject = ""
        elif outcome < 0.4:
            self._propose(symbol)
            self._publish("RISK_REJECTED", {"symbol": symbol, "reasons": ["max_positions", "daily_loss"]}, "risk")
            subject = ""
        else:
            subject = self._trade(symbol, kind)
        self._publish(
            "TRADE_CYCLE_COMPLETED",
            {"candidates": list(SYMBOLS), "selected": [symbol] if outcome >= 0.4 else [], "summary": "cycle done"},
            "strategy",
        )
        return self._broken or subject

    def _look(self) -> None:
        self._publish("UNIVERSE_UPDATED", {"symbols": list(SYMBOLS), "filtered_count": 1}, "universe_selector")
        self._publish("SYMBOL_FILTERED", {"symbol": "DOGEUSDT", "reason": "volume below minimum"}, "universe_selector")
        for symbol, walk in self._walks.items():
            prices = [walk.move() for _ in range(4)]
            volume = Decimal(self._random.randint(1, 9000)).scaleb(-2)
            bar = {
                "open": prices[0],
                "high": max(prices),
                "low": min(prices),
                "close": prices[-1],
                "volume": volume,
            }
            self._publish("MARKET_TICK", {"symbol": symbol, "price": prices[-1], "timestamp": self._stamp()}, "market")
            self._publish("CANDLE_CLOSE", {"symbol": symbol, "interval": "1m", "ohlcv": bar}, "market")
        symbol = self._random.choice(list(SYMBOLS))
        rate = Decimal(self._random.randint(-50, 50)).scaleb(-6)
        self._publish(
            "FUNDING_UPDATE", {"symbol": symbol, "rate": rate, "mark_price": self._walks[symbol].price}, "market"
        )
        if self._random.random() < 0.2:
            self._news(symbol)

    def _news(self, symbol: str) -> None:
        story = {"source": "wire", "title": f"{symbol} in the news", "link": "news/1", "published": self._stamp()}
        self._publish("NEWS_INGESTED", story, "news")
        level = self._random.choice(("LOW", "MEDIUM", "HIGH"))
        flag = {"symbol": symbol, "risk_level": level, "reason": "keyword", "confidence": Decimal("0.7")}
        self._publish("NEWS_CLASSIFIED", flag, "news")
        if level == "HIGH":
            self._publish("CIRCUIT_BREAKER_TRIGGERED", {"reason": f"news on {symbol}"}, "risk")
            self._publish("MANUAL_INTERVENTION", {"action": "review positions", "reason": "circuit breaker"}, "risk")
            cleared = {"reason": "reviewed", "previously_flagged": [symbol]}
            self._publish("MANUAL_REVIEW_ACKNOWLEDGED", cleared, "operator")

    def _propose(self, symbol: str) -> tuple[Decimal, Decimal]:
        price = self._walks[symbol].price
        stop = _rounded(price * Decimal("0.98"))
        score = Decimal(self._random.randint(50, 99)).scaleb(-2)
        self._publish("SIGNAL_COMPUTED", {"symbol": symbol, "signal_type": "breakout", "score": score}, "strategy")
        proposal = {"symbol": symbol, "side": "BUY", "entry_price": price, "stop_price": stop}
        self._publish("TRADE_PROPOSED", proposal, "strategy")
        return price, stop

    def _trade(self, symbol: str, kind: str) -> str:
        """A position from its order to its end."""
        price, stop = self._propose(symbol)
        quantity = Decimal(self._random.randint(1, 900)).scaleb(-3)
        trade_id = f"{self._random.getrandbits(48):012x}"
        trade = _Trade(symbol, quantity, price, stop, _rounded(price * Decimal("1.03")), trade_id)
        self._publish("RISK_APPROVED", {"symbol": symbol, "trade_id": trade_id}, "risk")
        if kind == "conflicting_terminal":
            return self._refused(trade)
        if kind != "orphaned":
            self._place(trade, "entry", "BUY", price, "LIMIT")
        if self._random.random() < 0.3 and not kind:
            half = quantity / 2
            part = {"symbol": symbol, "filled_qty": half, "remaining_qty": quantity - half, "price": price}
            self._publish("ORDER_PARTIAL_FILL", part, "execution_engine")
        self._break = kind if kind in _BREAKS else ""
        opened = {"symbol": symbol, "side": "LONG", "quantity": quantity, "entry_price": price, "leverage": 3}
        self._publish("POSITION_OPENED", opened, "position_manager")
        self._fill(trade, "entry", "BUY", Decimal(0) if kind == "truncated_price" else price)
        self._place(trade, "stop", "SELL", trade.stop, "STOP_MARKET")
        self._place(trade, "target", "SELL", trade.goal, "TAKE_PROFIT_MARKET")
        self._watch(trade)
        self._close(trade, is_wrong=kind == "wrong_arithmetic")
        return trade.order("entry")

    def _refused(self, trade: _Trade) -> str:
        self._place(trade, "entry", "BUY", trade.entry, "LIMIT")
        gone = {"symbol": trade.symbol, "order_id": trade.order("entry"), "reason": "time in force"}
        self._publish("ORDER_CANCELLED", gone, "execution_engine")
        self._publish("ORDER_EXPIRED", gone, "execution_engine")
        return trade.order("entry")

    def _watch(self, trade: _Trade) -> None:
        symbol, target = trade.symbol, trade.order("target")
        orders = [trade.order("stop"), target]
        self._publish("PROTECTIVE_ORDERS_VERIFIED", {"symbol": symbol, "orders": orders}, "watchdog")
        if self._random.random() < 0.2:
            self._publish("PROTECTIVE_ORDERS_MISSING", {"symbol": symbol, "expected": [target]}, "watchdog")
            swapped = {"symbol": symbol, "old_orders": [target], "new_orders": [target]}
            self._publish("PROTECTIVE_ORDERS_REPLACED", swapped, "watchdog")
        moved = {"symbol": symbol, "field": "trailing", "old_value": False, "new_value": True}
        self._publish("POSITION_UPDATED", moved, "position_manager")

    def _close(self, trade: _Trade, *, is_wrong: bool) -> None:
        symbol, stopped = trade.symbol, self._random.random() < 0.5
        exit_price, done, other = (trade.stop, "stop", "target") if stopped else (trade.goal, "target", "stop")
        if stopped:
            hit = {"symbol": symbol, "stop_type": "initial", "trigger_price": exit_price}
            self._publish("STOP_TRIGGERED", hit, "position_manager")
        self._fill(trade, done, "SELL", exit_price)
        rest = {"symbol": symbol, "order_id": trade.order(other), "reason": "position closed"}
        self._publish(self._random.choice(("ORDER_CANCELLED", "ORDER_EXPIRED")), rest, "execution_engine")
        pnl = (exit_price - trade.entry) * trade.quantity + (trade.quantity * 100 if is_wrong else 0)
        closed = {"symbol": symbol, "exit_price": exit_price, "pnl": pnl, "reason": done}
        closing = self._publish("POSITION_CLOSED", closed, "position_manager")
        if is_wrong:
            self._broken = closing
        self._publish("RECONCILIATION_COMPLETED", {"discrepancies": []}, "reconciler")

    def _place(self, trade: _Trade, role: str, side: str, price: Decimal, kind: str) -> None:
        order = {"symbol": trade.symbol, "side": side, "quantity": trade.quantity, "price": price}
        own = {"order_type": kind, "client_order_id": trade.order(role)}
        self._publish("ORDER_PLACED", order | own, "execution_engine")

    def _fill(self, trade: _Trade, role: str, side: str, price: Decimal) -> None:
        fill = {"symbol": trade.symbol, "side": side, "quantity": trade.quantity, "price": price}
        fee = (price * trade.quantity * FEE).quantize(Decimal("1e-8"), ROUND_HALF_EVEN)
        self._publish("ORDER_FILLED", fill | {"fee": fee, "order_id": trade.order(role)}, "execution_engine")

    def _publish(self, event_type: str, payload: Mapping[str, Any], source: str) -> str:
        """Write one record; returns its id."""
        self._now += timedelta(milliseconds=self._random.randint(1, 40))
        event_id = _uuid(self._random)
        spoil, self._break = self._break, ""
        moment = self._now + SKEW if spoil == "clock_skewed" else self._now
        record = {
            "event_id": event_id,
            "event_type": "".join(part.capitalize() for part in event_type.split("_")),
            "timestamp": _iso(moment),
            "sequence_num": self._next,
            "payload": payload,
            "metadata": {"source": source},
        }
        self._next += 1
        line = json.dumps(record, default=float, separators=(",", ":")).encode() + b"\n"
        if spoil:
            self._broken = event_id
        self._lines = _SPOILS.get(spoil, _appended)(self._lines, line)
        return event_id

    def _stamp(self) -> str:
        return _iso(self._now)


def _appended(lines: list[bytes], line: bytes) -> list[bytes]:
    lines.append(line)
    return lines


_SPOILS: dict[str, Callable[[list[bytes], bytes], list[bytes]]] = {
    "lost": lambda lines, line: lines,
    "doubled": lambda lines, line: [*lines, line, line],
    "reordered": lambda lines, line: [*lines[:-1], line, lines[-1]],
    "malformed": lambda lines, line: [*lines, line[: len(line) // 2] + b"\n"],
}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(price: Decimal) -> Decimal:
    return price.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def _uuid(random: Random) -> str:
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
