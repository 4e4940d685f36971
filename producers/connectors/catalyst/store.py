"""A Catalyst event store, open beside its bot: short read transactions, in WAL mode or not.

A writer in rollback-journal mode waits while somebody reads; so rows are fetched, and the transaction ended, before
anything is made of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tradetape.producers.adapters.catalyst import LOG, SNAPSHOTS
from tradetape.producers.adapters.hummingbot_identity import is_utf8
from tradetape.producers.connectors import sqlite_store
from tradetape.schemas.errors import TradetapeError

Row = dict[str, Any]
Numbered = tuple[int, Row]
"""A row with its rowid."""


class Page(NamedTuple):
    """Some rows, and whether they are all that there are."""

    rows: list[Numbered]
    complete: bool


NEEDED = ("event_id", "event_type", "aggregate_type", "aggregate_id", "payload", "created_at")
OPTIONAL = ("metadata", "sequence_number")
SNAPSHOT_COLUMNS = ("snapshot_id", "aggregate_type", "aggregate_id", "state", "created_at")

BUSY_SECONDS = 1.0
PAGE_BYTES = 32 * 1024 * 1024
"""Rows fetched in one go hold about this much text at most: memory, and the time that a writer may have to wait."""

HINT = "give the path of Catalyst's event database (data/events.db)"


class Store:
    """An open database. Raises TradetapeError for a file that is missing, locked, damaged or no Catalyst store.

    ``timeout`` (s) is how long to wait for a lock.
    """

    def __init__(self, path: Path, *, timeout: float = BUSY_SECONDS) -> None:
        self.path = path
        sqlite_store.check_file(path, HINT)
        self._file = self._identity()
        self._version = -1
        try:
            self._connection = sqlite_store.connect(path, timeout, check_same_thread=False)
        except sqlite3.Error as error:
            raise sqlite_store.explained(path, error) from error
        try:
            with self.reading():
                self._check_tables()
        except TradetapeError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A read transaction: one state of the database. Raises TradetapeError, also for a file that was replaced."""
        if self._identity() != self._file:
            raise TradetapeError(f"{self.path} was replaced by another file", hint="it has to be opened again")
        try:
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise sqlite_store.explained(self.path, error) from error

    def has_changed(self) -> bool:
        """Whether anybody committed since the last call."""
        with self.reading():
            version = self._one("PRAGMA data_version")
        changed = version != self._version
        self._version = version
        return changed

    def first(self) -> Numbered | None:
        """The oldest row of the log."""
        return next(self._rows(f"SELECT rowid, * FROM {LOG} ORDER BY rowid LIMIT 1"), None)

    def newest(self) -> Numbered | None:
        """The newest row of the log."""
        return next(self._rows(f"SELECT rowid, * FROM {LOG} ORDER BY rowid DESC LIMIT 1"), None)

    def at(self, rowid: int) -> Row | None:
        """The row of that rowid."""
        return next((row for _, row in self._rows(f"SELECT rowid, * FROM {LOG} WHERE rowid = ?", rowid)), None)

    def find(self, event_id: Any) -> Numbered | None:
        """The row of that event id."""
        if not _is_bindable(event_id):
            return None
        return next(self._rows(f"SELECT rowid, * FROM {LOG} WHERE event_id = ? LIMIT 1", event_id), None)

    def page(self, after: int, limit: int) -> Page:
        """The next rows of the log, ``limit`` or PAGE_BYTES of them at most, but one at least if there is one."""
        return page(self._rows(f"SELECT rowid, * FROM {LOG} WHERE rowid > ? ORDER BY rowid", after), limit)

    def between(self, after: int, before: int) -> Iterator[Numbered]:
        """``created_at`` of the log's rows with ``after`` < rowid < ``before``, oldest first."""
        return self._rows(
            f"SELECT rowid, created_at FROM {LOG} WHERE rowid > ? AND rowid < ? ORDER BY rowid", after, before
        )

    def history(self, aggregate_type: Any, aggregate_id: Any, *, after: int, before: int) -> Iterator[Numbered]:
        """The rows of one aggregate with ``after`` < rowid < ``before``, oldest first."""
        if not _is_bindable(aggregate_type) or not _is_bindable(aggregate_id):
            return iter(())
        return self._rows(
            f"SELECT rowid, event_type, aggregate_type, payload FROM {LOG} WHERE aggregate_type = ?"
            " AND aggregate_id = ? AND rowid > ? AND rowid < ? ORDER BY rowid",
            aggregate_type,
            aggregate_id,
            after,
            before,
        )

    def has_snapshots(self) -> bool:
        """Whether the table of snapshots is there: the store's own DDL has none, the migration's has."""
        return sqlite_store.columns(self._connection, SNAPSHOTS).keys() >= set(SNAPSHOT_COLUMNS)

    def last_snapshot(self) -> int:
        """The highest rowid of the snapshots, 0 if there is none."""
        return self._one(f"SELECT coalesce(max(rowid), 0) FROM {SNAPSHOTS}")

    def new_snapshots(self, after: int, limit: int) -> Page:
        """Snapshots that were inserted (or replaced: that inserts too) after rowid ``after``."""
        return page(self._rows(f"SELECT rowid, * FROM {SNAPSHOTS} WHERE rowid > ? ORDER BY rowid", after), limit)

    def updated_snapshots(self, upto: int, since: int) -> Iterator[Numbered]:
        """Snapshots up to rowid ``upto`` that say they were made at ``since`` (ms) or later, oldest first."""
        return self._rows(
            f"SELECT rowid, * FROM {SNAPSHOTS} WHERE rowid <= ? AND typeof(created_at) = 'integer'"
            " AND created_at >= ? ORDER BY created_at, rowid",
            upto,
            since,
        )

    def _rows(self, query: str, *parameters: Any) -> Iterator[Numbered]:
        cursor = self._connection.execute(query, parameters)
        names = [column[0] for column in cursor.description]
        for rowid, *values in cursor:
            yield rowid, dict(zip(names[1:], values, strict=True))

    def _one(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    def _identity(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise TradetapeError(f"{self.path} cannot be read ({error.strerror})", hint=HINT) from error
        return found.st_dev, found.st_ino

    def _check_tables(self) -> None:
        columns = sqlite_store.columns(self._connection, LOG)
        missing = [f"column {LOG}.{name}" for name in NEEDED if name not in columns] if columns else [f"table {LOG}"]
        if missing:
            raise TradetapeError(
                f"{self.path} is no Catalyst event store: {', '.join(missing)} missing",
                hint=f"{HINT}; a bot that has not started yet makes its tables when it does",
            )


def page(rows: Iterator[Numbered], limit: int) -> Page:
    """The first of ``rows``: ``limit`` or PAGE_BYTES of them at most, but one at least if there is one."""
    found: list[Numbered] = []
    size = 0
    for numbered in rows:
        found.append(numbered)
        size += sum(len(value) for value in numbered[1].values() if isinstance(value, str | bytes))
        if size >= PAGE_BYTES or len(found) >= limit:
            return Page(found, complete=False)
    return Page(found, complete=True)


def _is_bindable(value: Any) -> bool:
    """Whether SQLite takes ``value`` as a parameter: text that is no UTF-8 it gives, and does not take."""
    return not isinstance(value, str) or is_utf8(value)
