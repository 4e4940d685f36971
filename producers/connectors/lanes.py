"""A daemon thread for each number: what has the same number always runs on the same thread, one task after another."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Self

from tradetape.producers.connectors.runner import KafkaFailed

Task = Callable[[], None]

_LOOK_SECONDS = 0.2


class Abandoned(KafkaFailed):
    """A stop was asked for, and the work at hand did not end in time."""


class Work:
    """A task on its thread: ``ended`` once it is through, and from then on ``error``, what it raised or None."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.ended = False
        self.error: BaseException | None = None


class Lanes:
    """Daemon threads, started where they are first needed: one that hangs in a call keeps no process from ending.

    Once ``stop`` is set, ``wait`` waits for ``grace`` seconds more, all its calls together.
    """

    def __init__(self, stop: threading.Event, grace: float) -> None:
        self._stop = stop
        self._grace = grace
        self._until: float | None = None
        self._queues: dict[int, SimpleQueue[Work | None]] = {}
        self._ended = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for queue in self._queues.values():
            queue.put(None)

    def begin(self, number: int, task: Task) -> Work:
        """Let ``task`` run on the thread of ``number``, after what that has to do."""
        if number not in self._queues:
            self._queues[number] = SimpleQueue()
            arguments = (self._queues[number], self._ended)
            threading.Thread(target=_work, args=arguments, name=f"connect-{number}", daemon=True).start()
        work = Work(task)
        self._queues[number].put(work)
        return work

    def wait(self, works: Sequence[Work], patience: float = math.inf) -> None:
        """Wait until all ``works`` ended, or for ``patience`` seconds: their ``ended`` tells.

        Raises Abandoned when ``stop`` is set and the grace is used up.
        """
        late = monotonic() + patience
        with self._ended:
            while left := sum(not work.ended for work in works):
                if (now := monotonic()) >= late:
                    return
                self._ended.wait(min(_LOOK_SECONDS, late - now))
                if self._stop.is_set():
                    self._check_grace(left)

    def _check_grace(self, left: int) -> None:
        self._until = self._until or monotonic() + self._grace
        if monotonic() >= self._until:
            raise Abandoned(
                f"{left} sources were still at work {self._grace:g} s after the stop",
                hint="what Kafka did not acknowledge is sent again by the next run",
            )


def _work(queue: SimpleQueue[Work | None], ended: threading.Condition) -> None:
    while (work := queue.get()) is not None:
        try:
            work.task()
        except BaseException as error:  # carried to the thread that waits for it
            work.error = error
        with ended:
            work.ended = True
            ended.notify_all()
