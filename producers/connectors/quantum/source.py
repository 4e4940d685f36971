"""Quantum's Redis streams as a source (S4-01, S4-03, S4-04, S4-10).

A consumer group of its own reads all streams of the bot; an entry is acknowledged (XACK) only in ``acknowledge``, when
Kafka has its event and the checkpoint is saved. The checkpoint says where to go on: on opening, entries up to there
that are still pending are acknowledged, whatever was handed out after that, to us or to a consumer that died, is taken
over, and the group is set back to hand it out again, in order. Without a checkpoint (lost, or another Kafka) everything
that is still there is read again; what is on record already is known again by its position.

The connector writes to the bot's Redis: the key ``tradetape:source`` (once; it names the database), a consumer group in
each stream (streams that are not there yet are made empty), a key ``tradetape:generation:…`` for each stream that was
made anew, and dead letters. Only one connector may read for a source: a second one is refused as long as the first is
connected. A gap that was told in a batch that was never acknowledged may be told again in other bounds: each system_gap
says between which entries it lies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tradetape.producers.adapters import quantum as adapter
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.quantum_entries import EntryId
from tradetape.producers.connectors.quantum import gaps
from tradetape.producers.connectors.quantum.letters import REDRIVE, Letter, bury, failed_before
from tradetape.producers.connectors.quantum.limits import LIMITS, SECOND, RateLimits
from tradetape.producers.connectors.quantum.merge import Item, Stream, next_stream
from tradetape.producers.connectors.quantum.store import Location, Store
from tradetape.producers.connectors.quantum.streams import BATCH_BYTES, Streams
from tradetape.producers.connectors.source import Lag
from tradetape.producers.events import Event
from tradetape.schemas import crashpoints

DEFAULTS = {"connector_name": "binance", "quote": ""}

RETRIES_MS = (100, 500, 2000)
"""Pauses before each further attempt at an entry that could not be handled (S4-04)."""

SETTLE_MS = 100
"""Younger entries wait: others of the same moment may still be written to other streams."""
LONGEST_WAIT_MS = 1000
"""What waits longer than this, because its id lies ahead of the server's clock, goes."""
LOOK_EVERY = 30.0
"""Seconds between two looks for new streams."""
COUNT = 500
"""Entries of one stream in one read, at most."""

_LOG = logging.getLogger("tradetape.connect")

Adapt = Callable[..., Event]


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> QuantumSource:
    """The database at ``location`` (``redis://host:port/db``, with ``?rate_limit=<type>:<entries a second>`` where the
    defaults do not fit), read on from ``saved``. Raises TradetapeError.
    """
    where = Location.of(location)
    store = Store(where, client_name=f"tradetape:{origin.source_id}")
    try:
        return QuantumSource(store, origin, saved, limits={**LIMITS, **where.limits})
    except BaseException:
        store.close()
        raise


def fingerprint(location: str) -> str:
    """The name of the database at ``location``; one that has none gets it. Raises TradetapeError."""
    store = Store(Location.of(location))
    try:
        return store.source_id(make=True)
    finally:
        store.close()


@dataclass(frozen=True, slots=True)
class _Failure:
    """An entry that could not be handled. Times in milliseconds since 1970."""

    reason: str
    attempts: int
    first: int
    last: int


class QuantumSource:
    """One database, open. ``adapt`` maps an entry; clocks and ``sleep`` (seconds) are given by tests."""

    def __init__(
        self,
        store: Store,
        origin: Origin,
        saved: dict[str, Any] | None,
        *,
        limits: Mapping[str, int] = LIMITS,
        adapt: Adapt = adapter.from_entry,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        state = saved or {}
        self.name = origin.instance_name
        self.source_id = origin.source_id
        self._store = store
        self._origin = origin
        self._group = f"tradetape:{origin.source_id}"
        self._adapt = adapt
        self._sleep, self._clock, self._now = sleep, clock, now
        self._limits = RateLimits(limits)
        self._limits.restore(state.get("windows", []))
        self._counts: dict[str, int] = dict(state.get("events", {}))
        self._latest: int = state.get("latest", 0)
        self._ended: str = state.get("ended", "")
        self._letters = [Letter.restore(letter) for letter in state.get("letters", [])]
        self._failed = {letter.entry for letter in self._letters}
        self._acknowledged_next: dict[str, list[EntryId]] = {}
        self._events: list[Event] = []
        self._held = 0
        store.refuse_others(sleep)
        self._streams = Streams(store, self._group, state.get("streams", {}), was_named=state.get("named", ""))
        self._streams.unreadable.update(state.get("unreadable", {}))
        self._look()
        self._failed |= failed_before(store, self._group)

    def poll(self, limit: int) -> Sequence[Event]:
        """The next events in the order of the entries' ids; see ``Source``. A batch ends early at BATCH_BYTES of native
        content, and at an entry that fails, after 2.6 seconds of attempts.
        """
        if self._clock() >= self._look_next:
            self._look()
        self._read(limit, at_end=True)
        crashpoints.reach("quantum.read")
        waited = 0
        while len(self._events) < limit and self._held < BATCH_BYTES:
            streams = self._streams.by_name.values()
            stream = next_stream(streams, SETTLE_MS, anything=waited >= LONGEST_WAIT_MS)
            if stream is not None:
                if not self._handle(stream) and self._events:
                    break
            elif any(stream.more and not stream.items for stream in streams):
                self._read(limit, at_end=False)
            elif self._events:
                break
            elif any(stream.items for stream in streams) or self._window_ends_soon():
                self._sleep(SETTLE_MS / 1000)
                waited += SETTLE_MS
                self._read(limit, at_end=True)
                self._close_windows()
            else:
                break
        self._close_windows()
        events, self._events, self._held = self._events, [], 0
        return events

    def state(self) -> dict[str, Any]:
        """The database's name, the place in each stream, open rate windows, counts, and dead letters that Redis does
        not have yet.
        """
        return {
            "named": self._streams.named,
            "streams": self._streams.saved(),
            "unreadable": self._streams.unreadable,
            "windows": self._limits.saved(),
            "events": self._counts,
            "latest": self._latest,
            "ended": self._ended,
            "letters": [letter.saved() for letter in self._letters],
        }

    def acknowledge(self) -> None:
        """Write dead letters, then XACK everything polled so far."""
        crashpoints.reach("quantum.before_acknowledge")
        bury(self._store, self._letters)
        self._letters = []
        crashpoints.reach("quantum.buried")
        taken, self._acknowledged_next = self._acknowledged_next, {}
        if taken:
            self._store.acknowledge(self._group, taken)
        crashpoints.reach("quantum.acknowledged")

    def lag(self) -> Lag:
        """Entries that the streams have and we did not take; and the time between the newest ids of both."""
        streams = self._streams.by_name
        infos = self._store.infos(list(streams))
        records = sum(max(0, info.added - (streams[name].taken.added or 0)) for name, info in infos.items())
        newest = max((info.newest.ms for info in infos.values()), default=0)
        taken = max((stream.taken.last.ms for stream in streams.values()), default=0)
        return Lag(records, max(0, newest - taken) / 1000 if newest and taken else None)

    def ended(self) -> Sequence[Event]:
        """One ``source_ended``, if there is anything new to say."""
        rows = {name: stream.rows for name, stream in self._streams.by_name.items() if stream.rows}
        event = adapter.ADAPTER.ended(self._origin, rows=rows, counts=self._counts, latest=self._latest)
        if not rows or event["event_id"] == self._ended:
            return []
        self._ended = event["event_id"]
        return [event]

    def close(self) -> None:
        """Let the connection go."""
        self._store.close()

    def _look(self) -> None:
        self._look_next = self._clock() + LOOK_EVERY
        for name, why in self._streams.attach([*self._store.known_streams(), REDRIVE]):
            self._emit(gaps.unreadable(self._origin, name, why, self._streams.last_of(name)))

    def _read(self, limit: int, *, at_end: bool) -> None:
        for name, why in self._streams.read(min(COUNT, max(1, limit)), at_end=at_end):
            self._emit(gaps.unreadable(self._origin, name, why, self._streams.last_of(name)))

    def _handle(self, stream: Stream) -> bool:
        """Take the next item of ``stream``; False where it failed for good."""
        item = stream.items[0]
        if item.missing is not None:
            stream.let_go()
            self._emit(gaps.missing(self._origin, stream.name, item.then.generation, item.missing))
            return True
        if stream.name == REDRIVE:
            outcome = self._redriven(item)
        else:
            outcome = self._attempt(lambda: self._fresh(stream.name, item))
            if isinstance(outcome, _Failure):
                self._emit(self._refused(stream.name, item, outcome))
                self._letters.append(self._letter(stream.name, item, outcome))
                self._failed.add(self._letters[-1].entry)
        stream.let_go()
        self._acknowledged_next.setdefault(stream.name, []).append(item.entry_id)
        return not isinstance(outcome, _Failure)

    def _fresh(self, name: str, item: Item) -> None:
        """Map an entry that is read from its own stream, if its rate is within the limit."""
        generation = item.then.generation
        how = {"generation": generation, "placed": (name, generation, item.entry_id) not in self._failed}
        if self._limits.limit_of(name) is None:
            self._emit(self._adapt(self._origin, name, item.entry_id, item.fields, **how))
            return
        symbol = adapter.symbol_of(item.fields, name)
        event = None
        if self._limits.has_room(name, symbol, item.entry_id):
            event = self._adapt(self._origin, name, item.entry_id, item.fields, **how)
        for excess in self._limits.take(name, symbol, item.entry_id):
            self._emit(gaps.excess(self._origin, excess))
        if event is not None:
            self._emit(event)

    def _redriven(self, item: Item) -> _Failure | None:
        """Map the entry of a dead letter that somebody handed back."""
        try:
            letter = Letter.of(item.fields)
        except ValueError as error:
            why = f"no dead letter: {error}"
            self._emit(adapter.refused(self._origin, REDRIVE, item.entry_id, item.fields, why))
            return None
        if letter.group != self._group:
            return None

        def again() -> None:
            event = self._adapt(
                self._origin, letter.stream, letter.entry_id, letter.fields, generation=letter.generation, placed=False
            )
            self._emit(event)

        outcome = self._attempt(again)
        if isinstance(outcome, _Failure):
            failed = Item(letter.entry_id, letter.fields, None, item.then)
            self._letters.append(self._letter(letter.stream, failed, outcome, letter.generation).after(letter))
        return outcome

    def _attempt(self, do: Callable[[], None]) -> _Failure | None:
        """``do``, with pauses and again where it fails; what it failed of in the end. Whatever a record does to an
        adapter, it must not stop the bot's other records.
        """
        first = 0
        for attempt, pause in enumerate((*RETRIES_MS, None), 1):
            try:
                do()
                return None
            except Exception as error:
                now = int(self._now() * 1000)
                first = first or now
                if pause is None:
                    _LOG.error("%s: an entry failed %d times", self.name, attempt, exc_info=error)
                    return _Failure(f"{type(error).__name__}: {error}", attempt, first, now)
                self._sleep(pause / 1000)
        raise AssertionError("unreachable")

    def _letter(self, name: str, item: Item, failure: _Failure, generation: int | None = None) -> Letter:
        return Letter(
            group=self._group,
            stream=name,
            entry_id=item.entry_id,
            fields=item.fields,
            generation=item.then.generation if generation is None else generation,
            reason=failure.reason,
            attempts=failure.attempts,
            first_failed=failure.first,
            last_failed=failure.last,
        )

    def _refused(self, name: str, item: Item, failure: _Failure) -> Event:
        why = f"dead letter after {failure.attempts} attempts: {failure.reason}"
        return adapter.refused(self._origin, name, item.entry_id, item.fields, why, generation=item.then.generation)

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self._held += len(event["native"] or b"")
        name = event["event_type"]
        self._counts[name] = self._counts.get(name, 0) + 1
        self._latest = max(self._latest, event["ts_utc"])

    def _close_windows(self) -> None:
        """End the rate windows that are over by the server's clock."""
        for name in self._limits.streams():
            stream = self._streams.by_name.get(name)
            if stream is not None and not stream.more and not stream.items:
                for excess in self._limits.close(name, (stream.read_at_ms - SETTLE_MS) // SECOND):
                    self._emit(gaps.excess(self._origin, excess))

    def _window_ends_soon(self) -> bool:
        """Whether something was dropped in the second at hand: worth waiting for, to tell it once and whole."""
        return any(
            0
            <= (second + 1) * SECOND + SETTLE_MS - self._streams.by_name[name].read_at_ms
            <= LONGEST_WAIT_MS + SETTLE_MS
            for name, second in self._limits.dropping()
            if name in self._streams.by_name
        )
