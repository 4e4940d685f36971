"""The disk spool of the SDK: an event is accepted when its write has completed, and goes to Kafka from there (P-07).

What survives: an accepted event is in the kernel's cache of the file, so it survives kill −9 of the bot. With
``fsync`` it is on the disk, and survives a crash of the machine too, at the disk's price for each event. Neither
survives the loss of the disk. Kafka and the registry may both be away, also when the bot starts.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import uuid4

from tradetape.producers.spool import documents, frames
from tradetape.producers.spool.documents import ToEvent, ToJson
from tradetape.producers.spool.drain import Connect, Cursor, Drain
from tradetape.producers.spool.log import Log, unusable
from tradetape.producers.spool.refusals import Refusals
from tradetape.schemas.errors import TradetapeError

MIB = 1024 * 1024
LARGEST_BODY = 64 * MIB
"""Longest JSON of one document."""

BUSY = "the disk did not take the events before it in time"
NO_ROOM = "no room"

STOP_SECONDS = 2.0


class SpoolFull(TradetapeError):
    """The event was not taken. It is counted, and a ``system_gap`` will tell of it."""


class Health(NamedTuple):
    """How a spool does. Numbers count since it was opened, ``waiting_bytes`` also what an earlier process left."""

    connected: bool
    accepted: int
    acknowledged: int
    refused: int
    damaged: int
    waiting_bytes: int
    last_error: str


class Spool:
    """A folder of accepted events, drained in order to Kafka by a thread.

    One process has a folder at a time, and what a dead one left goes out first. ``name`` stands for the bot where an
    event of the spool's own cannot say which bot it is about. All segments together hold ``max_bytes`` at most, one
    event half of it; space comes back a segment at a time. What is damaged is kept beside them, uncounted.

    ``max_wait`` (seconds) bounds how long ``append`` waits for another thread's write; only the write itself takes as
    long as the disk takes. ``to_event`` makes the event of an accepted document. Safe to share by threads; a forked
    process needs a spool of its own.

    Raises TradetapeError where the folder is in use or cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "spool",
        max_bytes: int = 1024 * MIB,
        segment_bytes: int = 16 * MIB,
        fsync: bool = False,
        max_wait: float = 0.005,
        to_event: ToEvent = documents.to_event,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self.folder = folder
        self.max_wait = max_wait
        self._name = name
        self._clock = clock
        self._log = Log(
            folder,
            # A quarter: the segment being written is no obstacle to a drained spool's taking more.
            segment_bytes=min(segment_bytes, max(1, max_bytes // 4)),
            max_bytes=max_bytes,
            fsync=fsync,
        )
        try:
            cursor = Cursor.load(folder / "cursor.json", new_id)
            self._refusals = Refusals(folder / "refused.json", clock=clock, new_id=new_id)
        except OSError as error:
            self._log.close()
            raise unusable(folder, error) from error
        self._log.skip(cursor.position.segment)
        self._accepted = 0
        self._closed = ""
        self._housekeeping_error = ""
        self._lock = Lock()
        self._drain = Drain(
            self._log,
            cursor,
            name=name,
            to_event=to_event,
            clock=clock,
            housekeep=self._housekeep,
        )
        _OPEN.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self, connect: Connect) -> None:
        """Drain from now on, to what ``connect`` makes; it is called on the spool's thread, again after a failure.

        Use an emitter whose events never expire (``patient.PatientEmitter``). Raises TradetapeError if already started.
        """
        if self._drain.started or self._closed:
            raise TradetapeError(f"the spool {self.folder} {self._closed or 'was started already'}")
        self._drain.start(connect)

    def append(self, document: Mapping[str, Any], to_json: ToJson = documents.write) -> None:
        """Accept one envelope document (S3-01) of values that ``to_json`` takes. Its write has completed on return.

        Raises SpoolFull at once where it was not taken; TradetapeError for values that JSON cannot hold, for a
        document that no spool could take, and for a spool that is closed.
        """
        body = to_json(document)
        frame = frames.encode(frames.EVENT, body)
        if len(body) > LARGEST_BODY or len(frame) > self._log.max_bytes // 2:
            raise TradetapeError(f"an event of {len(body)} bytes is larger than the spool {self.folder} can hold")
        if not (self._lock.acquire(False) or self._lock.acquire(timeout=self.max_wait)):
            raise self.refuse(document)
        try:
            if self._closed:
                raise TradetapeError(f"the spool {self.folder} {self._closed}")
            problem = (self._tell_refusals() if self._refusals else "") or self._write(frame)
            if not problem:
                self._accepted += 1
        finally:
            self._lock.release()
        if problem:
            raise self.refuse(document, problem)

    def refuse(self, document: Mapping[str, Any], cause: str = BUSY) -> SpoolFull:
        """Count ``document`` as refused, and return what to raise."""
        self._refusals.add(document, cause)
        return SpoolFull(
            f"the spool {self.folder} did not take the event: {cause}",
            hint=self._drain.last_error or "it empties into Kafka; give it more max_bytes, or a faster disk",
        )

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until Kafka has everything accepted so far.

        Raises TradetapeError if not, after ``timeout`` seconds: the events stay, and are sent later.
        """
        if not self._drain.started:
            raise TradetapeError(f"the spool {self.folder} was not started", hint="call start() first")
        target = self._log.tail
        if not self._drain.wait(lambda: self._drain.cursor.position >= target, timeout):
            health = self.health()
            raise TradetapeError(
                f"{health.waiting_bytes} bytes wait in the spool {self.folder} after {timeout:g} s",
                hint=f"they are kept and sent later; {health.last_error or 'Kafka takes them slowly'}",
            )

    def health(self) -> Health:
        """How it does now."""
        return Health(
            connected=self._drain.connected,
            accepted=self._accepted,
            acknowledged=self._drain.acknowledged,
            refused=self._refusals.total,
            damaged=self._drain.damaged,
            waiting_bytes=self._waiting_bytes(),
            last_error=self._drain.last_error or self._housekeeping_error,
        )

    def close(self, drain_timeout: float = 5.0) -> int:
        """Take nothing more, drain for ``drain_timeout`` seconds at most, and let the folder go.

        Returns the bytes that stay for the next process.
        """
        with self._lock:
            if self._closed:
                return self._waiting_bytes()
            self._closed = "is closed"
            _OPEN.discard(self)
        if self._drain.started:
            until = time.monotonic() + drain_timeout
            self._drain.wait(lambda: not self._refusals and not self._waiting_bytes(), drain_timeout)
            self._drain.stop(max(STOP_SECONDS, until - time.monotonic()))
        self._keep(self._refusals.save)
        left = self._waiting_bytes()
        with self._lock:
            if not left:
                self._keep(lambda: self._log.drop_before(self._log.tail.segment + 1))
            self._log.close()
        return left

    def _write(self, frame: bytes) -> str:
        """Append ``frame``; returns why not, where it was not."""
        if not self._log.has_room(len(frame)):
            return NO_ROOM
        try:
            self._log.write(frame)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _tell_refusals(self) -> str:
        """Write what was refused into the log; returns why not, where it was not all."""
        while (tally := self._refusals.take()) is not None:
            body = documents.write(tally.document(self._clock(), self._name))
            problem = self._write(frames.encode(frames.GAP, body))
            if problem:
                # Without room nothing was tried; a disk that failed may have kept the record all the same.
                self._refusals.put_back(tally, final=problem != NO_ROOM)
                return problem
        return ""

    def _housekeep(self) -> None:
        if self._refusals:
            with self._lock:
                self._tell_refusals()
        self._keep(self._refusals.save)

    def _keep(self, action: Callable[[], None]) -> None:
        try:
            action()
            self._housekeeping_error = ""
        except OSError as error:
            self._housekeeping_error = f"{self.folder}: {error.strerror or error}"

    def _waiting_bytes(self) -> int:
        """Bytes behind the cursor, as far as segments tell: what was drained of the first one is not known."""
        position, tail = self._drain.cursor.position, self._log.tail
        return 0 if position >= tail else max(0, self._log.used_bytes - position.offset)

    def _forget(self) -> None:
        self._closed = "was opened before this process was forked: open another one in another folder"
        self._lock = Lock()
        self._log.forget()


_OPEN: weakref.WeakSet[Spool] = weakref.WeakSet()


def _after_fork() -> None:
    for spool in list(_OPEN):
        spool._forget()


if hasattr(os, "register_at_fork"):  # not on Windows, where a recorder works without a spool
    os.register_at_fork(after_in_child=_after_fork)
