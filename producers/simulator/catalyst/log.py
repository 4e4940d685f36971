"""Catalyst's event store as the document's code writes it: its tables, its numbering, its JSON."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

INDEXES = """
CREATE INDEX IF NOT EXISTS idx_event_log_created_at ON event_log(created_at);
CREATE INDEX IF NOT EXISTS idx_event_log_aggregate ON event_log(aggregate_type, aggregate_id);
CREATE INDEX IF NOT EXISTS idx_event_log_type ON event_log(event_type);
"""
SNAPSHOTS_DDL = """
CREATE TABLE IF NOT EXISTS event_snapshots (
    snapshot_id TEXT PRIMARY KEY, aggregate_type TEXT NOT NULL, aggregate_id TEXT NOT NULL, state TEXT NOT NULL,
    last_event_id TEXT NOT NULL, last_sequence_number INTEGER NOT NULL, created_at INTEGER NOT NULL,
    UNIQUE(aggregate_type, aggregate_id));
"""
_LOG = """
CREATE TABLE IF NOT EXISTS event_log (
    event_id TEXT PRIMARY KEY, event_type TEXT NOT NULL, aggregate_type TEXT NOT NULL, aggregate_id TEXT NOT NULL,
    payload TEXT NOT NULL, metadata TEXT, created_at INTEGER NOT NULL, sequence_number INTEGER{unique});
"""
STORE_DDL = _LOG.format(unique="") + INDEXES
"""What the bot's own store makes where no migration ran."""
MIGRATION_DDL = _LOG.format(unique=", UNIQUE(aggregate_type, aggregate_id, sequence_number)") + INDEXES + SNAPSHOTS_DDL
"""What its migration makes."""


class EventLog:
    """The document's event store: numbers each aggregate's events, writes payloads as JSON."""

    def __init__(self, connection: sqlite3.Connection, random: Random, clock: int) -> None:
        self._connection = connection
        self._random = random
        self.clock = clock

    def id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def append(
        self,
        event_type: str,
        aggregate: tuple[str, str],
        payload: Mapping[str, Any] | str,
        *,
        source: str,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        skip: int = 0,
        at: int | None = None,
    ) -> str:
        """Write one event and return its id; ``skip`` numbers are left out, ``at`` (ms) is another clock's time."""
        self.clock += self._random.randint(5, 400)
        sequence = self._connection.execute(
            "SELECT coalesce(max(sequence_number), 0) + 1 FROM event_log WHERE aggregate_type = ? AND aggregate_id = ?",
            aggregate,
        ).fetchone()[0]
        event_id = self.id()
        metadata = {
            "source": source,
            "correlation_id": correlation_id,
            "causation_id": causation_id,
            "user_id": None,
            "version": "1.0",
        }
        self._connection.execute(
            "INSERT INTO event_log VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event_id,
                event_type,
                *aggregate,
                payload if isinstance(payload, str) else to_json(payload),
                to_json(metadata),
                at or self.clock,
                sequence + skip,
            ),
        )
        return event_id

    def swap_last(self) -> None:
        """The last two events change places: each has the other's number."""
        (first, low), (second, high) = self._connection.execute(
            "SELECT event_id, sequence_number FROM event_log ORDER BY rowid DESC LIMIT 2"
        ).fetchall()
        for event_id, number in ((first, None), (second, low), (first, high)):
            self._connection.execute("UPDATE event_log SET sequence_number = ? WHERE event_id = ?", (number, event_id))

    def snapshot(self, aggregate: tuple[str, str], state: Mapping[str, Any], event_id: str) -> None:
        """Replace the aggregate's snapshot."""
        number = self._connection.execute("SELECT sequence_number FROM event_log WHERE event_id = ?", (event_id,))
        self._connection.execute(
            "INSERT OR REPLACE INTO event_snapshots VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.id(), *aggregate, to_json(state), event_id, number.fetchone()[0], self.clock),
        )


def to_json(value: Any) -> str:
    """JSON as Python's encoder writes it, with numbers exactly as they are."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {to_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return json.dumps(value)
