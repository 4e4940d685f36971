"""A few threads, each with a queue of its own: what has the same number always runs on the same thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Self

from tradetape.producers.connectors.runner import KafkaFailed

Task = Callable[[], None]
_Done = SimpleQueue[tuple[int, BaseException | None]]

_LOOK_SECONDS = 0.2


class Abandoned(KafkaFailed):
    """A stop was asked for, and the work at hand did not end in time."""


class Lanes:
    """``count`` daemon threads: a thread that hangs in a call keeps no process from ending."""

    def __init__(self, count: int) -> None:
        self._queues: list[SimpleQueue[tuple[int, Task, _Done] | None]] = [SimpleQueue() for _ in range(count)]
        for number, queue in enumerate(self._queues):
            threading.Thread(target=_work, args=(queue,), name=f"connect-{number}", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for queue in self._queues:
            queue.put(None)

    def run(self, tasks: Sequence[tuple[int, Task]], stop: threading.Event, grace: float) -> list[BaseException | None]:
        """Run ``tasks`` (number of the lane, what to do) and wait for all: what each raised, or None.

        Raises Abandoned when ``stop`` is set and they did not end within ``grace`` seconds after that was seen.
        """
        done: _Done = SimpleQueue()
        for index, (lane, task) in enumerate(tasks):
            self._queues[lane % len(self._queues)].put((index, task, done))
        outcomes: list[BaseException | None] = [None] * len(tasks)
        deadline: float | None = None
        left = len(tasks)
        while left:
            try:
                index, error = done.get(timeout=_LOOK_SECONDS)
            except Empty:
                if stop.is_set():
                    deadline = deadline or monotonic() + grace
                    if monotonic() >= deadline:
                        raise Abandoned(
                            f"{left} sources were still at work {grace:g} s after the stop",
                            hint="what Kafka did not acknowledge is sent again by the next run",
                        ) from None
                continue
            outcomes[index] = error
            left -= 1
        return outcomes


def _work(queue: SimpleQueue[tuple[int, Task, _Done] | None]) -> None:
    while (item := queue.get()) is not None:
        index, task, done = item
        try:
            task()
        except BaseException as error:  # carried to the thread that waits for it
            done.put((index, error))
        else:
            done.put((index, None))
