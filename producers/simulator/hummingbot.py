"""Hummingbot bots that never were: they quote both sides and write their own trade databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import NamedTuple

from tradetape.producers.simulator.ledger import SILENT, START_MS, Defects, Injected, Ledger, spoken, to_inject

SCALE = 6
TICK_MS = 5000
FEE = '{"fee_type": "AddedToCost", "percent": "0.001", "percent_token": null, "flat_fees": []}'

PAIRS = (("BTC", "USDT", "27000"), ("ETH", "USDT", "1800"), ("SOL", "USDT", "55"), ("AVAX", "USDT", "17"))
MARKETS = ("kucoin", "kucoin", "bitget", "binance_paper_trade")

DEFECTS = (
    "fill_without_order",
    "completed_without_fill",
    "completed_underfilled",
    "conflicting_terminals",
    "duplicate_terminal",
    "fill_after_terminal",
    "out_of_order",
    "fill_before_created",
)
"""What the history of an order can show; each is the code of its finding (fill_before_created is noted, not opened)."""

CODES: dict[str, tuple[str, str]] = {
    **{kind: (kind, "") for kind in DEFECTS},
    "malformed": ("unmapped", ""),
    "clock_skewed": ("clock_ahead", ""),
    "truncated_price": ("zero_price", ""),
    "wrong_arithmetic": ("overfill", ""),
    "silent": (
        "",
        "a database that no longer grows says nothing about its bot; a watchdog would have to look at the clock",
    ),
}
"""Everything that can be injected: the code that must catch it, or why nothing can."""

SKEW_MS = 60 * 365 * 86_400_000
"""How far a skewed clock runs ahead."""

DDL = """
CREATE TABLE "Metadata" ("key" TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY ("key"));
INSERT INTO "Metadata" VALUES ('local_db_version', '20220130');
CREATE TABLE "Order" (
    id TEXT NOT NULL, config_file_path TEXT NOT NULL, strategy TEXT NOT NULL, market TEXT NOT NULL,
    symbol TEXT NOT NULL, base_asset TEXT NOT NULL, quote_asset TEXT NOT NULL, creation_timestamp BIGINT NOT NULL,
    order_type TEXT NOT NULL, amount BIGINT NOT NULL, leverage INTEGER NOT NULL, price BIGINT NOT NULL,
    last_status TEXT NOT NULL, last_update_timestamp BIGINT NOT NULL, exchange_order_id TEXT, position TEXT,
    PRIMARY KEY (id));
CREATE TABLE "OrderStatus" (
    id INTEGER NOT NULL, order_id TEXT NOT NULL, timestamp BIGINT NOT NULL, status TEXT NOT NULL,
    PRIMARY KEY (id), FOREIGN KEY(order_id) REFERENCES "Order" (id));
CREATE TABLE "TradeFill" (
    config_file_path TEXT NOT NULL, strategy TEXT NOT NULL, market TEXT NOT NULL, symbol TEXT NOT NULL,
    base_asset TEXT NOT NULL, quote_asset TEXT NOT NULL, timestamp BIGINT NOT NULL, order_id TEXT NOT NULL,
    trade_type TEXT NOT NULL, order_type TEXT NOT NULL, price BIGINT NOT NULL, amount BIGINT NOT NULL,
    leverage INTEGER NOT NULL, trade_fee JSON NOT NULL, exchange_trade_id TEXT NOT NULL, position TEXT,
    PRIMARY KEY (market, order_id, exchange_trade_id), FOREIGN KEY(order_id) REFERENCES "Order" (id));
CREATE INDEX os_order_id_timestamp_index ON "OrderStatus" (order_id, timestamp);
"""


class _Step(NamedTuple):
    """One status of an order; ``amount`` is what was filled, in base units × 10^6."""

    status: str
    delay_ms: int
    amount: int = 0


def simulate_hummingbot(
    folder: Path,
    *,
    bots: int,
    orders_per_bot: int,
    seed: int,
    defects: Defects = (),
    start_ms: int = START_MS,
) -> Ledger:
    """Write one Hummingbot database per bot into ``folder`` (``sim_mm_1.sqlite``…), or go on with those there.

    ``defects`` names what to inject (of ``CODES``), once per bot, or how often per bot; a ``silent`` bot stops about in
    the middle. A bot's clock begins at ``start_ms`` (milliseconds since 1970), or after its last record where that is
    later. Raises ValueError for an unknown defect and for more defects than orders.
    """
    wanted = to_inject(defects, CODES, room=orders_per_bot, unit="orders")
    is_silent, kinds = SILENT in wanted, spoken(wanted)
    orders = max(len(kinds), orders_per_bot // 2) if is_silent else orders_per_bot
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    for number in range(1, bots + 1):
        path = folder / f"sim_mm_{number}.sqlite"
        is_new = not path.exists()
        with closing(sqlite3.connect(path)) as connection, connection:
            if is_new:
                connection.executescript(DDL)
            bot = _Bot(connection, number, seed, start_ms)
            bot.trade(orders, kinds, ledger)
            if is_silent:
                ledger.injected.append(Injected("silent", bot.instance, bot.instance, *CODES["silent"]))
            ledger.rows[bot.instance] = {
                table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
                for table in ("Order", "OrderStatus", "TradeFill")
            }
        ledger.files.append(path)
    return ledger


class _Bot:
    """Quotes both sides of one pair around a random walk, order after order."""

    def __init__(self, connection: sqlite3.Connection, number: int, seed: int, start_ms: int) -> None:
        self._connection = connection
        self.instance = f"sim_mm_{number}"
        own = f"max(timestamp) FILTER (WHERE timestamp < {start_ms + SKEW_MS // 2})"
        done, last_ms = connection.execute(f'SELECT count(*), {own} FROM "OrderStatus"').fetchone()
        self._random = Random(f"{seed}:{number}:{done}")
        self._base, self._quote, price = PAIRS[(number - 1) % len(PAIRS)]
        self._market = MARKETS[(number - 1) % len(MARKETS)]
        row = connection.execute('SELECT price FROM "Order" ORDER BY rowid DESC LIMIT 1').fetchone()
        self._mid = Decimal(row[0]).scaleb(-SCALE) if row else Decimal(price)
        self._clock = max(last_ms or 0, start_ms + number * 137) + TICK_MS

    def trade(self, orders: int, kinds: list[str], ledger: Ledger) -> None:
        """``orders`` orders, the defects ``kinds`` spread over them."""
        places = dict(zip(self._random.sample(range(orders), len(kinds)), kinds, strict=True))
        for index in range(orders):
            self._mid *= 1 + Decimal(self._random.randint(-30, 30)).scaleb(-4)
            kind = places.get(index)
            order_id = self._order(kind, buys=index % 2 == 0)
            self._clock += self._random.randint(1, TICK_MS)
            if kind is not None:
                ledger.injected.append(Injected(kind, self.instance, order_id, *CODES[kind]))

    def _order(self, kind: str | None, *, buys: bool) -> str:
        side = "Buy" if buys else "Sell"
        spread = Decimal(self._random.randint(5, 30)).scaleb(-4)
        price = _scaled(self._mid * (1 - spread if buys else 1 + spread))
        amount = self._random.randint(10, 500) * 10_000
        order_id = f"{side[0]}{self._base[0]}{self._quote[0]}{self._random.getrandbits(96):024x}"
        order_type = self._random.choice(("LIMIT", "LIMIT_MAKER"))
        steps = self._life(side, amount) if kind is None else self._defect(kind, side, amount)
        moment = self._clock
        place = (f"{self.instance}.yml", "pure_market_making", self._market, f"{self._base}-{self._quote}")
        assets = (self._base, self._quote)
        exchange_id = f"{self._random.getrandbits(96):024x}"
        statuses = []
        for step in steps:
            moment += step.delay_ms
            statuses.append((order_id, moment, step.status))
            if step.delay_ms < SKEW_MS:
                self._clock = max(self._clock, moment)
        if kind != "fill_without_order":
            ending = (statuses[-1][2], statuses[-1][1], exchange_id, "NIL")
            self._insert("Order", order_id, *place, *assets, statuses[0][1], order_type, amount, 1, price, *ending)
        said = side.upper()[:1] if kind == "malformed" else side.upper()
        paid = 0 if kind == "truncated_price" else price
        for step, status in zip(steps, statuses, strict=True):
            self._connection.execute('INSERT INTO "OrderStatus" (order_id, timestamp, status) VALUES (?, ?, ?)', status)
            if step.amount:
                what = (*place, *assets, status[1], order_id, said, order_type, paid, step.amount, 1)
                self._insert("TradeFill", *what, FEE, f"{self._random.getrandbits(96):024x}", "NIL")
        return order_id

    def _insert(self, table: str, *values: object) -> None:
        self._connection.execute(f'INSERT INTO "{table}" VALUES ({",".join("?" * len(values))})', values)

    def _life(self, side: str, amount: int) -> list[_Step]:
        """An order as it should be."""
        created = _Step(f"{side}OrderCreated", 0)
        outcome = self._random.random()
        if outcome < 0.45:
            return [created, _Step("OrderCancelled", self._pause())]
        if outcome < 0.50:
            return [created, _Step("OrderFailure", self._pause())]
        if outcome < 0.53:
            return [created, _Step("OrderExpired", self._pause())]
        if outcome < 0.60:
            return [created, self._fill(amount // 2), _Step("OrderCancelled", self._pause())]
        parts = self._random.randint(1, 3)
        part = amount // parts
        fills = [self._fill(part) for _ in range(parts - 1)] + [self._fill(amount - part * (parts - 1))]
        return [created, *fills, _Step(f"{side}OrderCompleted", 0)]

    def _defect(self, kind: str, side: str, amount: int) -> list[_Step]:
        """An order that shows ``kind`` and nothing else."""
        created, completed = _Step(f"{side}OrderCreated", 0), _Step(f"{side}OrderCompleted", 0)
        cancelled = _Step("OrderCancelled", self._pause())
        lives: dict[str, Callable[[], list[_Step]]] = {
            "fill_without_order": lambda: [self._fill(amount)],
            "completed_without_fill": lambda: [created, completed],
            "completed_underfilled": lambda: [created, self._fill(amount // 2), completed],
            "conflicting_terminals": lambda: [created, self._fill(amount), completed, cancelled],
            "duplicate_terminal": lambda: [created, cancelled, cancelled],
            "fill_after_terminal": lambda: [created, cancelled, self._fill(amount // 2)],
            "out_of_order": lambda: [created, _Step("OrderCancelled", -1 - self._pause())],
            "fill_before_created": lambda: [self._fill(amount), created, completed],
            "malformed": lambda: [created, self._fill(amount // 2), cancelled],
            "clock_skewed": lambda: [created, _Step("OrderCancelled", SKEW_MS)],
            "truncated_price": lambda: [created, self._fill(amount), completed],
            "wrong_arithmetic": lambda: [created, self._fill(amount), self._fill(amount // 10), completed],
        }
        return lives[kind]()

    def _fill(self, amount: int) -> _Step:
        return _Step("OrderFilled", self._pause(), amount)

    def _pause(self) -> int:
        return self._random.randint(1, TICK_MS)


def _scaled(value: Decimal) -> int:
    return int(value.scaleb(SCALE).to_integral_value())
