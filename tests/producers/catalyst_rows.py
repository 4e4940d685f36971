"""A Catalyst event store written by hand, and what a reader of it gets."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.catalyst.source import Catalyst, open_source
from tradetape.producers.events import Event
from tradetape.producers.simulator.catalyst.log import MIGRATION_DDL
from tradetape.schemas.instruments import Instruments

START = 1_730_000_000_000
COLUMNS = (
    "event_id",
    "event_type",
    "aggregate_type",
    "aggregate_id",
    "payload",
    "metadata",
    "created_at",
    "sequence_number",
)


def origin(source_id: str = "store-1", **fields: Any) -> Origin:
    return Origin(source_id, "bot", "alpaca", "catalyst", instruments=Instruments(quote="USD"), **fields)


def uuid(name: object) -> str:
    return str(uuid5(NAMESPACE_DNS, str(name)))


def row(event_type: str, payload: Any = None, **columns: Any) -> dict[str, Any]:
    """A row of event_log as the bot writes it; ``payload`` that is no text is dumped."""
    values: dict[str, Any] = {
        "event_id": uuid(event_type),
        "event_type": event_type,
        "aggregate_type": event_type.partition("_")[0].lower(),
        "aggregate_id": "a-1",
        "payload": payload if isinstance(payload, str | bytes) else json.dumps(payload or {}),
        "metadata": json.dumps({"source": "test", "version": "1.0"}),
        "created_at": START,
        "sequence_number": 1,
    }
    return values | columns


class Database:
    """An event store on disk; every ``append`` is a commit, as the bot's are."""

    def __init__(self, path: Path, ddl: str = MIGRATION_DDL, *, wal: bool = False) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as connection:
            if wal:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(ddl)
        self.written = 0

    def append(self, *rows: dict[str, Any]) -> None:
        for values in rows:
            self.written += 1
            self.run(_insert(values), *values.values())

    def prices(self, count: int) -> None:
        """``count`` price updates of one position, in one commit: nobody reads between them."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for number in range(self.written + 1, self.written + 1 + count):
                values = row(
                    "POSITION_PRICE_UPDATED",
                    {"new_price": 100 + number},
                    event_id=uuid(number),
                    created_at=START + number,
                    sequence_number=number,
                )
                connection.execute(_insert(values), [*values.values()])
        self.written += count

    def run(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute(statement, values)

    def open(self, saved: dict[str, Any] | None = None) -> Catalyst:
        return open_source(str(self.path), origin(), None if saved is None else json.loads(json.dumps(saved)))


def _insert(values: dict[str, Any]) -> str:
    return f"INSERT INTO event_log ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"


def drain(source: Catalyst, limit: int = 100) -> list[Event]:
    """Everything that is new."""
    events: list[Event] = []
    while polled := source.poll(limit):
        events += polled
    return events


def positions(events: list[Event]) -> list[int]:
    """Positions of the log's events."""
    return [event["source_position"] for event in events if event["source_stream"] == "event_log"]


def prices(events: list[Event]) -> list[int]:
    """Which price updates these are, by the numbers that ``Database.prices`` gave."""
    return [int(event["payload"]["new_price"]) - 100 for event in events if event["event_type"] == "position_priced"]
