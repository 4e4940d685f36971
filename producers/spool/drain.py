"""From a spool to Kafka, in order, on a thread of its own (P-06, P-07).

Read a batch, send it, wait for Kafka's acknowledgement, move the cursor, drop what it has passed. Whatever fails is
tried again from the cursor: what Kafka has already comes again under the same ids and positions, which the processor
recognises.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Condition, Event, Thread

from tradetape.producers import unmapped
from tradetape.producers.emitter import Emits, EventTooLarge
from tradetape.producers.spool import documents, frames, refusals, saved
from tradetape.producers.spool.documents import ToEvent
from tradetape.producers.spool.frames import Damage, Frame
from tradetape.producers.spool.log import Batch, Log, Position
from tradetape.producers.spool.patient import NotYet
from tradetape.schemas import crashpoints, envelope_json, identity
from tradetape.schemas.errors import TradetapeError

Connect = Callable[[], Emits]
"""Makes an emitter; raises TradetapeError where Kafka or the registry is not there."""

LINGER_SECONDS = 0.05
"""Between two looks at the log: accepted events go out together, and accepting one wakes nobody."""

FLUSH_SECONDS = 2.0
"""How long an acknowledgement may take before it is called late."""

WORK_SECONDS, YIELD_SECONDS = 0.0005, 0.00005
"""How long the drain works at a time, a few events, before it makes way for the bot's threads: Python alone would let
it go on for 5 ms while they wait. It drains a fifth slower than with 2 ms, and who waits for it waits a third as long.
"""

BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
WARN_SECONDS = 10.0
"""Between two warnings."""

_LOG = logging.getLogger("tradetape.spool")


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far Kafka has the log, kept in the spool's folder; ``spool_id`` names the spool in ids derived from it."""

    path: Path
    spool_id: str
    position: Position

    @classmethod
    def load(cls, path: Path, new_id: Callable[[], str]) -> Cursor:
        """The cursor at ``path``; a lost one begins at the start of the log, whose events then come again."""
        kept = saved.load(path)
        try:
            return cls(path, str(kept["spool_id"]), Position(int(kept["segment"]), int(kept["offset"])))
        except (KeyError, TypeError, ValueError):
            return cls(path, new_id(), Position(0, 0))

    def moved(self, position: Position) -> Cursor:
        """The cursor at ``position``."""
        return Cursor(self.path, self.spool_id, position)

    def save(self) -> None:
        """Write it down. Raises OSError."""
        segment, offset = self.position
        saved.save(self.path, {"spool_id": self.spool_id, "segment": segment, "offset": offset})


class Drain:
    """Sends what ``log`` holds behind ``cursor``. ``housekeep`` is called between batches; it must not raise.

    Nothing is thrown at the bot: what goes wrong is in ``last_error``, and a warning of the logger ``tradetape.spool``.
    """

    def __init__(
        self,
        log: Log,
        cursor: Cursor,
        *,
        name: str,
        to_event: ToEvent,
        clock: Callable[[], datetime],
        housekeep: Callable[[], None],
    ) -> None:
        self.cursor = cursor
        self.acknowledged = 0
        """Documents that Kafka has, since the spool was opened."""
        self.last_error = ""
        """Why the drain does not go on; empty while it does."""
        self._log = log
        self._name = name
        self._to_event = to_event
        self._clock = clock
        self._housekeep = housekeep
        self._emitter: Emits | None = None
        self._who: Mapping[str, str] = {}
        self._damaged: set[tuple[int, int]] = set()
        self._warned: float | None = None
        self._wake, self._stop = Event(), Event()
        self._moved = Condition()
        self._thread: Thread | None = None

    @property
    def started(self) -> bool:
        return self._thread is not None

    @property
    def connected(self) -> bool:
        """Whether there is an emitter."""
        return self._emitter is not None

    @property
    def damaged(self) -> int:
        """Damaged places found since the spool was opened."""
        return len(self._damaged)

    def start(self, connect: Connect) -> None:
        """Begin, once."""
        self._thread = Thread(target=self._run, args=(connect,), name=f"spool-{self._name}", daemon=True)
        self._thread.start()

    def wait(self, is_done: Callable[[], bool], timeout: float) -> bool:
        """Whether ``is_done`` becomes true within ``timeout`` seconds; it is asked whenever Kafka has more."""
        self._wake.set()
        with self._moved:
            return self._moved.wait_for(is_done, timeout)

    def stop(self, timeout: float) -> None:
        """End after the batch that is under way, or without it, after ``timeout`` seconds at most."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def step(self, connect: Connect) -> bool:
        """Send one batch, and return whether the cursor moved.

        Raises TradetapeError where Kafka or the registry fails, OSError where the disk does; the next step begins at
        the same place, with a new emitter.
        """
        self._housekeep()
        batch = self._log.read(self.cursor.position)
        if batch is None:
            return False
        if not batch.items:
            self._move(batch.next, 0)
            return True
        if self._emitter is None:
            self._emitter = connect()
        acknowledged = False
        try:
            acknowledged = self._deliver(self._emitter, batch)
        finally:
            if not acknowledged:
                self._emitter = None
        if acknowledged:
            crashpoints.reach("spool.before_cursor")
            count = sum(isinstance(item, Frame) and item.kind == frames.EVENT for item in batch.items)
            self._move(batch.next, count)
        return acknowledged

    def _run(self, connect: Connect) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                went_on = self.step(connect)
                failures, self.last_error = 0, ""
            except (TradetapeError, OSError) as error:
                self._note(error)
            except Exception as error:
                # A fault of ours must not end the only thread that sends: it is told, and tried again.
                self._note(error)
                _LOG.exception("the spool %s: unexpected", self._log.folder)
            else:
                if not went_on:
                    self._pause(LINGER_SECONDS)
                continue
            self._pause(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _deliver(self, emitter: Emits, batch: Batch) -> bool:
        """Send ``batch`` and return whether Kafka has it, False where the drain is to stop."""
        since = time.monotonic()
        for item in batch.items:
            if self._stop.is_set():
                return False
            self._send(emitter, batch.segment, item)
            if time.monotonic() - since >= WORK_SECONDS:
                time.sleep(YIELD_SECONDS)
                since = time.monotonic()
        while True:
            try:
                emitter.flush(FLUSH_SECONDS)
                return True
            except NotYet as error:
                if self._stop.is_set():
                    return False
                self._note(error)
                self._housekeep()

    def _send(self, emitter: Emits, segment: int, item: Frame | Damage) -> None:
        if isinstance(item, Damage):
            self._tell_damage(emitter, segment, item)
        elif item.kind == frames.GAP:
            unmapped.send(emitter, documents.to_event(item.body, control=True))
        else:
            event = self._to_event(item.body)
            self._who = refusals.identity_of(event)
            try:
                unmapped.send(emitter, event)
            except (ValueError, TypeError, EventTooLarge) as error:
                # Evidence all the same, and no record may stop those behind it.
                unmapped.send(
                    emitter,
                    unmapped.unmapped(
                        format=envelope_json.FORMAT, error=str(error), native=item.body, fields=self._who
                    ),
                )

    def _tell_damage(self, emitter: Emits, segment: int, damage: Damage) -> None:
        path = self._log.path(segment)
        size = damage.end - damage.start
        if (segment, damage.start) not in self._damaged:
            self._damaged.add((segment, damage.start))
            _LOG.error("%s: %d bytes at offset %d are damaged; what follows is read", path, size, damage.start)
            self._attempt(lambda: self._log.keep_damaged(segment))
        document = refusals.gap(
            self._who,
            event_id=identity.derive(self.cursor.spool_id, refusals.DAMAGED, str(segment), str(damage.start)),
            at=self._clock(),
            name=self._name,
            reason=refusals.DAMAGED,
            count=None,
            first=f"{path.name}:{damage.start}",
            last=f"{path.name}:{damage.end}",
            detail=f"{size} bytes of {path.name} from offset {damage.start} are no records",
        )
        unmapped.send(emitter, documents.to_event(documents.write(document), control=True))

    def _move(self, position: Position, count: int) -> None:
        moved = self.cursor.moved(position)
        self._attempt(moved.save)
        self._attempt(lambda: self._log.drop_before(position.segment))
        with self._moved:
            self.cursor = moved
            self.acknowledged += count
            self._moved.notify_all()

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do what sending can go on without: at worst, events come again after a restart."""
        try:
            action()
        except OSError as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        self.last_error = str(error) or type(error).__name__
        now = time.monotonic()
        if not self._stop.is_set() and (self._warned is None or now - self._warned >= WARN_SECONDS):
            self._warned = now
            _LOG.warning("the spool %s waits: %s", self._log.folder, self.last_error)
