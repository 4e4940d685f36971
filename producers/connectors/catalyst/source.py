"""Catalyst's event store, followed while its bot writes (S1-01, S1-02, S1-03, S1-07, P-06).

Rows of ``event_log`` go out in rowid order: SQLite has one writer at a time, so no row appears behind one that was
read. Once the log is read to its end, versions of ``event_snapshots`` follow. A row's position is its rowid plus an
offset (``place``); an ALTER or VACUUM of the file changes nothing.

The store is named by its first row: a copy is the same source, a new database another. Name it yourself
(``--source-id``) where old rows are archived away, or it becomes another source when its first row goes. One thing is
beyond help: a store that had rows deleted, was then vacuumed, *and* whose checkpoint is lost; its positions begin again
below what the record has seen, and new rows are taken for repeats until they pass it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tradetape.producers.adapters import catalyst as adapter
from tradetape.producers.adapters.catalyst import LOG, SNAPSHOTS
from tradetape.producers.adapters.native import moment
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.catalyst import place as catalyst_place
from tradetape.producers.connectors.catalyst import snapshots as catalyst_snapshots
from tradetape.producers.connectors.catalyst.opened import Openings
from tradetape.producers.connectors.catalyst.place import CHANGED, REMOVED, Cut, Place, Tampered
from tradetape.producers.connectors.catalyst.snapshots import Seen
from tradetape.producers.connectors.catalyst.store import Row, Store
from tradetape.producers.connectors.source import Lag
from tradetape.producers.events import Event
from tradetape.schemas import crashpoints, times
from tradetape.schemas.errors import TradetapeError

DEFAULTS: Mapping[str, str] = {"connector_name": "alpaca", "quote": "USD"}
"""What holds where the user says nothing: Catalyst trades US stocks, whose tickers are bare."""

FORM = "catalyst/1"
"""Of the checkpoint."""


def fingerprint(location: str) -> str:
    """The identity of the store at ``location`` (a path). Raises TradetapeError, also while it has no event yet."""
    store = Store(Path(location))
    try:
        with store.reading():
            first = store.first()
    finally:
        store.close()
    if first is None:
        raise TradetapeError(
            f"{location} has no event yet, and it is named by its first one",
            hint="start again when the bot has written one, or name the source with --source-id",
        )
    return catalyst_place.name_of(first[1])


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> Catalyst:
    """The store at ``location`` (a path), from where ``saved`` says. Raises TradetapeError."""
    return Catalyst(Store(Path(location)), origin, saved)


class Catalyst:
    """One open event store (see ``source.Source``)."""

    def __init__(self, store: Store, origin: Origin, saved: Mapping[str, Any] | None) -> None:
        self.name = store.path.name
        self.source_id = origin.source_id
        self._store = store
        self._origin = origin
        self._openings = Openings(store)
        known = saved if saved is not None and saved.get("form") == FORM else {}
        self._place = Place.of(known["place"]) if known else Place()
        self._seen = Seen.of(known["snapshots"]) if known else Seen()
        self._rows: dict[str, int] = dict(known.get("rows", {}))
        self._events: dict[str, int] = dict(known.get("events", {}))
        self._latest: int = known.get("latest", 0)
        self._ended: dict[str, int] = dict(known.get("ended", {}))
        self._behind = True

    def poll(self, limit: int) -> Sequence[Event]:
        """The next events; those of about ``limit`` rows."""
        changed = self._store.has_changed()
        if not changed and not self._behind:
            return []
        self._behind = True
        with self._store.reading():
            place, tampered, cut = catalyst_place.locate(self._store, self._place, self._latest)
            if place.rowid != self._place.rowid:
                self._openings.forget()
            rows, complete = self._store.page(place.rowid, limit)
            related = [self._openings.of(numbered) for numbered in rows]
            versions: list[Row] = []
            seen = self._seen
            if complete:
                versions, seen = catalyst_snapshots.look(self._store, seen, limit)
        events = [self._gap(what) for what in tampered]
        if cut is not None:
            events.append(self._cut(cut))
        events += [
            adapter.from_row(self._origin, row, place.position_of(rowid), opened)
            for (rowid, row), opened in zip(rows, related, strict=True)
        ]
        events += [adapter.from_snapshot(self._origin, row) for row in versions]
        self._place, self._seen = place.after(rows), seen
        self._behind = bool(rows or versions)
        self._count(LOG, len(rows))
        self._count(SNAPSHOTS, len(versions))
        for event in events:
            self._events[event["event_type"]] = self._events.get(event["event_type"], 0) + 1
            if times.EARLIEST <= event["ts_utc"] < times.LATEST:
                self._latest = max(self._latest, event["ts_utc"])
        crashpoints.reach("catalyst.polled")
        return events

    def state(self) -> dict[str, Any]:
        """The checkpoint of everything polled so far."""
        crashpoints.reach("catalyst.state")
        return {
            "form": FORM,
            "place": self._place.saved(),
            "snapshots": self._seen.saved(),
            "rows": dict(self._rows),
            "events": dict(self._events),
            "latest": self._latest,
            "ended": dict(self._ended),
        }

    def acknowledge(self) -> None:
        """Nothing is held for what was polled: the store keeps its rows."""
        crashpoints.reach("catalyst.acknowledged")

    def lag(self) -> Lag:
        """Rows and seconds that the log is ahead; rows by number, so those deleted since count too."""
        with self._store.reading():
            newest = self._store.newest()
        if newest is None:
            return Lag(0, None)
        rowid, row = newest
        records = max(0, rowid - self._place.rowid)
        text = moment(row["created_at"])
        if not self._latest or not isinstance(text, str):
            return Lag(records, None)
        try:
            ahead = times.parse(text) - self._latest
        except times.TimeError:
            return Lag(records, None)
        return Lag(records, max(0, ahead) / 1_000_000)

    def ended(self) -> Sequence[Event]:
        """``source_ended`` for what was polled so far; nothing where that was told already."""
        if self._rows == self._ended:
            return []
        self._ended = dict(self._rows)
        return [adapter.ADAPTER.ended(self._origin, rows=self._rows, counts=self._events, latest=self._latest)]

    def close(self) -> None:
        """Let the store go."""
        self._store.close()

    def _count(self, stream: str, rows: int) -> None:
        if rows:
            self._rows[stream] = self._rows.get(stream, 0) + rows

    def _cut(self, cut: Cut) -> Event:
        """The end of the log was taken away: how much of it, nobody remembers exactly."""
        last = self._place.anchors[-1]
        detail = f"the rows behind {cut.rowid} that were taken in are gone, as when a backup is restored"
        if cut.rowid > cut.sure:
            detail += f"; rows {cut.sure + 1} to {cut.rowid} say an earlier time and pass for rows that were taken in"
        return adapter.ADAPTER.gap(
            self._origin,
            {
                "stream": LOG,
                "reason": REMOVED,
                "first": str(cut.rowid + 1),
                "last": str(self._place.rowid),
                "detail": detail,
            },
            "cut",
            last.digest,
            str(self._place.position),
            ts_utc=self._latest or times.EARLIEST,
        )

    def _gap(self, what: Tampered) -> Event:
        """A row of the log that was taken, and is gone or another since: what was taken stays on record."""
        event_id = str(what.anchor.event_id).encode("utf-8", "backslashreplace").decode()
        done = "was changed" if what.reason == CHANGED else "was deleted"
        return adapter.ADAPTER.gap(
            self._origin,
            {
                "stream": LOG,
                "reason": what.reason,
                "count": 1,
                "first": str(what.anchor.rowid),
                "last": str(what.anchor.rowid),
                "detail": f"{event_id[:200]} {done} after it was taken in",
            },
            event_id,
            what.anchor.digest,
            what.found,
            ts_utc=self._latest or times.EARLIEST,
        )
