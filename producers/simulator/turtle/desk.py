"""The desk of a simulated turtle: it writes the journal of runs, and sends orders with their context (rule 16)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

from tradetape.producers.simulator.turtle.book import commission
from tradetape.producers.simulator.turtle.market import CENT, Market, rounded


class Entry(NamedTuple):
    """One event as the bot logs it: the columns of its row but for the id."""

    timestamp: datetime
    event_type: str
    outcome: str
    outcome_reason: str | None
    run_id: str
    sequence: int
    symbol: str | None
    context: Any
    source: str
    dry_run: bool


class Desk:
    """``runs`` is what was logged, ``now`` the bot's clock. ``defect`` bends the next order of the market ``at``.

    ``order_id`` is the order that was bent.
    """

    def __init__(self, random: Random, number: int) -> None:
        self.random = random
        self.now = datetime(2000, 1, 1, tzinfo=UTC)
        self.runs: list[list[Entry]] = []
        self.run_id = ""
        self.defect = self.at = self.order_id = ""
        self._number = number
        self._orders = 0
        self._source = ""

    def run(self, source: str, at: time) -> None:
        """Begin a run at this time of the day."""
        self._source = source
        self.run_id = str(new_uuid(self.random))
        self.now = max(self.now, datetime.combine(self.now.date(), at, UTC))
        self.runs.append([])

    def log(
        self,
        event_type: str,
        outcome: str,
        symbol: str | None = None,
        reason: str | None = None,
        context: Any = None,
    ) -> None:
        """Log one event of the run."""
        self.now += timedelta(milliseconds=self.random.randint(1, 900))
        run = self.runs[-1]
        run.append(
            Entry(
                self.now,
                event_type,
                outcome,
                reason,
                self.run_id,
                len(run) + 1,
                symbol,
                {} if context is None else context,
                self._source,
                False,
            )
        )

    def order(
        self, market: Market, action: str, contracts: int, price: Decimal, signal_price: Decimal | None = None
    ) -> dict[str, Any]:
        """The order block before the order is filled."""
        self._orders += 1
        bar, previous = market.bars[-1], market.bars[-2].close
        level = price if signal_price is None else signal_price
        through = min(previous, bar.open) < level < max(previous, bar.open)
        return {
            "order_id": f"{self._number}{self._orders:05d}",
            "order_type": "MARKET",
            "action": action,
            "quantity": contracts,
            "limit_price": None,
            "submitted_at": _iso(self.now),
            "expected_price": price,
            "gap": {
                "is_gap_open": through,
                "gap_direction": ("up" if bar.open > previous else "down") if through else None,
                "previous_close": previous,
                "open_price": bar.open,
                "gap_size": bar.open - previous,
                "gap_percent": rounded((bar.open - previous) / previous * 100, 2),
                "signal_price": level,
                "gapped_through": through,
                "executed_at_open": through,
            },
            "fast_market": {
                "detected": False,
                "spread_at_signal": 10 * CENT,
                "spread_threshold": Decimal("0.50"),
                "spread_percent": rounded(10 * CENT / price * 100, 2),
                "execution_delayed": False,
                "delay_reason": None,
                "delay_duration_sec": 0,
                "stabilization_price": None,
            },
        }

    def filled(self, order: Mapping[str, Any], contracts: int) -> dict[str, Any]:
        """``order`` after it was executed whole."""
        price = max(order["expected_price"] + self.random.randint(-5, 10) * CENT, CENT)
        return {
            **order,
            "filled_at": _iso(self.now + timedelta(seconds=1)),
            "fill_price": price,
            "commission": commission(contracts),
            "slippage": price - order["expected_price"],
        }

    def _bends(self, market: Market, blocks: Mapping[str, Any]) -> str:
        """The defect of this order: the first in its market that day has it."""
        order_id = blocks["order"]["order_id"]
        if self.at != market.symbol or self.order_id not in ("", order_id):
            return ""
        self.order_id = order_id
        return self.defect

    def submit(self, what: str, market: Market, blocks: Mapping[str, Any]) -> bool:
        """Log the order as sent; whether it goes on to be filled."""
        defect, context = self._bends(market, blocks), dict(blocks)
        if defect == "wrong_arithmetic":
            name, key = ("sizing", "initial_stop") if "sizing" in context else ("exit", "breach_amount")
            context[name] = {**context[name], key: context[name][key] + 1}
        if defect != "orphaned":
            self.log(f"{what}_attempted", "submitted", market.symbol, context=context)
        if defect != "conflicting_terminal":
            return True
        self.log(f"{what}_attempted", "rejected", market.symbol, "broker: rejected", context)
        self.log(f"{what}_filled", "cancelled", market.symbol, "cancelled by the broker", context)
        return False

    def fill(self, what: str, outcome: str, market: Market, blocks: Mapping[str, Any]) -> None:
        """Log an execution of the order."""
        defect = self._bends(market, blocks)
        context: Any = dict(blocks)
        if defect == "truncated_price":
            context["order"] = {**context["order"], "fill_price": Decimal(0)}
        if defect == "malformed":
            context = ["order", blocks["order"]["order_id"]]
        for _ in range(2 if defect == "doubled" else 1):
            self.log(f"{what}_filled", outcome, market.symbol, context=context)


def new_uuid(random: Random) -> str:
    """A random UUID (version 4) of a seeded source."""
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
