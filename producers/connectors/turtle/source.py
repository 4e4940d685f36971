"""Turtle's Postgres table ``events`` as a source: exact whatever the order in which transactions commit (S0-01, S0-02).

A look takes every row of the transactions that ended since the last look (see ``store``), in their order; within
one transaction by run and sequence. A row's position is its transaction's id and its number within it. A transaction
that stays open holds back the rows of those that began after it; ``lag`` shows them, none is lost.

Looking through a big table each second would cost too much, and new rows also land in old pages, so that nothing can
be skipped by place. A look therefore reads by the index on ``timestamp``, from a while before the newest row; a *sweep*
through the whole table finds what the bot wrote with an older timestamp, in a stream of its own, ``events.late``,
because its positions lie behind. Both rest in proportion to what they cost.

A row that is updated comes again as a new one, and its (run_id, sequence) as a repeated number.

A checkpoint is trusted as long as the table bears it out: of the rows taken last (``state.ANCHORS``) one at least must
be there as it was. Where all of them are gone or were written anew, the table is another one, or was put back or
written anew, and what else it has may be on record or not: that is an error, and nothing is taken. Two cases are none,
as a look takes all that they leave: these rows were updated in place, or this very table was emptied. A checkpoint by
which nothing was taken yet counts for its own table only.

Two limits are left. What was written with an older timestamp and not swept yet is not taken in if the checkpoint is
lost just then: all rows come in the first stream after that, where its position lies behind. And where a row is deleted
out of a transaction that is taken in part, after a batch that was sent and not saved, the numbers behind it shift, and
the row that follows that batch comes under a number that is on record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any

from tradetape.producers.adapters import turtle as adapter
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.source import Lag
from tradetape.producers.connectors.turtle.state import State, key
from tradetape.producers.connectors.turtle.store import ORDINAL_BITS, WRAP, Row, Snapshot, Span, Store, Window
from tradetape.producers.events import Event
from tradetape.producers.unmapped import TYPE as UNMAPPED
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.errors import TradetapeError

DEFAULTS = {"connector_name": "ibkr", "quote": "USD"}

STREAM = adapter.STREAM
LATE = f"{STREAM}.late"

SLACK = 600 * 1_000_000
"""Microseconds before the newest row that a look goes back to: a bot writes a row well within ten minutes."""
LOOK_REST = 20
SWEEP_REST = 100
"""Rests as multiples of what a look or a sweep took: 5 % and 1 % of the server's time."""

REPEATED = "its transaction id came round again (2^32): it may have been taken in before"


def fingerprint(location: str) -> str:
    """The identity of the table at ``location`` (a Postgres address): one made anew has another."""
    store = Store(location)
    try:
        return store.fingerprint()
    finally:
        store.close()


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> TurtleSource:
    """The table at ``location``, from where ``saved`` says. Raises TradetapeError where it cannot be read."""
    return TurtleSource(location, origin, saved)


class TurtleSource:
    """The source; see ``Source``. ``clock`` tells seconds that never run backwards."""

    def __init__(
        self, location: str, origin: Origin, saved: dict[str, Any] | None, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._location = location
        self._origin = origin
        self._clock = clock
        self._state = State.of(saved)
        self._store = Store(location)
        self._table = self._store.fingerprint()
        if not self._state.rows and self._state.table != self._table:
            self._state = State()
        self._watch: Store | None = None
        self._window: Window | None = None
        self._taken_from: Snapshot | None = None
        self._next_look = self._next_sweep = clock()
        self._bound_is_new = False
        self.name = self._store.name
        self.source_id = origin.source_id

    def poll(self, limit: int) -> Sequence[Event]:
        """The next rows as events; see ``Source.poll``.

        Raises TradetapeError also for a table that was written anew or put back to an older state: its rows cannot be
        told from those taken in.
        """
        while True:
            if self._window is None and not self._open_next():
                return ()
            assert self._window is not None
            rows = self._window.take(limit)
            if rows:
                reach("turtle.read")
                return [self._event(row, late=self._window.span.late) for row in rows]
            self._finish(self._window)

    def state(self) -> dict[str, Any]:
        """See ``Source.state``."""
        return {"adapter": adapter.ADAPTER.name, **asdict(self._state)}

    def acknowledge(self) -> None:
        """See ``Source.acknowledge``."""
        self._bound_is_new = False

    def lag(self) -> Lag:
        """Rows in the store that were not polled, and how much newer its newest is; without those left to a sweep."""
        if self._watch is None:
            self._watch = Store(self._location)
        snapshot = self._watch.snapshot()
        waiting = 0 if self._window is None else self._window.left
        beyond = self._state.horizon
        if self._window is not None and not self._window.span.late:
            beyond = self._window.span.high
        waiting += self._watch.count(Span(beyond, snapshot.next_xid, 0, self._state.since), snapshot.next_xid)
        newest = self._watch.newest()
        seconds = None
        if newest is not None and self._state.latest:
            seconds = max(0, newest - self._state.latest) / 1_000_000
        return Lag(waiting, seconds)

    def ended(self) -> Sequence[Event]:
        """See ``Source.ended``; none where the last ones said the same."""
        state = self._state
        total = sum(state.rows.values())
        if total == state.ended:
            return ()
        state.ended = total
        return [adapter.ADAPTER.ended(self._origin, rows=state.rows, counts=state.events, latest=state.latest)]

    def close(self) -> None:
        """See ``Source.close``."""
        self._store.close()
        if self._watch is not None:
            self._watch.close()

    def _open_next(self) -> bool:
        """Open the next window that is due; whether there is one.

        None while the bound between looks and sweeps has moved and that is not saved: rows would change their stream.
        """
        if self._bound_is_new:
            return False
        state, began = self._state, self._clock()
        if began >= self._next_look and self._look():
            self._next_look = self._clock() + LOOK_REST * (self._clock() - began)
            return True
        if began >= self._next_sweep and state.since is not None and state.swept < state.horizon:
            self._begin()
            late = Span(state.swept, state.horizon, state.late, state.since, late=True, behind=key(state.late_behind))
            self._take(late)
            self._next_sweep = self._clock() + SWEEP_REST * (self._clock() - began)
            return True
        return False

    def _look(self) -> bool:
        """Open a window on the transactions that ended since the last one; whether there are any."""
        state = self._state
        snapshot = self._begin()
        if snapshot.horizon <= state.horizon:
            self._store.end()
            return False
        low = max(state.horizon, state.position >> ORDINAL_BITS)
        self._take(Span(low, snapshot.horizon, state.position, state.since, behind=key(state.behind)))
        return True

    def _begin(self) -> Snapshot:
        self._store.begin()
        self._taken_from = snapshot = self._store.snapshot()
        self._check(snapshot)
        return snapshot

    def _take(self, span: Span) -> None:
        assert self._taken_from is not None
        self._window = self._store.window(span, self._taken_from.next_xid)

    def _check(self, snapshot: Snapshot) -> None:
        """Raise TradetapeError where the rows taken in are no longer those of the table."""
        state = self._state
        hint = "give it a source id of its own: the whole table is then taken in as another source"
        if snapshot.next_xid < state.horizon:
            raise TradetapeError(f"{self.name} is older than what was taken from it: restored from a backup", hint=hint)
        if state.anchors:
            there = self._store.transactions_of([row_id for row_id, _ in state.anchors], snapshot.next_xid)
            if not any(row_id in there and (there[row_id] - xid) % WRAP == 0 for row_id, xid in state.anchors):
                self._check_without(there, snapshot, hint)
        state.table, state.filenode = self._table, snapshot.filenode

    def _check_without(self, there: Mapping[str, int], snapshot: Snapshot, hint: str) -> None:
        """Go on without the rows taken last, where ``there`` is what became of them; raises TradetapeError."""
        state = self._state
        is_same = bool(snapshot.filenode) and state.table == self._table
        if there:
            if not is_same or snapshot.filenode != state.filenode or min(there.values()) < state.horizon:
                raise TradetapeError(f"the table in {self.name} was written anew, e.g. by ALTER TABLE", hint=hint)
        elif not is_same or self._store.has_before(state.horizon, snapshot.next_xid):
            raise TradetapeError(
                f"the table in {self.name} has none of the rows taken last: it is another, or was put back", hint=hint
            )

    def _event(self, row: Row, *, late: bool) -> Event:
        state, problem = self._state, row.problem
        xid = row.position >> ORDINAL_BITS
        stream = LATE if late else STREAM
        if state.oldest is None:
            state.oldest = xid
        if late and xid - WRAP >= state.oldest:
            problem = problem or REPEATED
        event = adapter.from_record(self._origin, row.content, position=row.position, stream=stream, problem=problem)
        state.took(row, late=late)
        state.latest = max(state.latest, event["ts_utc"])
        state.rows[stream] = state.rows.get(stream, 0) + 1
        if event["event_type"] != UNMAPPED:
            state.events[event["event_type"]] = state.events.get(event["event_type"], 0) + 1
        return event

    def _finish(self, window: Window) -> None:
        """The window is at its end: everything in it was taken."""
        assert self._taken_from is not None
        state, now = self._state, self._taken_from.now
        self._window = None
        self._store.end()
        if not window.span.late:
            state.horizon = window.span.high
        if window.span.late or window.span.since is None:
            state.swept = window.span.high
            if state.latest:
                state.since = min(state.latest, now) - SLACK
                self._bound_is_new = True
        reach("turtle.finished")
