"""Turtle's table ``events`` in Postgres, read in the order of the transactions that wrote it.

The table has no serial column, and transactions commit in another order than they begin, so neither time nor id tells
what is new. The id of a row's transaction (xmin, widened to 64 bits) does: below ``Snapshot.horizon`` every transaction
has ended, so no row will ever appear there again. A role with SELECT on the table is enough; nothing is written, and
no transaction id is used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict

from tradetape.producers.connectors.turtle.connection import SCAN_SECONDS, Silent, connect
from tradetape.schemas import identity, times
from tradetape.schemas.errors import TradetapeError

TABLE = "events"
NEEDED = frozenset({"id", "timestamp", "event_type", "outcome", "run_id", "sequence", "context"})

WRAP = 2**32
"""Transactions after which xmin begins again; rows that are older cannot be told from newer ones by it."""
ORDINAL_BITS = 24
"""Of a position; above them is the transaction: 2^39 transactions, each of up to 2^24 rows, fit a long."""

LOCK_MS = 900
KEYS = 5000
"""Places of rows fetched ahead."""
BATCH_BYTES = 32 * 1024 * 1024
"""What the contexts of one batch may measure in the store."""

_NOT_THE_ROW = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.InsufficientPrivilege,
)
"""Errors that say nothing about the row that was read."""

_HINT = "check that Postgres runs and takes this address; the connector goes on where it stopped"


class Snapshot(NamedTuple):
    """The store at one moment: all transactions below ``horizon`` have ended, ``next_xid`` was not given out yet.

    ``now`` is the server's time in microseconds. ``filenode`` changes when the table is emptied or written anew.
    """

    horizon: int
    next_xid: int
    now: int
    filenode: int


class Key(NamedTuple):
    """What orders the rows of a transaction, and names a row: as Postgres writes it, None for NULL."""

    run_id: str | None
    sequence: str | None
    id: str | None


class Row(NamedTuple):
    """One row: its position, and its columns as a JSON object. ``problem`` says why that is not all of them."""

    position: int
    key: Key
    content: bytes
    problem: str


class _Place(NamedTuple):
    """Where a row is: its ctid, position, the bytes of its context, and its key."""

    ctid: str
    position: int
    size: int
    key: Key


class Span(NamedTuple):
    """Which rows: those of the transactions from ``low`` up to, without, ``high``, after position ``after``.

    ``since`` (microseconds) bounds their timestamps from below; with ``late``, from above. None bounds none.
    ``behind`` is the key of the row at ``after``: with it the rest of that transaction is numbered on from there,
    whatever became of the rows before; without it all its rows must still be there.
    """

    low: int
    high: int
    after: int
    since: int | None
    late: bool = False
    behind: Key | None = None


class _Raw(Loader):
    """JSON as the bytes that the server sent."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


class Store:
    """The table, open. Raises TradetapeError where it cannot be read; then open it again."""

    def __init__(self, location: str) -> None:
        self.name = describe(location)
        self._window: Window | None = None
        with self.told():
            self._connection = connect(location)
        try:
            with self.told():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        connection = self._connection
        connection.adapters.register_loader("json", _Raw)
        connection.execute(
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; "
            f"SET timezone = 'UTC'; SET lock_timeout = {LOCK_MS}; SET idle_in_transaction_session_timeout = 0; "
            f"SET statement_timeout = {int(SCAN_SECONDS * 1000)}"
        )
        found = connection.execute(
            "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, array_agg(a.attname::text) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "WHERE c.oid = to_regclass(%s) GROUP BY c.oid, n.nspname",
            [TABLE],
        ).fetchone()
        hint = f"give the address of Turtle's database; the table {TABLE} must be on the role's search_path"
        if found is None:
            raise TradetapeError(f"{self.name} has no table {TABLE}", hint=hint)
        self._oid, schema, table, kind, columns = found
        if kind != "r":
            raise TradetapeError(f"{TABLE} in {self.name} is no ordinary table", hint="give the database that owns it")
        if missing := NEEDED - set(columns):
            raise TradetapeError(f"{TABLE} in {self.name} has no {', '.join(sorted(missing))}", hint=hint)
        self._table = sql.Identifier(schema, table)
        self._readable = sql.SQL(", ").join(sql.Identifier(name) for name in sorted(set(columns) - {"context"}))

    def close(self) -> None:
        """Let the server go."""
        self._connection.close()

    def fingerprint(self) -> str:
        """The identity of this very table: another one, or the same made anew, has another."""
        with self.told():
            try:
                system = self._value("SELECT system_identifier::text FROM pg_control_system()")
            except psycopg.errors.InsufficientPrivilege:
                system = self.name
            database = self._value("SELECT oid::text FROM pg_database WHERE datname = current_database()")
        return identity.derive("turtle", str(system), str(database), str(self._oid))

    def snapshot(self) -> Snapshot:
        """The store now, or at the moment of the open window."""
        with self.told():
            found = self._connection.execute(
                "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint, clock_timestamp(), "
                "coalesce(pg_relation_filenode(%s::oid)::bigint, 0) FROM pg_current_snapshot() AS s",
                [self._oid],
            ).fetchone()
        assert found is not None
        return Snapshot(found[0], found[1], times.to_micros(found[2]), found[3])

    def transactions_of(self, ids: Sequence[str], next_xid: int) -> dict[str, int]:
        """The transactions that wrote the rows with these ids, those that are there."""
        any_of = sql.SQL(", ").join([sql.Placeholder()] * len(ids))
        query = sql.SQL("SELECT id::text, {} FROM {} WHERE id IN ({})").format(_xid(next_xid), self._table, any_of)
        with self.told():
            return {row[0]: int(row[1]) for row in self._connection.execute(query, ids)}

    def has_before(self, xid: int, next_xid: int) -> bool:
        """Whether there is any row of a transaction before ``xid``."""
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} < {})").format(self._table, _xid(next_xid), xid)
        with self.scanning():
            return bool(self._value(query))

    def begin(self) -> None:
        """Hold one snapshot until ``end``."""
        with self.told():
            self._connection.execute("BEGIN")

    def end(self) -> None:
        """Let the snapshot go, and the window on it."""
        with self.told():
            if self._window is not None:
                self._window.close()
                self._window = None
            self._connection.execute("ROLLBACK")

    def window(self, span: Span, next_xid: int) -> Window:
        """The rows of ``span``, by transaction, run and sequence; only between ``begin`` and ``end``."""
        with self.told():
            cursor = self._connection.cursor("tradetape_keys")
            query, values = self._keys(span, next_xid)
            cursor.execute(query, values)
        self._window = Window(self, cursor, span)
        return self._window

    def count(self, span: Span, next_xid: int) -> int:
        """How many rows ``span`` has."""
        rows, values = self._rows(span, next_xid)
        query = sql.SQL("SELECT count(*) FROM ({}) AS r WHERE xid >= %(low)s AND xid < %(high)s").format(rows)
        with self.scanning():
            return int(self._value(query, values))

    def newest(self) -> int | None:
        """The latest timestamp of all rows in microseconds, None where there is none that a datetime can hold."""
        with self.scanning():
            found = self._value(
                sql.SQL("SELECT max(timestamp)::text FROM {} WHERE timestamp < 'infinity'").format(self._table)
            )
        try:
            return times.to_micros(datetime.fromisoformat(found)) if found else None
        except ValueError:
            return None

    def _value(self, query: Any, values: Any = None) -> Any:
        found = self._connection.execute(query, values).fetchone()
        return None if found is None else found[0]

    def _rows(self, span: Span, next_xid: int) -> tuple[sql.Composed, dict[str, Any]]:
        bound = sql.SQL("true")
        if span.since is not None:
            bound = sql.SQL("(timestamp >= %(since)s) IS NOT TRUE" if span.late else "timestamp >= %(since)s")
        rows = sql.SQL(
            "SELECT ctid, run_id, sequence, id, pg_column_size(context) AS size, {} AS xid FROM {} WHERE {}"
        ).format(_xid(next_xid), self._table, bound)
        since = None if span.since is None else times.EPOCH + timedelta(microseconds=span.since)
        return rows, {"low": span.low, "high": span.high, "after": span.after, "since": since}

    def _keys(self, span: Span, next_xid: int) -> tuple[sql.Composed, dict[str, Any]]:
        rows, values = self._rows(span, next_xid)
        left, (xid, taken) = sql.SQL("true"), (span.after >> ORDINAL_BITS, 0)
        if span.behind is not None:
            # A row with a NULL comes last, and compares as NULL.
            left = sql.SQL("((run_id, sequence, id) > (%(run_id)s, %(sequence)s, %(id)s)) IS NOT FALSE")
            taken = span.after % (1 << ORDINAL_BITS)
            values |= span.behind._asdict()
        query = sql.SQL(
            "SELECT ctid::text, position, size, run_id::text, sequence::text, id::text, count(*) OVER () FROM ("
            "SELECT ctid, size, run_id, sequence, id, (xid << {bits}) "
            "+ CASE WHEN xid = {xid} THEN {taken} ELSE 0 END "
            "+ row_number() OVER (PARTITION BY xid ORDER BY run_id, sequence, id) AS position "
            "FROM ({rows}) AS r WHERE xid >= %(low)s AND xid < %(high)s AND (xid <> {xid} OR {left})) AS k "
            "WHERE position > %(after)s ORDER BY position"
        ).format(bits=ORDINAL_BITS, xid=xid, taken=taken, rows=rows, left=left)
        return query, values

    def read(self, ctids: list[str]) -> dict[str, tuple[bytes, str]]:
        """Content and problem of the rows at these places. A row that the server cannot read spoils no other."""
        whole = sql.SQL("SELECT ctid::text, row_to_json(e) FROM {} AS e WHERE ctid = ANY(%s::tid[])")
        rest = sql.SQL("SELECT ctid::text, row_to_json(e) FROM (SELECT ctid, {} FROM {} WHERE ctid = ANY(%s::tid[])) e")
        with self.told():
            try:
                with self._connection.transaction():
                    return {
                        row[0]: (row[1], "") for row in self._connection.execute(whole.format(self._table), [ctids])
                    }
            except psycopg.Error as error:
                if self._connection.closed or isinstance(error, _NOT_THE_ROW):
                    raise
                if len(ctids) > 1:
                    return {at: found for ctid in ctids for at, found in self.read([ctid]).items()}
                problem = f"unreadable: {_one_line(error)}"
            try:
                with self._connection.transaction():
                    query = rest.format(self._readable, self._table)
                    return {row[0]: (row[1], problem) for row in self._connection.execute(query, [ctids])}
            except psycopg.DatabaseError:
                if self._connection.closed:
                    raise
                return {ctids[0]: (b"", problem)}

    @contextmanager
    def scanning(self) -> Iterator[None]:
        """``told``, around what looks through the table and may take its time."""
        with self.told(), self._connection.scanning():
            yield

    @contextmanager
    def told(self) -> Iterator[None]:
        """Postgres errors as errors for people."""
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            raise TradetapeError(
                f"{TABLE} in {self.name} is locked",
                hint="wait for the ALTER TABLE, VACUUM FULL or TRUNCATE that holds it",
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise TradetapeError(
                f"{self.name} does not let the role read ({_one_line(error)})", hint=f"GRANT SELECT ON {TABLE} to it"
            ) from error
        except Silent as error:
            raise TradetapeError(f"{self.name} does not answer ({error})", hint=_HINT) from error
        except psycopg.Error as error:
            raise TradetapeError(f"{self.name} cannot be read ({_one_line(error)})", hint=_HINT) from error


class Window:
    """The rows of a span at one moment, taken one batch after the other."""

    def __init__(self, store: Store, cursor: Any, span: Span) -> None:
        self.span = span
        self.left = 0
        self._store = store
        self._cursor = cursor
        self._places: deque[_Place] = deque()
        self._fetch()

    def take(self, limit: int) -> list[Row]:
        """The next rows, ``limit`` at most and few enough for memory; none where the span is at its end."""
        if not self._places:
            self._fetch()
        places: list[_Place] = []
        measured = 0
        while self._places and len(places) < limit and (not places or measured + self._places[0].size <= BATCH_BYTES):
            places.append(self._places.popleft())
            measured += places[-1].size
        found = self._store.read([place.ctid for place in places]) if places else {}
        self.left -= len(places)
        return [Row(place.position, place.key, *found[place.ctid]) for place in places]

    def _fetch(self) -> None:
        with self._store.scanning():
            for ctid, position, size, run_id, sequence, row_id, total in self._cursor.fetchmany(KEYS):
                self._places.append(_Place(ctid, position, size, Key(run_id, sequence, row_id)))
                self.left = self.left or total

    def close(self) -> None:
        """Let the server forget it."""
        self._cursor.close()


def describe(location: str) -> str:
    """The address without its password. Raises TradetapeError for one that is none."""
    try:
        parts = conninfo_to_dict(location)
    except psycopg.ProgrammingError:
        raise TradetapeError(
            "that is no address of a Postgres database", hint="write postgresql://user:password@host:5432/database"
        ) from None
    return f"postgresql://{parts.get('host', '')}:{parts.get('port', '')}/{parts.get('dbname', '')}"


def _xid(next_xid: int) -> sql.Composed:
    """A row's transaction in 64 bits: the last one before ``next_xid`` that ends in its xmin."""
    text = "({first}::bigint + mod(xmin::text::bigint - {end} + {wrap}, {wrap}::bigint))"
    first, end = next_xid - WRAP, next_xid % WRAP
    return sql.SQL(text).format(first=sql.Literal(first), end=sql.Literal(end), wrap=sql.Literal(WRAP))


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())[:300]
