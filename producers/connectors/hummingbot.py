"""Ingest of a Hummingbot database: every row accounted for, resumable, idempotent (P-10).

Order of the events: OrderStatus rows by id; TradeFill rows that no status confirms just before their order's first
terminal status, else at the end; Order rows without a Created status; one ``source_ended`` per instance. The
checkpoint is written after Kafka acknowledged everything it speaks of, so a kill repeats the unacknowledged tail at
most, under the same ids and positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tradetape.producers import unmapped
from tradetape.producers.adapters import hummingbot as adapter
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.hummingbot_store import (
    BEFORE_ALL,
    FillRecord,
    StatusRecord,
    Store,
    open_store,
)
from tradetape.producers.connectors.summary import Progress, Summary
from tradetape.producers.emitter import Emits
from tradetape.producers.events import Event
from tradetape.schemas import times

FLUSH_EVERY = 2000


def check(path: Path) -> None:
    """Raise TradetapeError if ``path`` cannot be ingested; nothing is sent."""
    with open_store(path):
        pass


def ingest(
    path: Path,
    emitter: Emits,
    checkpoints: Checkpoints,
    *,
    source_id: str | None = None,
    on_progress: Progress | None = None,
) -> Summary:
    """Send every event of the database at ``path`` that was not sent before, and wait for Kafka.

    ``source_id`` names the store; without it the fingerprint does. Raises TradetapeError for a file that cannot be
    ingested (before anything is sent) and for a stack that fails on the way (the next run resumes).
    """
    with open_store(path) as store:
        source = source_id or store.fingerprint()
        run = _Run(store, emitter, checkpoints, store.database(source), _State.of(checkpoints.load(source)))
        return run.ingest(on_progress)


@dataclass(slots=True)
class _State:
    """What Kafka has of a source. Sets hold event ids, but ``unfilled``: OrderFilled status ids without a fill."""

    last: int = BEFORE_ALL
    fills: set[str] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)
    unfilled: set[int] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    events: dict[str, dict[str, int]] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, saved: dict[str, Any] | None) -> _State:
        if saved is None or saved.get("adapter") != adapter.FORMAT:
            return cls()
        return cls(
            last=saved["last"],
            fills=set(saved["fills"]),
            snapshots=set(saved["snapshots"]),
            unfilled=set(saved["unfilled"]),
            ended=set(saved["ended"]),
            events=saved["events"],
            latest=saved["latest"],
        )

    def saved(self) -> dict[str, Any]:
        return {
            "adapter": adapter.FORMAT,
            "last": self.last,
            "fills": sorted(self.fills),
            "snapshots": sorted(self.snapshots),
            "unfilled": sorted(self.unfilled),
            "ended": sorted(self.ended),
            "events": self.events,
            "latest": self.latest,
        }

    def size(self) -> int:
        return len(self.fills) + len(self.snapshots) + len(self.unfilled) + len(self.ended)


class _Run:
    def __init__(
        self, store: Store, emitter: Emits, checkpoints: Checkpoints, database: adapter.Database, state: _State
    ) -> None:
        self._store = store
        self._emitter = emitter
        self._checkpoints = checkpoints
        self._database = database
        self._state = state
        self._unsaved = 0
        self._summary = Summary(store.location, database.source_id, rows=dict(store.rows))

    def ingest(self, on_progress: Progress | None) -> Summary:
        after = self._state.last
        self._store.plan(after, self._state.unfilled)
        instances = self._store.instances()
        first = instances[0].name if instances else ""
        total = self._store.rows["OrderStatus"]
        for event, status_id in self._events(after):
            self._send(event, event["instance_name"] or first)
            if status_id is not None:
                self._state.last = status_id
            # Saving costs as much as the checkpoint is long: with many ids in it, save less often.
            if self._unsaved >= max(FLUSH_EVERY, self._state.size()):
                self._save()
                if on_progress is not None:
                    on_progress(min(self._summary.sent + self._summary.skipped, total), total)
        for instance in instances:
            end = adapter.ended(
                self._database,
                instance.name,
                connector_name=instance.market,
                last_status_id=instance.last_status_id,
                rows=instance.rows,
                counts=self._state.events.get(instance.name, {}),
                ts_utc=self._state.latest.get(instance.name) or times.EARLIEST,
            )
            if end["event_id"] not in self._state.ended:
                self._summary.count(unmapped.send(self._emitter, end))
                self._state.ended.add(end["event_id"])
                self._unsaved += 1
        if self._unsaved:
            self._save()
        if on_progress is not None:
            on_progress(total, total)
        self._summary.already_ingested = not self._summary.sent and after != BEFORE_ALL
        return self._summary

    def _events(self, after: int) -> Iterator[tuple[Event, int | None]]:
        """The events still to be sent, each with the OrderStatus id it accounts for."""
        orphans = self._orphans(after)
        orphan = next(orphans, None)
        self._summary.skipped = self._store.rows["OrderStatus"]
        for record in self._store.statuses(after):
            self._summary.skipped -= 1
            status_id = record.status["id"]
            while orphan is not None and orphan.before is not None and orphan.before <= status_id:
                yield self._orphan_event(orphan), None
                orphan = next(orphans, None)
            yield self._status_event(record), status_id
        while orphan is not None:
            yield self._orphan_event(orphan), None
            orphan = next(orphans, None)
        for order, fill in self._store.unreported_orders():
            event_id = adapter.snapshot_event_id(self._database, order)
            if event_id not in self._state.snapshots:
                event = adapter.from_order(self._database, order, fill=fill)
                self._state.snapshots.add(event_id)
                yield event, None

    def _status_event(self, record: StatusRecord) -> Event:
        fill = record.fill
        if fill is not None:
            event_id = adapter.fill_event_id(self._database, fill, record.fill_rowid, record.copy)
            if event_id not in self._state.fills:
                return adapter.from_filled_status(
                    self._database,
                    record.status,
                    fill,
                    rowid=record.fill_rowid,
                    copy=record.copy,
                    order=record.order,
                )
        elif record.status["status"] == adapter.FILLED:
            self._state.unfilled.add(record.status["id"])
        return adapter.from_status(
            self._database,
            record.status,
            order=record.order,
            known=record.known,
            first_created=record.first_created,
        )

    def _orphans(self, after: int) -> Iterator[FillRecord]:
        for record in self._store.orphans(after):
            if adapter.fill_event_id(self._database, record.fill, record.rowid, record.copy) not in self._state.fills:
                yield record

    def _orphan_event(self, record: FillRecord) -> Event:
        self._state.fills.add(adapter.fill_event_id(self._database, record.fill, record.rowid, record.copy))
        return adapter.from_fill(self._database, record.fill, rowid=record.rowid, copy=record.copy, order=record.order)

    def _send(self, event: Event, instance: str) -> None:
        name = unmapped.send(self._emitter, event)
        self._summary.count(name)
        counts = self._state.events.setdefault(instance, {})
        counts[name] = counts.get(name, 0) + 1
        if event["ts_utc"]:
            self._state.latest[instance] = max(event["ts_utc"], self._state.latest.get(instance, 0))
        self._unsaved += 1

    def _save(self) -> None:
        self._emitter.flush()
        self._checkpoints.save(self._database.source_id, self._state.saved())
        self._unsaved = 0
