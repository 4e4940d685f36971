"""A Hummingbot trade database as streams of rows: read-only, one consistent state, bounded memory.

A database in WAL mode is read in one transaction. Any other is copied first (SQLite's backup, into a temporary file):
a long read there would make the bot's own commits wait until they fail. Joins and windows run in SQLite, over
temporary tables that spill to disk.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tradetape.producers.adapters import hummingbot as adapter
from tradetape.producers.connectors import sqlite_store
from tradetape.producers.connectors.sqlite_store import columns as _columns
from tradetape.producers.connectors.sqlite_store import quoted as _q
from tradetape.schemas import identity
from tradetape.schemas.errors import TradetapeError

Row = dict[str, Any]

NEEDED: dict[str, tuple[str, ...]] = {
    "Order": ("id", "config_file_path", "market", "symbol", "order_type", "amount", "price"),
    "OrderStatus": ("id", "order_id", "timestamp", "status"),
    "TradeFill": (
        "config_file_path",
        "market",
        "symbol",
        "timestamp",
        "order_id",
        "trade_type",
        "price",
        "amount",
        "exchange_trade_id",
    ),
}
"""What every version of Hummingbot has; any other column may be missing."""

BEFORE_ALL = -(2**63)


class StatusRecord(NamedTuple):
    """An OrderStatus row with what belongs to it; ``known`` is a fill of an order that Order does not have."""

    status: Row
    order: Row | None
    fill: Row | None
    fill_rowid: int
    copy: int
    known: Row | None
    first_created: bool


class FillRecord(NamedTuple):
    """A TradeFill row without an OrderFilled status, due before the status of id ``before`` (None: at the end)."""

    fill: Row
    rowid: int
    copy: int
    order: Row | None
    before: int | None


class Instance(NamedTuple):
    """One bot of the database: its rows by table, its last OrderStatus id and the market it used first."""

    name: str
    rows: dict[str, int]
    last_status_id: int
    market: str


class Store:
    """An open database; make one with ``open_store``."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.location = path.name
        self._columns = {table: _columns(connection, table) for table in NEEDED}
        self.rows = {table: self._one(f"SELECT count(*) FROM {_q(table)}") for table in NEEDED}

    def fingerprint(self) -> str:
        """The identity of this store: the same for a copy of the file, another for a recreated database."""
        for table, columns, order in (
            ("OrderStatus", ("id", "order_id", "timestamp", "status"), "id"),
            ("TradeFill", ("market", "order_id", "exchange_trade_id", "timestamp"), "rowid"),
            ("Order", ("id", "market", "symbol"), "rowid"),
        ):
            names = ", ".join(_q(column) for column in columns)
            row = self._connection.execute(f"SELECT {names} FROM {_q(table)} ORDER BY {order} LIMIT 1").fetchone()
            if row is not None:
                return identity.derive(adapter.FORMAT, table, *(adapter.key(value) for value in row))
        return identity.derive(adapter.FORMAT, "empty")

    def mark(self, status_id: int) -> str:
        """What the OrderStatus row of that id is known again by; empty where there is none."""
        row = self._connection.execute(
            "SELECT order_id, timestamp, status FROM OrderStatus WHERE id = ?", (status_id,)
        ).fetchone()
        return identity.derive(adapter.FORMAT, "mark", *(adapter.key(value) for value in row)) if row else ""

    def has_lost(self, status_id: int, mark: str) -> bool:
        """Whether the row of ``mark`` is gone in a way that its id, or a lower one, is given to another row."""
        found = self.mark(status_id)
        return found != mark if found else self._one("SELECT coalesce(max(id), 0) FROM OrderStatus") < status_id

    def database(self, source_id: str) -> adapter.Database:
        """What the adapter needs to know about this database."""
        scaled = {
            (table, column)
            for table in NEEDED
            for column, declared in self._columns[table].items()
            if column in adapter.SCALED_COLUMNS and "INT" in declared.upper()
        }
        return adapter.Database(source_id, self.location, frozenset(scaled), self._only())

    def _only(self) -> Row:
        places = self._connection.execute(
            'SELECT config_file_path, market, symbol FROM "Order" UNION'
            " SELECT config_file_path, market, symbol FROM TradeFill LIMIT 2"
        ).fetchall()
        return dict(zip(("config_file_path", "market", "symbol"), places[0], strict=True)) if len(places) == 1 else {}

    def plan(self, after: int, unfilled: Iterable[int]) -> None:
        """Match fills with statuses: the k-th OrderFilled status of an order with its k-th TradeFill row.

        ``after`` is the last OrderStatus id taken in; ``unfilled`` are ids of earlier OrderFilled statuses that had
        no TradeFill row then. Call it once, before the streams.
        """
        created, terminal = (", ".join(f"'{name}'" for name in names) for names in (adapter.CREATED, adapter.TERMINAL))
        # One by one: executescript would commit first, and so end the transaction that keeps the state consistent.
        for statement in (
            "CREATE TEMP TABLE plan (fill_rowid INTEGER PRIMARY KEY, order_id, copy INTEGER, status_id INTEGER)",
            f"""INSERT INTO plan SELECT f.r, f.order_id, f.copy, s.id FROM (
                SELECT rowid AS r, order_id,
                    row_number() OVER (PARTITION BY order_id ORDER BY rowid) AS k,
                    row_number() OVER (PARTITION BY market, order_id, exchange_trade_id ORDER BY rowid) AS copy
                FROM TradeFill) f
            LEFT JOIN (
                SELECT id, order_id, row_number() OVER (PARTITION BY order_id ORDER BY id) AS k
                FROM OrderStatus WHERE status = '{adapter.FILLED}') s
            ON s.order_id = f.order_id AND s.k = f.k""",
            "CREATE INDEX temp.plan_status ON plan (status_id)",
            "CREATE INDEX temp.plan_order ON plan (order_id)",
            "CREATE TEMP TABLE created (order_id PRIMARY KEY, status_id INTEGER) WITHOUT ROWID",
            f"""INSERT INTO created SELECT order_id, min(id) FROM OrderStatus
                WHERE status IN ({created}) AND order_id IS NOT NULL GROUP BY order_id""",
            "CREATE TEMP TABLE ending (order_id PRIMARY KEY, status_id INTEGER) WITHOUT ROWID",
            f"""INSERT INTO ending SELECT order_id, min(id) FROM OrderStatus
                WHERE status IN ({terminal}) AND order_id IS NOT NULL AND id > {int(after)} GROUP BY order_id""",
            "CREATE TEMP TABLE unfilled (status_id INTEGER PRIMARY KEY)",
        ):
            self._connection.execute(statement)
        self._connection.executemany("INSERT INTO unfilled VALUES (?)", ((status_id,) for status_id in unfilled))

    def statuses(self, after: int) -> Iterator[StatusRecord]:
        """OrderStatus rows with id > ``after``, by id."""
        select, cut = self._select(("OrderStatus", "s"), ("Order", "o"), ("TradeFill", "f"), ("TradeFill", "t"))
        rows = self._connection.execute(
            f"""SELECT {select}, o.rowid, f.rowid, t.rowid, p.copy, c.status_id = s.id
            FROM OrderStatus s
            LEFT JOIN "Order" o ON o.id = s.order_id
            LEFT JOIN plan p ON p.status_id = s.id
            LEFT JOIN TradeFill f ON f.rowid = p.fill_rowid
            LEFT JOIN created c ON c.order_id = s.order_id
            LEFT JOIN TradeFill t ON o.rowid IS NULL
                AND t.rowid = (SELECT min(fill_rowid) FROM plan WHERE plan.order_id = s.order_id)
            WHERE s.id > ? ORDER BY s.id""",
            (after,),
        )
        for row in rows:
            order_rowid, fill_rowid, known_rowid, copy, first = row[-5:]
            yield StatusRecord(
                _row(row, cut[0]),
                None if order_rowid is None else _row(row, cut[1]),
                None if fill_rowid is None else _row(row, cut[2]),
                fill_rowid or 0,
                copy or 1,
                None if known_rowid is None else _row(row, cut[3]),
                bool(first),
            )

    def orphans(self, after: int) -> Iterator[FillRecord]:
        """TradeFill rows that no OrderFilled status still to come confirms, in the order they are due."""
        select, cut = self._select(("TradeFill", "f"), ("Order", "o"))
        rows = self._connection.execute(
            f"""SELECT {select}, o.rowid, f.rowid, p.copy, e.status_id
            FROM plan p JOIN TradeFill f ON f.rowid = p.fill_rowid
            LEFT JOIN "Order" o ON o.id = f.order_id
            LEFT JOIN ending e ON e.order_id = f.order_id
            WHERE p.status_id IS NULL OR (p.status_id <= ? AND p.status_id IN (SELECT status_id FROM unfilled))
            ORDER BY e.status_id IS NULL, e.status_id, p.fill_rowid""",
            (after,),
        )
        for row in rows:
            order_rowid, rowid, copy, before = row[-4:]
            order = None if order_rowid is None else _row(row, cut[1])
            yield FillRecord(_row(row, cut[0]), rowid, copy, order, before)

    def unreported_orders(self) -> Iterator[tuple[Row, Row | None]]:
        """Order rows without any Created status, each with one of its fills, if it has any."""
        select, cut = self._select(("Order", "o"), ("TradeFill", "f"))
        rows = self._connection.execute(
            f"""SELECT {select}, f.rowid FROM "Order" o
            LEFT JOIN created c ON c.order_id = o.id
            LEFT JOIN TradeFill f ON f.rowid = (SELECT min(fill_rowid) FROM plan WHERE plan.order_id = o.id)
            WHERE c.order_id IS NULL ORDER BY o.rowid"""
        )
        for row in rows:
            yield _row(row, cut[0]), None if row[-1] is None else _row(row, cut[1])

    def instances(self) -> list[Instance]:
        """The bots of this database, the first one first; rows that name none are counted for the first."""
        found: dict[str, Instance] = {}
        for config, market in (
            self._connection.execute(
                'SELECT config_file_path, market FROM (SELECT 0 AS t, min(rowid) AS r, * FROM "Order"'
                " GROUP BY config_file_path, market) ORDER BY r"
            ).fetchall()
            + self._connection.execute(
                "SELECT config_file_path, market FROM (SELECT min(rowid) AS r, * FROM TradeFill"
                " GROUP BY config_file_path, market) ORDER BY r"
            ).fetchall()
        ):
            name = adapter.instance_of(config)
            if name and adapter.is_utf8(name):
                text = market if isinstance(market, str) and adapter.is_utf8(market) else ""
                found.setdefault(name, Instance(name, dict.fromkeys(NEEDED, 0), 0, text))
        for table, config, rows, last in self._rows_by_config():
            instance = found.get(adapter.instance_of(config)) or next(iter(found.values()), None)
            if instance is not None:
                instance.rows[table] += rows
                if table == "OrderStatus" and last > instance.last_status_id:
                    found[instance.name] = instance._replace(last_status_id=last)
        return list(found.values())

    def _rows_by_config(self) -> Iterator[tuple[str, Any, int, int]]:
        only = self._only().get("config_file_path")
        for table, query, parameters in (
            ("Order", 'SELECT config_file_path, count(*), 0 FROM "Order" GROUP BY 1', ()),
            (
                "TradeFill",
                "SELECT coalesce(nullif(f.config_file_path, ''), o.config_file_path, ?), count(*), 0"
                ' FROM TradeFill f LEFT JOIN "Order" o ON o.id = f.order_id GROUP BY 1',
                (only,),
            ),
            (
                "OrderStatus",
                "SELECT CASE WHEN o.rowid IS NULL THEN coalesce(t.config_file_path, ?) ELSE o.config_file_path END,"
                ' count(*), max(s.id) FROM OrderStatus s LEFT JOIN "Order" o ON o.id = s.order_id'
                " LEFT JOIN TradeFill t ON o.rowid IS NULL"
                " AND t.rowid = (SELECT min(fill_rowid) FROM plan WHERE plan.order_id = s.order_id) GROUP BY 1",
                (only,),
            ),
        ):
            for config, rows, last in self._connection.execute(query, parameters):
                yield table, config, rows, last

    def _select(self, *aliases: tuple[str, str]) -> tuple[str, list[tuple[list[str], int]]]:
        select: list[str] = []
        cut: list[tuple[list[str], int]] = []
        for table, alias in aliases:
            cut.append((list(self._columns[table]), len(select)))
            select += [f"{alias}.{_q(column)}" for column in self._columns[table]]
        return ", ".join(select), cut

    def _one(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])


@contextmanager
def open_store(path: Path, *, timeout: float = 5.0) -> Iterator[Store]:
    """The database at ``path``, checked. ``timeout`` (s) is how long to wait for a lock.

    Raises TradetapeError for a file that is missing, unreadable, locked, damaged or no Hummingbot database.
    """
    sqlite_store.check_file(path, "give the path of a Hummingbot trade database (data/*.sqlite)")
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(closing(sqlite_store.connect(path, timeout)))
            connection.execute("BEGIN")
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            _check_tables(connection, path)
            if mode != "wal":
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tradetape-"))
                copy = stack.enter_context(closing(sqlite3.connect(Path(folder) / "copy.sqlite", isolation_level=None)))
                connection.backup(copy)
                connection.close()
                connection = copy
                connection.text_factory = sqlite_store.text
            _check_pages(connection, path)
            yield Store(connection, path)
        except sqlite3.Error as error:
            raise sqlite_store.explained(path, error) from error


def _row(values: tuple[Any, ...], cut: tuple[list[str], int]) -> Row:
    names, at = cut
    return dict(zip(names, values[at : at + len(names)], strict=True))


def _check_tables(connection: sqlite3.Connection, path: Path) -> None:
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    missing = [f"table {table}" for table in NEEDED if table not in there]
    for table in NEEDED.keys() & there:
        columns = _columns(connection, table)
        missing += [f"column {table}.{column}" for column in NEEDED[table] if column not in columns]
    if not missing and "INT" not in _columns(connection, "OrderStatus")["id"].upper():
        missing.append("a numeric OrderStatus.id")
    if missing:
        raise TradetapeError(
            f"{path} is no Hummingbot trade database: {', '.join(sorted(missing))} missing",
            hint="give a file that Hummingbot wrote (data/*.sqlite)",
        )


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
    # Values against their declared constraints are the adapter's business, damaged pages are not.
    damage = [line for line in found if line != "ok" and " value in " not in line and "constraint" not in line]
    if damage:
        raise TradetapeError(
            f"{path} is damaged ({damage[0].splitlines()[-1][:120]})", hint="restore it from a copy, or run .recover"
        )
