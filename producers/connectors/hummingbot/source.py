"""A Hummingbot database followed while its bot trades: snapshot after snapshot, every row accounted for (P-10).

Order of the events: OrderStatus rows by id; TradeFill rows that no status confirms just before their order's first
terminal status, else at the end; Order rows without a Created status. Each snapshot is one consistent state of the
database (see ``store``) and costs as much as the database is long. So another one is taken only when the
files changed, and not before ten times as long has passed as the last one took.

A database that was made anew in the same place is another source: its events carry ``<source_id>@<its identity>``. So
is one whose OrderStatus row that was taken last is gone or another, as in a backup that was put back: its ids are given
to other rows, and as positions they would pass for repeats. It is read from its beginning; what it still has of the old
one is on record twice then, under two source ids, and a warning says so.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

from tradetape.producers.adapters import hummingbot as adapter
from tradetape.producers.adapters import hummingbot_values as values
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors import sqlite_store
from tradetape.producers.connectors.hummingbot.store import (
    BEFORE_ALL,
    FillRecord,
    Instance,
    StatusRecord,
    Store,
    open_store,
)
from tradetape.producers.connectors.rolling import unreadable
from tradetape.producers.connectors.source import Lag
from tradetape.producers.events import Event
from tradetape.schemas import environments, identity, times
from tradetape.schemas.errors import TradetapeError

PAUSE_FACTOR = 10
"""Times as long as a snapshot took is waited before the next one: a tenth of one core at most."""
BUSY_SECONDS = 5.0

_LOG = logging.getLogger("tradetape.connect")

Signature = tuple[tuple[int, int] | None, ...]


def fingerprint(location: str) -> str:
    """The identity of the database. Raises TradetapeError for a file that is none, or that has no row yet."""
    path = Path(location)
    with open_store(path) as store:
        if not any(store.rows.values()):
            raise TradetapeError(f"{path} has no order yet", hint="it is taken in when the bot has placed one")
        return store.fingerprint()


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> HummingbotSource:
    """The database at ``location`` from ``saved`` on. Raises TradetapeError."""
    return HummingbotSource(Path(location), origin.source_id, saved, origin=origin)


@dataclass(slots=True)
class _State:
    """What was taken of a source. Sets hold event ids, but ``unfilled``: OrderFilled status ids without a fill.

    ``mark`` is what the OrderStatus row ``last`` is known again by.
    """

    last: int = BEFORE_ALL
    mark: str = ""
    fills: set[str] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)
    unfilled: set[int] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    events: dict[str, dict[str, int]] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)
    store: str = ""

    @classmethod
    def of(cls, saved: dict[str, Any] | None) -> _State:
        if saved is None or saved.get("adapter") != adapter.FORMAT:
            return cls()
        return cls(
            last=saved["last"],
            mark=saved.get("mark", ""),
            fills=set(saved["fills"]),
            snapshots=set(saved["snapshots"]),
            unfilled=set(saved["unfilled"]),
            ended=set(saved["ended"]),
            events={name: dict(counts) for name, counts in saved["events"].items()},
            latest=dict(saved["latest"]),
            store=saved.get("store", ""),
        )

    def saved(self) -> dict[str, Any]:
        return {
            "adapter": adapter.FORMAT,
            "last": self.last,
            "mark": self.mark,
            "fills": sorted(self.fills),
            "snapshots": sorted(self.snapshots),
            "unfilled": sorted(self.unfilled),
            "ended": sorted(self.ended),
            "events": {name: dict(counts) for name, counts in self.events.items()},
            "latest": dict(self.latest),
            "store": self.store,
        }


class _Snapshot:
    """One consistent state of the database, and its events behind ``state``. Raises what ``open_store`` raises.

    ``anew`` names the database where it is not the one that ``state`` speaks of. ``is_through``: all events were taken;
    ``is_old``: there was nothing new since. It is held until then, for a reader that wants to end here.
    """

    def __init__(self, path: Path, state: _State, source_id: str) -> None:
        self.is_through = self.is_old = False
        with ExitStack() as opened:
            self.store = opened.enter_context(open_store(path))
            self.identity = self.store.fingerprint() if any(self.store.rows.values()) else ""
            self.anew = self._anew(state, source_id)
            self.database = self.store.database(source_id)
            self.instances: list[Instance] = []
            self.events: Iterator[tuple[Event, int | None]] = iter(())
            if not self.anew:
                state.store = self.identity or state.store
                state.mark = state.mark or self.store.mark(state.last)
                self.store.plan(state.last, state.unfilled)
                self.instances = self.store.instances()
                self.events = _events(self.store, self.database, state)
            self._opened = opened.pop_all()

    def _anew(self, state: _State, source_id: str) -> str:
        if not state.store or not self.identity:
            return ""
        if state.store != self.identity:
            return self.identity
        is_put_back = state.mark and self.store.has_lost(state.last, state.mark)
        return identity.derive(adapter.FORMAT, "put back", source_id, state.mark) if is_put_back else ""

    def close(self) -> None:
        self._opened.close()


class HummingbotSource:
    """One trade database, open (``Source``). ``rows`` are those of the latest snapshot, by table."""

    def __init__(
        self,
        path: Path,
        source_id: str,
        saved: dict[str, Any] | None,
        *,
        origin: Origin | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.name = path.name
        self.source_id = source_id
        self.rows: dict[str, int] = {}
        self._path = path
        self._origin = origin
        self._clock = clock
        self._state = _State.of(saved)
        self.known_as: str = (saved or {}).get("source", source_id)
        self._snapshot: _Snapshot | None = None
        self._read: Signature | None = None
        self._not_before = clock()
        snapshot = self._open()
        if snapshot.anew:
            self._state, self.known_as = _State(), f"{source_id}@{snapshot.anew}"
            _LOG.warning("%s was made anew, or put back: it is read from its beginning as %s", path, self.known_as)
            self._open()

    @property
    def last(self) -> int:
        """The OrderStatus id taken last."""
        return self._state.last

    def taken(self) -> int:
        """OrderStatus rows that were taken in."""
        return self._ask("SELECT count(*) FROM OrderStatus WHERE id <= ?", self._state.last) or 0

    def poll(self, limit: int) -> Sequence[Event]:
        """The next events of the snapshot at hand, or of a new one where the files changed."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.is_through:
            snapshot = self._next()
            if snapshot is None:
                return []
        found = self._take(snapshot, limit)
        snapshot.is_through = len(found) < limit
        return found

    def state(self) -> dict[str, Any]:
        """The checkpoint."""
        return self._state.saved() | {"source": self.known_as}

    def acknowledge(self) -> None:
        """Nothing to do: the database keeps no readers."""

    def lag(self) -> Lag:
        """OrderStatus rows that were not taken, and how much later the newest of them is."""
        count = self._ask("SELECT count(*) FROM OrderStatus WHERE id > ?", self._state.last)
        latest = max(self._state.latest.values(), default=0)
        if not count or not latest:
            return Lag(count, None if count else 0.0)
        newest = self._ask("SELECT timestamp FROM OrderStatus WHERE id > ? ORDER BY id DESC LIMIT 1", self._state.last)
        try:
            return Lag(count, max(0.0, (values.micros({"timestamp": newest}, "timestamp") - latest) / 1_000_000))
        except values.Unmappable:
            return Lag(count, None)

    def ended(self) -> Sequence[Event]:
        """What the snapshot at hand still has, and the ``source_ended`` of every bot in it."""
        snapshot = self._snapshot or self._open()
        found = self._take(snapshot, None)
        snapshot.is_through = True
        for instance in snapshot.instances:
            event = adapter.ended(
                snapshot.database,
                instance.name,
                connector_name=instance.market,
                last_status_id=instance.last_status_id,
                rows=instance.rows,
                counts=self._state.events.get(instance.name, {}),
                ts_utc=self._state.latest.get(instance.name) or times.EARLIEST,
            )
            if event["event_id"] not in self._state.ended:
                self._state.ended.add(event["event_id"])
                found.append(self._stamped(event))
        return found

    def close(self) -> None:
        """Let the database go."""
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    def _ask(self, query: str, after: int) -> Any:
        """One value, as the database is now."""
        try:
            with closing(sqlite_store.connect(self._path, BUSY_SECONDS)) as connection:
                row = connection.execute(query, (after,)).fetchone()
        except sqlite3.Error as error:
            raise sqlite_store.explained(self._path, error) from error
        return row[0] if row else None

    def _next(self) -> _Snapshot | None:
        """A new snapshot where the files changed and it is time."""
        if self._clock() < self._not_before or _signature(self._path) == self._read:
            if self._snapshot is not None and self._snapshot.is_old:
                self.close()  # a reader that stays would keep the bot from emptying its log
            elif self._snapshot is not None:
                self._snapshot.is_old = True
            return None
        snapshot = self._open()
        if snapshot.anew:
            self.close()
            raise TradetapeError(
                f"{self._path} was made anew, or put back", hint="it is opened again, as another source"
            )
        return snapshot

    def _open(self) -> _Snapshot:
        self.close()
        signature, began = _signature(self._path), self._clock()
        self._snapshot = _Snapshot(self._path, self._state, self.known_as)
        self._read, self.rows = signature, dict(self._snapshot.store.rows)
        self._not_before = self._clock() + PAUSE_FACTOR * (self._clock() - began)
        return self._snapshot

    def _take(self, snapshot: _Snapshot, limit: int | None) -> list[Event]:
        first = snapshot.instances[0].name if snapshot.instances else ""
        found = []
        try:
            for event, status_id in islice(snapshot.events, limit):
                self._count(event, event["instance_name"] or first)
                if status_id is not None:
                    self._state.last = status_id
                found.append(self._stamped(event))
            self._state.mark = snapshot.store.mark(self._state.last)
        except sqlite3.Error as error:
            raise sqlite_store.explained(self._path, error) from error
        return found

    def _count(self, event: Event, instance: str) -> None:
        counts = self._state.events.setdefault(instance, {})
        counts[event["event_type"]] = counts.get(event["event_type"], 0) + 1
        if event["ts_utc"]:
            self._state.latest[instance] = max(event["ts_utc"], self._state.latest.get(instance, 0))

    def _stamped(self, event: Event) -> Event:
        """What the user says about the bot goes before what the rows say."""
        if self._origin is None:
            return event
        said = {"account": self._origin.account, "owner": self._origin.owner, "environment": self._origin.environment}
        event |= {name: value for name, value in said.items() if value}
        if self._origin.environment and event["event_type"] == "order_created":
            event["payload"] = event["payload"] | {"is_live": self._origin.environment == environments.LIVE}
        return event


def _events(store: Store, database: adapter.Database, state: _State) -> Iterator[tuple[Event, int | None]]:
    """The events behind ``state``, each with the OrderStatus id that it accounts for."""
    after = state.last
    orphans = _orphans(store, database, state, after)
    orphan = next(orphans, None)
    for record in store.statuses(after):
        status_id = record.status["id"]
        while orphan is not None and orphan.before is not None and orphan.before <= status_id:
            yield _orphan_event(database, state, orphan), None
            orphan = next(orphans, None)
        yield _status_event(database, state, record), status_id
    while orphan is not None:
        yield _orphan_event(database, state, orphan), None
        orphan = next(orphans, None)
    for order, fill in store.unreported_orders():
        event_id = adapter.snapshot_event_id(database, order)
        if event_id not in state.snapshots:
            state.snapshots.add(event_id)
            yield adapter.from_order(database, order, fill=fill), None


def _status_event(database: adapter.Database, state: _State, record: StatusRecord) -> Event:
    fill = record.fill
    if fill is not None:
        event_id = adapter.fill_event_id(database, fill, record.fill_rowid, record.copy)
        if event_id not in state.fills:
            return adapter.from_filled_status(
                database, record.status, fill, rowid=record.fill_rowid, copy=record.copy, order=record.order
            )
    elif record.status["status"] == adapter.FILLED:
        state.unfilled.add(record.status["id"])
    return adapter.from_status(
        database, record.status, order=record.order, known=record.known, first_created=record.first_created
    )


def _orphans(store: Store, database: adapter.Database, state: _State, after: int) -> Iterator[FillRecord]:
    for record in store.orphans(after):
        if adapter.fill_event_id(database, record.fill, record.rowid, record.copy) not in state.fills:
            yield record


def _orphan_event(database: adapter.Database, state: _State, record: FillRecord) -> Event:
    state.fills.add(adapter.fill_event_id(database, record.fill, record.rowid, record.copy))
    return adapter.from_fill(database, record.fill, rowid=record.rowid, copy=record.copy, order=record.order)


def _signature(path: Path) -> Signature:
    """What changes when the bot commits: size and time of the database and of its write-ahead log."""
    found: list[tuple[int, int] | None] = []
    for name in (path.name, f"{path.name}-wal"):
        try:
            status = path.with_name(name).stat()
        except FileNotFoundError:
            found.append(None)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise unreadable(path, error) from error
        else:
            found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)
