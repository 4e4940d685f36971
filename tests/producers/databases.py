"""Hummingbot databases made in a test, row by row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tradetape.producers.simulator import DDL, START_MS

OLD_DDL = """
CREATE TABLE "Order" (id TEXT PRIMARY KEY, config_file_path TEXT, strategy TEXT, market TEXT, symbol TEXT,
    base_asset TEXT, quote_asset TEXT, creation_timestamp FLOAT, order_type TEXT, amount FLOAT, price FLOAT,
    last_status TEXT, last_update_timestamp FLOAT);
CREATE TABLE "OrderStatus" (id INTEGER PRIMARY KEY, order_id TEXT, timestamp FLOAT, status TEXT);
CREATE TABLE "TradeFill" (id INTEGER PRIMARY KEY, config_file_path TEXT, strategy TEXT, market TEXT, symbol TEXT,
    base_asset TEXT, quote_asset TEXT, timestamp FLOAT, order_id TEXT, trade_type TEXT, order_type TEXT,
    price FLOAT, amount FLOAT, trade_fee JSON, exchange_trade_id TEXT);
"""
"""Before scaled integers: plain numbers, seconds, no leverage, no position."""

FEE = '{"fee_type": "AddedToCost", "percent": "0.001", "percent_token": null, "flat_fees": []}'


class Database:
    """A database file to append rows to; ``scale`` is what numbers are multiplied with."""

    def __init__(self, path: Path, ddl: str = DDL) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript(ddl)

    def insert(self, table: str, **row: Any) -> None:
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', tuple(row.values()))

    def run(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executescript(statement)

    def order(self, order_id: str = "o1", **more: Any) -> None:
        row = {
            "id": order_id,
            "config_file_path": "bot_a.yml",
            "strategy": "pmm",
            "market": "kucoin",
            "symbol": "AAA-USDT",
            "base_asset": "AAA",
            "quote_asset": "USDT",
            "creation_timestamp": START_MS,
            "order_type": "LIMIT",
            "amount": 2_000_000,
            "leverage": 1,
            "price": 5_000_000,
            "last_status": "BuyOrderCreated",
            "last_update_timestamp": START_MS,
            "exchange_order_id": "x1",
            "position": "NIL",
        }
        self.insert("Order", **{**row, **more})

    def status(self, status: str, order_id: str | None = "o1", **more: Any) -> None:
        self.insert("OrderStatus", **{"order_id": order_id, "timestamp": START_MS + 5, "status": status, **more})

    def fill(self, trade_id: str = "t1", order_id: str = "o1", **more: Any) -> None:
        row = {
            "config_file_path": "bot_a.yml",
            "strategy": "pmm",
            "market": "kucoin",
            "symbol": "AAA-USDT",
            "base_asset": "AAA",
            "quote_asset": "USDT",
            "timestamp": START_MS + 5,
            "order_id": order_id,
            "trade_type": "BUY",
            "order_type": "LIMIT",
            "price": 5_000_000,
            "amount": 1_000_000,
            "leverage": 1,
            "trade_fee": FEE,
            "exchange_trade_id": trade_id,
            "position": "NIL",
        }
        self.insert("TradeFill", **{**row, **more})
