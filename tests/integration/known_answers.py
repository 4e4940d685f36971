"""What plain SQL and Decimal say about a Hummingbot database, without a line of Tradetape's code (P-10).

Definitions are those of ../shared/data/README.md.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Context, Decimal
from pathlib import Path

TERMINAL = "('OrderCancelled', 'OrderFailure', 'OrderExpired', 'BuyOrderCompleted', 'SellOrderCompleted')"
COMPLETED = "('BuyOrderCompleted', 'SellOrderCompleted')"
WIDE = Context(prec=100)
MICRO = Decimal("1e-6")

FINDINGS = {
    "fill_without_order": 'SELECT DISTINCT order_id FROM TradeFill WHERE order_id NOT IN (SELECT id FROM "Order")',
    "completed_without_fill": f"""
        SELECT DISTINCT order_id FROM OrderStatus WHERE status IN {COMPLETED}
        AND order_id NOT IN (SELECT order_id FROM TradeFill)""",
    "completed_underfilled": f"""
        SELECT o.id FROM "Order" o JOIN (SELECT order_id, sum(amount) filled FROM TradeFill GROUP BY 1) f
        ON f.order_id = o.id WHERE f.filled < o.amount
        AND o.id IN (SELECT order_id FROM OrderStatus WHERE status IN {COMPLETED})""",
    "overfill": """
        SELECT o.id FROM "Order" o JOIN (SELECT order_id, sum(amount) filled FROM TradeFill GROUP BY 1) f
        ON f.order_id = o.id WHERE f.filled > o.amount""",
    "conflicting_terminals": f"""
        SELECT order_id FROM OrderStatus WHERE status IN {TERMINAL}
        GROUP BY 1 HAVING count(DISTINCT status) > 1""",
    "duplicate_terminal": f"""
        SELECT DISTINCT order_id FROM (SELECT order_id FROM OrderStatus WHERE status IN {TERMINAL}
        GROUP BY order_id, status HAVING count(*) > 1)""",
    "fill_after_terminal": f"""
        SELECT DISTINCT f.order_id FROM OrderStatus f JOIN OrderStatus t ON t.order_id = f.order_id AND t.id < f.id
        WHERE f.status = 'OrderFilled' AND t.status IN {TERMINAL}""",
    "out_of_order": """
        SELECT DISTINCT order_id FROM (SELECT order_id, timestamp,
        lag(timestamp) OVER (PARTITION BY order_id ORDER BY id) before FROM OrderStatus) WHERE timestamp < before""",
    "zero_price": "SELECT order_id FROM TradeFill WHERE price = 0",
}

TYPES = {
    "order_created": "SELECT count(*) FROM OrderStatus WHERE status LIKE '%OrderCreated'",
    "order_cancelled": "SELECT count(*) FROM OrderStatus WHERE status = 'OrderCancelled'",
    "order_failed": "SELECT count(*) FROM OrderStatus WHERE status = 'OrderFailure'",
    "order_expired": "SELECT count(*) FROM OrderStatus WHERE status = 'OrderExpired'",
    "order_completed": "SELECT count(*) FROM OrderStatus WHERE status LIKE '%OrderCompleted'",
    "order_filled": "SELECT count(*) FROM TradeFill",
}


class KnownAnswers:
    """The answers for one database."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            self.types = {name: connection.execute(sql).fetchone()[0] for name, sql in TYPES.items()}
            found = {code: len(connection.execute(sql).fetchall()) for code, sql in FINDINGS.items()}
            fills = connection.execute(
                """SELECT symbol, trade_type, price, amount FROM TradeFill t LEFT JOIN
                (SELECT order_id, id, row_number() OVER (PARTITION BY order_id ORDER BY id) k FROM OrderStatus
                 WHERE status = 'OrderFilled') s ON s.order_id = t.order_id AND s.k = (SELECT count(*) FROM TradeFill x
                 WHERE x.order_id = t.order_id AND x.rowid <= t.rowid) ORDER BY s.id"""
            ).fetchall()
        self.findings = {code: count for code, count in found.items() if count}
        self.net, self.realised = self._positions(fills)

    @staticmethod
    def _positions(fills: list[tuple[str, str, int, int]]) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
        """Net base and realised quote at average cost, by pair: held lots at their mean price."""
        net: dict[str, Decimal] = Counter()  # type: ignore[assignment]
        mean: dict[str, Decimal] = {}
        realised: dict[str, Decimal] = Counter()  # type: ignore[assignment]
        for pair, side, scaled_price, scaled_amount in fills:
            price, left = Decimal(scaled_price) * MICRO, Decimal(scaled_amount) * MICRO
            sign = 1 if side == "BUY" else -1
            held = Decimal(net[pair])
            if held * sign < 0:
                closing = min(left, abs(held))
                realised[pair] += (price - mean[pair]) * closing * -sign
                net[pair] += sign * closing
                left -= closing
                held = Decimal(net[pair])
            if left:
                before = WIDE.multiply(mean.get(pair, Decimal(0)), abs(held))
                mean[pair] = WIDE.divide(before + price * left, abs(held) + left)
                net[pair] += sign * left
        return dict(net), {pair: Decimal(realised[pair]) for pair in net}
