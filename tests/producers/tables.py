"""A small real source for the tests of the runner: an SQLite table read by rowid."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tradetape.producers import events
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.fleet import Kafka
from tradetape.producers.connectors.source import Lag
from tradetape.producers.connectors.taken import Job
from tradetape.producers.events import Event
from tradetape.schemas import identity
from tradetape.schemas.errors import TradetapeError

MICROS = 1_700_000_000_000_000


def event_of(source_id: str, position: int, said: str = "filled") -> Event:
    """A small typed event at ``position`` of the stream of ``source_id``."""
    event_id = identity.derive(source_id, str(position))
    return events.new_event(
        "order_status",
        ts_utc=MICROS + position,
        producer="test",
        instance_name=source_id,
        connector_name="bitget",
        trading_pair="BTC-USDT",
        payload={"client_order_id": f"o-{position}", "status": said},
        event_id=event_id,
        correlation_id=event_id,
        source_system="test",
        source_id=source_id,
        source_stream="records",
        source_position=position,
    )


class Table:
    """A real store: an SQLite table that is read by rowid. Its connection is bound to the thread that opened it."""

    def __init__(self, path: Path, saved: dict[str, Any] | None) -> None:
        self.name = self.source_id = path.stem
        self._connection = sqlite3.connect(path)
        self.position: int = saved["position"] if saved else 0
        self.acknowledged = self.position
        self._ended = bool(saved and saved["ended"])

    def poll(self, limit: int) -> Sequence[Event]:
        try:
            rows = self._connection.execute(
                "SELECT rowid, said FROM records WHERE rowid > ? ORDER BY rowid LIMIT ?", (self.position, limit)
            ).fetchall()
        except sqlite3.OperationalError as error:
            raise TradetapeError(f"{self.name} cannot be read ({error})", hint="wait") from error
        if rows:
            self.position = rows[-1][0]
            self._ended = False
        return [event_of(self.source_id, rowid, said) for rowid, said in rows]

    def state(self) -> dict[str, Any]:
        return {"position": self.position, "ended": self._ended}

    def acknowledge(self) -> None:
        self.acknowledged = self.position

    def lag(self) -> Lag:
        (last,) = self._connection.execute("SELECT coalesce(max(rowid), 0) FROM records").fetchone()
        return Lag(last - self.position, None)

    def ended(self) -> Sequence[Event]:
        if self._ended or not self.position:
            return []
        self._ended = True
        return [event_of(self.source_id, self.position) | {"source_position": None, "event_id": "the end"}]

    def close(self) -> None:
        self._connection.close()


def table(path: Path, records: int, *, first: bool = True) -> Path:
    """A store with ``records`` more records."""
    with sqlite3.connect(path) as connection:
        if first:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE records (said TEXT)")
        connection.executemany("INSERT INTO records VALUES (?)", [("filled",)] * records)
    connection.close()
    return path


def job(path: Path) -> Job:
    return Job(path.stem, lambda checkpoints: Table(path, checkpoints.load(path.stem)))


def positions(sent: Sequence[Event], source_id: str) -> list[int]:
    return [e["source_position"] for e in sent if e["source_id"] == source_id and e["source_position"] is not None]


def in_order_once(sent: Sequence[Event], source_id: str) -> list[int]:
    """Positions as a watermark lets them through: what comes at or below it is a repeat."""
    passed: list[int] = []
    for position in positions(sent, source_id):
        if not passed or position > passed[-1]:
            passed.append(position)
    return passed


@contextmanager
def connected(emitter: Any, checkpoints: Checkpoints) -> Iterator[Kafka]:
    yield Kafka(emitter, checkpoints)
