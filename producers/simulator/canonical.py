"""Canonical bots that never were: they trade a pair back and forth and write every event in the contract's own form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tradetape.producers.simulator.canonical_defects import DEFECTS, SKEW_US, TOLD, WRITTEN, Event
from tradetape.producers.simulator.ledger import SILENT, START_MS, Defects, Injected, Ledger, spoken, to_inject
from tradetape.producers.simulator.lines import BREAKS, broken_line, new_id
from tradetape.producers.simulator.walk import Walk
from tradetape.schemas import times

PAIRS = (("BTC-USDT", "42000"), ("ETH-USDT", "2500"), ("SOL-USDT", "95"), ("AVAX-USDT", "17"))
STEP_US = 60_000_000
FEE = Decimal("0.001")
LOT = Decimal("0.001")
CAPITAL = Decimal(100_000)


class Run(NamedTuple):
    """What one run of a bot wrote: its lines, without newlines, and the defects in them."""

    lines: list[bytes]
    injected: list[Injected]


def simulate(
    folder: Path,
    *,
    bots: int,
    steps: int,
    seed: int,
    defects: Defects = (),
    start_ms: int = START_MS,
) -> Ledger:
    """Let each bot write a run into its file (``canonical_bot_1.jsonl``…), or append it; arguments as of ``run``."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    for number in range(1, bots + 1):
        path = folder / f"canonical_bot_{number}.jsonl"
        written = run(path, number, steps=steps, seed=seed, defects=defects, start_ms=start_ms)
        ledger.rows[path.stem] = {"lines": append(path, written)}
        ledger.files.append(path)
        ledger.injected += written.injected
    return ledger


def run(
    path: Path,
    number: int,
    *,
    steps: int,
    seed: int,
    defects: Defects = (),
    start_ms: int = START_MS,
) -> Run:
    """The next run of the bot ``number`` that is called like the file at ``path``, where its runs so far are.

    A step is a trade or an order given up. ``defects`` names what to inject, once, or how often; a ``silent`` bot stops
    about in the middle. Its clock begins at ``start_ms`` (milliseconds since 1970), or after its last line where that
    is later. Raises ValueError for an unknown defect and for more defects than steps.
    """
    wanted = to_inject(defects, DEFECTS, room=steps)
    is_silent, kinds = SILENT in wanted, spoken(wanted)
    before = path.read_bytes().splitlines() if path.exists() else []
    random = Random(f"canonical:{seed}:{path.stem}:{len(before)}")
    bot = _Bot(path.stem, number, random, _last_moment(before, start_ms))
    bot.trade(max(len(kinds), steps // 2) if is_silent else steps, kinds)
    bot.end(is_silent=is_silent)
    return Run(bot.lines, bot.injected)


def append(path: Path, written: Run) -> int:
    """Put a run at the end of the file at ``path``; the number of its lines."""
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in written.lines)
    return path.read_bytes().count(b"\n")


class _Bot:
    """One run: buys and sells one pair, order after order, and numbers what it writes."""

    def __init__(self, instance: str, number: int, random: Random, clock: int) -> None:
        self.lines: list[bytes] = []
        self.injected: list[Injected] = []
        self._instance = instance
        self._random = random
        self._now = clock
        self._pair, price = PAIRS[(number - 1) % len(PAIRS)]
        self._walk = Walk(random, Decimal(price))
        self._run_id = new_id(random)
        self._sequence = 0
        self._realized = Decimal(0)
        self._write([self._event("system_started", {"version": "1.4.0"})])

    def trade(self, steps: int, kinds: list[str]) -> None:
        """``steps`` steps, the defects ``kinds`` spread over them."""
        places = dict(zip(self._random.sample(range(steps), len(kinds)), kinds, strict=True))
        for index in range(steps):
            self._now += STEP_US
            kind = places.get(index, "")
            subject = self._write(self._step(kind), kind)
            if kind == "malformed":
                self._garble()
            elif kind:
                self._inject(kind, subject)

    def end(self, *, is_silent: bool) -> None:
        """Close the run, unless the bot falls silent."""
        if is_silent:
            self._inject("silent", self._instance)
        else:
            self._write([self._event("system_stopped", {"reason": "shutdown", "initiated_by": "operator"})])

    def _inject(self, kind: str, subject: str) -> None:
        self.injected.append(Injected(kind, self._instance, subject, *DEFECTS[kind]))

    def _garble(self) -> None:
        """A line for each way to break one; they bear no number, so that nothing is missing for the reader."""
        for code in BREAKS:
            event = self._event("state_snapshot", {"state": "running"})
            self.lines.append(broken_line(event, code))
            self.injected.append(Injected("malformed", self._instance, event["event_id"], code))

    def _step(self, kind: str) -> list[Event]:
        """The bot's figures, its decision to go on, and a trade or an order given up."""
        snapshot = {"state": "running", "equity_quote": str(CAPITAL + self._realized)}
        decision = self._event("risk_decision", {"approved": True, "decision": "allow", "reason": "within limits"})
        before = [self._event("state_snapshot", snapshot), decision]
        chain = decision["event_id"]
        if kind == "conflicting_terminal":
            return before + self._abandoned(chain, "order_cancelled", "order_expired")
        if not kind and self._random.random() < 0.3:
            return before + self._abandoned(chain, self._random.choice(("order_cancelled", "order_expired")))
        return before + self._trade(chain)

    def _abandoned(self, chain: str, *endings: str) -> list[Event]:
        created = self._order(chain, "buy", self._walk.move(), self._quantity())
        gone = {"client_order_id": created["payload"]["client_order_id"], "reason": "refresh"}
        return [created, *(self._event(ending, gone, chain) for ending in endings)]

    def _trade(self, chain: str) -> list[Event]:
        """A position from its order to its end."""
        quantity, entry = self._quantity(), self._walk.move()
        position = {"position_id": f"p{self._random.getrandbits(48):012x}", "side": "long", "quantity": str(quantity)}
        opening = self._executed(chain, "buy", entry, quantity)
        opened = self._event("position_opened", {**position, "entry_price": str(entry)}, chain)
        leaving = self._walk.move()
        closing = self._executed(chain, "sell", leaving, quantity)
        profit = (leaving - entry) * quantity
        self._realized += profit
        figures = {"entry_price": str(entry), "exit_price": str(leaving), "realized_pnl": str(profit)}
        closed = self._event("position_closed", {**position, **figures, "exit_reason": "signal"}, chain)
        return [*opening, opened, *closing, closed]

    def _executed(self, chain: str, side: str, price: Decimal, quantity: Decimal) -> list[Event]:
        """An order that is filled in one part or two."""
        created = self._order(chain, side, price, quantity)
        order_id = created["payload"]["client_order_id"]
        first = quantity if self._random.random() < 0.5 else (quantity / 2).quantize(LOT)
        fills = [self._fill(chain, created["payload"], part) for part in (first, quantity - first) if part]
        return [created, *fills, self._event("order_completed", {"client_order_id": order_id, "side": side}, chain)]

    def _order(self, chain: str, side: str, price: Decimal, quantity: Decimal) -> Event:
        terms = {"side": side, "order_type": "limit", "price": str(price), "amount_base": str(quantity)}
        own = {"client_order_id": f"c{self._random.getrandbits(64):016x}", "is_live": True}
        return self._event("order_created", {**own, **terms}, chain)

    def _fill(self, chain: str, order: Mapping[str, Any], quantity: Decimal) -> Event:
        price = Decimal(order["price"])
        payload = {
            "client_order_id": order["client_order_id"],
            "fill_id": f"f{self._random.getrandbits(48):012x}",
            "side": order["side"],
            "fill_price": str(price),
            "fill_qty_base": str(quantity),
            "fill_qty_quote": str(price * quantity),
            "fee_asset": "USDT",
            "fee_amount": str(price * quantity * FEE),
            "liquidity_side": "maker",
        }
        return self._event("order_filled", payload, chain)

    def _quantity(self) -> Decimal:
        return self._random.randint(2, 900) * LOT

    def _event(self, event_type: str, payload: Mapping[str, Any], chain: str = "") -> Event:
        """An event of now, the first of its chain where ``chain`` is empty; numbered when it is written."""
        self._now += self._random.randint(1_000, 900_000)
        event_id = new_id(self._random)
        return {
            "event_id": event_id,
            "event_type": event_type,
            "event_version": "v1",
            "ts_utc": times.text(self._now),
            "producer": "simulator",
            "instance_name": self._instance,
            "controller_id": "epp_v2_4",
            "connector_name": "bitget",
            "trading_pair": self._pair,
            "correlation_id": chain or event_id,
            "payload": dict(payload),
        }

    def _write(self, events: list[Event], kind: str = "") -> str:
        """Number and write ``events``, with the defect ``kind`` in them; its subject."""
        told = TOLD[kind](events) if kind in TOLD else ""
        for event in events:
            self._sequence += 1
            event |= {"run_id": self._run_id, "sequence": self._sequence}
        written = WRITTEN[kind](events) if kind in WRITTEN else ""
        self.lines += [json.dumps(event).encode() for event in events]
        return told or written


def _last_moment(lines: Iterable[bytes], start_ms: int) -> int:
    """When the bot wrote last, in microseconds since 1970, ``start_ms`` at least; skewed lines say nothing."""
    last = start_ms * 1000
    for line in lines:
        try:
            moment = times.parse(json.loads(line)["ts_utc"])
        except (ValueError, TypeError, KeyError):
            continue
        if moment < start_ms * 1000 + SKEW_US // 2:
            last = max(last, moment)
    return last
