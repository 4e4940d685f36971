"""One source of many: what is configured, how it stands, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.lanes import Lanes, Task, Work
from tradetape.producers.connectors.runner import Reader
from tradetape.producers.connectors.source import Lag, Source
from tradetape.producers.connectors.summary import Summary
from tradetape.schemas.errors import TradetapeError

WAITING, FOLLOWING, AWAY, FAILED, ENDED = "waiting", "following", "away", "failed", "ended"
POLLING, SENDING, KEEPING, ASKING, CLOSING = "poll", "send", "keep", "lag", "close"

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at a store or a Kafka that stays away."""


class Job(NamedTuple):
    """One source to take in. ``open`` opens it at its checkpoint; it is called again after every failure."""

    name: str
    open: Callable[[Checkpoints], Source]


@dataclass(frozen=True, slots=True)
class Status:
    """How a source stands: waiting (not opened yet), following, away, failed or ended.

    ``events`` are those of this process; ``last_error`` is empty once the source works again.
    """

    name: str
    source_id: str
    state: str
    events: int
    lag: Lag
    last_error: str


class Taken:
    """A job while it is worked on. ``due`` is when to look next; ``taken`` the events of the round at hand.

    ``work`` is the ``step`` that is done on its own thread, ``number``; None between two rounds, unless it overran.
    """

    def __init__(self, number: int, job: Job) -> None:
        self.number = number
        self.job = job
        self.work: Work | None = None
        self.step = ""
        self.reader: Reader | None = None
        self.state = WAITING
        self.due = 0.0
        self.failures = 0
        self.taken = 0
        self.at_end = False
        self.error: TradetapeError | None = None
        self.lag = Lag(None, None)
        self._past = Summary(job.name, "")

    @property
    def active(self) -> bool:
        """Whether there is anything left to do."""
        return self.state not in {FAILED, ENDED}

    @property
    def is_busy(self) -> bool:
        """Whether its thread is at work for it: nothing else may be done with it then."""
        return self.work is not None and not self.work.ended

    def begin(self, lanes: Lanes, step: str, task: Task) -> Work:
        """Let its thread do ``task``, which is ``step``; what was at work there comes first, and is forgotten."""
        self.step, self.work = step, lanes.begin(self.number, task)
        return self.work

    def settle(self) -> BaseException | None:
        """Take note that its work ended: what it raised."""
        work, self.work = self.work, None
        return work.error if work is not None else None

    @property
    def result(self) -> Summary | TradetapeError:
        """What it came to: the error it ended with, else what was sent."""
        return self.error if self.state == FAILED and self.error is not None else self.summary()

    @property
    def status(self) -> Status:
        """How it stands."""
        summary = self.summary()
        error = str(self.error) if self.error is not None else ""
        return Status(self.job.name, summary.source_id, self.state, summary.sent, self.lag, error)

    def summary(self) -> Summary:
        """Everything that this process sent of it, by this reader and those before it."""
        reader = self.reader  # read once: the thread of a source that overran may let go of it
        current = reader.summary if reader is not None else None
        latest = current or self._past
        total = Summary(self.job.name, latest.source_id)
        for part in (self._past, current):
            for name, count in part.events.items() if part else ():
                total.events[name] = total.events.get(name, 0) + count
        total.already_ingested = not total.events and latest.already_ingested
        return total

    def close(self) -> None:
        """Let the source go, and keep what it counted. One that cannot be closed is gone already."""
        if self.reader is not None:
            source = self.reader.source
            self._past, self.reader = self.summary(), None
            with suppress(TradetapeError):
                source.close()


def pause(failures: int) -> float:
    """Seconds before the next attempt: 1, 2, 4, … up to LONGEST_PAUSE."""
    return float(min(LONGEST_PAUSE, 2 ** min(failures - 1, 10)))
