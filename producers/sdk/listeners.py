"""Listeners of an emitter, told on a thread of their own (S1-04)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread, current_thread
from typing import Generic, TypeVar

from tradetape.producers.sdk.chains import Recorded, following
from tradetape.schemas.errors import TradetapeError

Told = TypeVar("Told")
Listener = Callable[[Told], object]

_LOG = logging.getLogger("tradetape.sdk")


class Listeners(Generic[Told]):
    """Who is told of which type, and the thread that tells them, in the order of ``tell``. Safe to share by threads."""

    def __init__(self) -> None:
        self._of: dict[str | None, list[Listener[Told]]] = {}
        self._waiting: deque[tuple[Told, Recorded, tuple[Listener[Told], ...]]] = deque()
        self._changed = Condition()
        self._given = self._told = 0
        self._closed = False
        self._thread: Thread | None = None

    def add(self, kind: str | None, listener: Listener[Told]) -> None:
        """Tell ``listener`` of events of ``kind``, of all where it is None. Raises TradetapeError when closed."""
        with self._changed:
            if self._closed:
                raise TradetapeError("the emitter is closed", hint="register listeners before close()")
            # Here and not in ``tell``: what is on record already must not fail for want of a thread.
            if self._thread is None:
                thread = Thread(target=self._run, name="emitter-listeners", daemon=True)
                thread.start()
                self._thread = thread
            self._of.setdefault(kind, []).append(listener)

    def remove(self, kind: str, listener: Listener[Told]) -> None:
        with self._changed:
            if listener in self._of.get(kind, ()):
                self._of[kind].remove(listener)

    def tell(self, kind: str, event: Told, recorded: Recorded) -> None:
        """Have the listeners of now told of ``event``; returns at once."""
        with self._changed:
            listeners = (*self._of.get(kind, ()), *self._of.get(None, ()))
            if self._closed or not listeners:
                return
            self._waiting.append((event, recorded, listeners))
            self._given += 1
            self._changed.notify_all()

    def flush(self, timeout: float) -> None:
        self._refuse_own_thread()
        with self._changed:
            target = self._given
            self._wait(lambda: self._told >= target, timeout)

    def close(self, timeout: float) -> None:
        self._refuse_own_thread()
        with self._changed:
            try:
                self._wait(lambda: self._told == self._given, timeout)
            finally:
                self._closed = True
                self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def _refuse_own_thread(self) -> None:
        if current_thread() is self._thread:
            raise TradetapeError("a listener cannot wait for the listeners", hint="call flush() and close() elsewhere")

    def _wait(self, is_done: Callable[[], bool], timeout: float) -> None:
        if not self._changed.wait_for(is_done, timeout):
            raise TradetapeError(
                f"the listeners were not told {self._given - self._told} events after {timeout:g} s",
                hint="the events are on record; a listener takes long",
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                event, recorded, listeners = self._waiting.popleft()
            with following(recorded):
                for listener in listeners:
                    _call(listener, event)
            with self._changed:
                self._told += 1
                self._changed.notify_all()


def _call(listener: Listener[Told], event: Told) -> None:
    try:
        listener(event)
    except BaseException:  # SystemExit too: it would end the thread, and with it all telling, without a word
        _LOG.exception("a listener failed; the event is on record: %.200r", event)
