"""Many sources in one process: a thread each, few at work at a time; one connection to Kafka, one wait for it a round.

A round polls the sources that are due, sends what they gave, waits once until Kafka has all of it, then saves every
place. A source that fails is closed and, while following, opened again at its checkpoint, after a pause that grows;
the others go on. So they do without a source whose store does not answer: it is left out of the rounds until its call
comes back, and joins the round after that where it was. A failure of Kafka throws the whole connection away: what was
lost may belong to any source, so all of them are opened again at their checkpoints.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import NamedTuple

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.lanes import Abandoned, Lanes
from tradetape.producers.connectors.runner import BATCH, INTERVAL, KafkaFailed, Reader, flush
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.connectors.taken import (
    ASKING,
    AWAY,
    CLOSING,
    ENDED,
    FAILED,
    FOLLOWING,
    KEEPING,
    POLLING,
    SENDING,
    Job,
    Status,
    Taken,
    pause,
)
from tradetape.producers.emitter import Emits
from tradetape.schemas.errors import TradetapeError

ROUND = 8
"""Sources of one round at most: with BATCH events each they fit into memory, and into the emitter's queue."""
GRACE = 10.0
"""Seconds that a stop leaves for what is at work."""
PATIENCE = 15.0
"""Seconds that a round waits for a source."""
REPORT_EVERY = 10.0

_KAFKA = -1
_LOG = logging.getLogger("tradetape.connect")


class Kafka(NamedTuple):
    """One connection: the emitter and the checkpoints of its cluster."""

    emitter: Emits
    checkpoints: Checkpoints


Connect = Callable[[], AbstractContextManager[Kafka]]
OnReport = Callable[[Sequence[Status]], None]
OnWarning = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many events of a source make a batch, and how many sources a round; the rest are seconds.

    ``interval`` between two looks at a source, ``report_every`` between reports, ``grace`` that a stop leaves for what
    is at work, ``patience`` that a round waits for a source.
    """

    batch: int = BATCH
    round: int = ROUND
    interval: float = INTERVAL
    report_every: float = REPORT_EVERY
    grace: float = GRACE
    patience: float = PATIENCE


def run_many(
    jobs: Sequence[Job],
    connect: Connect,
    *,
    follow: bool,
    stop: threading.Event,
    pace: Pace = Pace(),
    on_report: OnReport = lambda _: None,
    on_warning: OnWarning = lambda _: None,
    clock: Callable[[], float] = monotonic,
    wait: Callable[[float], object] | None = None,
) -> list[Summary | TradetapeError]:
    """Take all ``jobs`` in until ``stop`` is set or, without ``follow``, to the end of each: a result for each job.

    The result of a job is its summary, or the error that it ended with. A source always works on the same thread, so
    it may hold what is bound to one (SQLite). ``on_report`` gets the status of all sources every ``report_every``
    seconds and at the end; ``on_warning`` a line for every failure that is tried again, and for every source that lets
    the others wait for more than ``patience`` seconds. ``stop`` lets the round at hand finish, for ``grace`` seconds at
    most. Without ``follow`` raises KafkaFailed, and what ``connect`` raises.
    """
    with Lanes(stop, pace.grace) as lanes:
        fleet = _Fleet(
            jobs,
            lanes,
            follow=follow,
            stop=stop,
            pace=pace,
            on_report=on_report,
            on_warning=on_warning,
            clock=clock,
            wait=wait or stop.wait,
        )
        fleet.work(connect)
        return [source.result for source in fleet.sources]


class _Fleet:
    def __init__(
        self,
        jobs: Sequence[Job],
        lanes: Lanes,
        *,
        follow: bool,
        stop: threading.Event,
        pace: Pace,
        on_report: OnReport,
        on_warning: OnWarning,
        clock: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        self.sources = [Taken(number, job) for number, job in enumerate(jobs)]
        self._lanes = lanes
        self._follow = follow
        self._stop = stop
        self._pace = pace
        self._report = on_report
        self._warn = on_warning
        self._clock = clock
        self._wait = wait
        self._owners: dict[str, Taken] = {}
        self._lock = threading.Lock()

    def work(self, connect: Connect) -> None:
        failures = 0
        while not self._done():
            before = self._sent()
            try:
                with connect() as kafka:
                    try:
                        self._rounds(kafka)
                    finally:
                        self._close()
            except TradetapeError as error:
                if not self._follow:
                    raise
                failures = 1 if self._sent() > before else failures + 1
                if self._stop.is_set():
                    self._warn(str(error))
                else:
                    self._warn(f"{error}; trying again in {pause(failures):g} s")
                    self._wait(pause(failures))
        self._report([source.status for source in self.sources])

    def _done(self) -> bool:
        return self._stop.is_set() or not any(source.active for source in self.sources)

    def _sent(self) -> int:
        return sum(source.summary().sent for source in self.sources)

    def _rounds(self, kafka: Kafka) -> None:
        report_at = self._clock() + self._pace.report_every
        while not self._done():
            now = self._clock()
            due = [source for source in self.sources if source.active and source.work is None and source.due <= now]
            if due or any(source.work is not None and source.work.ended for source in self.sources):
                self._round(kafka, sorted(due, key=lambda source: source.due)[: self._pace.round])
            if self._clock() >= report_at:
                self._ask()
                self._report([source.status for source in self.sources])
                report_at = self._clock() + self._pace.report_every
            if not self._done() and (left := min(report_at, self._next_look()) - self._clock()) > 0:
                self._wait(left)

    def _next_look(self) -> float:
        busy = self._clock() + self._pace.interval  # to see whether its work has ended
        return min(source.due if source.work is None else busy for source in self.sources if source.active)

    def _round(self, kafka: Kafka, due: list[Taken]) -> None:
        for step in (ASKING, CLOSING):
            self._back(step)
        polled = self._each(due, POLLING, partial(self._poll, kafka.checkpoints)) + self._back(POLLING)
        # Kafka sets its own bounds. Nothing is sent between two rounds: a flush speaks of all that was.
        sent = self._each(polled, SENDING, partial(_send, kafka.emitter), patience=math.inf)
        if any(source.taken for source in sent):
            self._flush(kafka.emitter)
        kept = self._each(sent, KEEPING, _keep) + self._back(KEEPING)
        for source in kept:
            source.failures = 0
            source.error = None
            source.state = ENDED if source.at_end else FOLLOWING
            source.due = self._clock() + (0.0 if source.taken else self._pace.interval)
        self._let_go([source for source in kept if source.at_end])

    def _flush(self, emitter: Emits) -> None:
        work = self._lanes.begin(_KAFKA, partial(flush, emitter))  # on a thread that a stop need not wait for
        self._lanes.wait([work])
        if work.error is not None:
            raise work.error

    def _poll(self, checkpoints: Checkpoints, source: Taken) -> None:
        if source.reader is None:
            source.reader = self._open(source, checkpoints)
        source.at_end = not source.reader.poll() and not self._follow
        if source.at_end:
            source.reader.poll_end()

    def _open(self, source: Taken, checkpoints: Checkpoints) -> Reader:
        opened = source.job.open(checkpoints)
        with self._lock:
            owner = self._owners.setdefault(opened.source_id, source)
        if owner is not source:
            opened.close()
            raise TradetapeError(
                f"{source.job.name} is the same store as {owner.job.name} (source {opened.source_id})",
                hint="remove one of them, or give each a source id of its own",
            )
        return Reader(opened, checkpoints, batch=self._pace.batch)

    def _ask(self) -> None:
        def ask(source: Taken) -> None:
            if source.reader is not None:
                source.lag = source.reader.source.lag()

        self._each([s for s in self.sources if s.reader is not None and s.work is None], ASKING, ask)

    def _each(
        self, sources: list[Taken], step: str, do: Callable[[Taken], None], patience: float | None = None
    ) -> list[Taken]:
        """``do`` for each source, on its own thread: those that it did not fail for, of those that are through in time.

        Raises KafkaFailed, when all had their time, where it was Kafka that failed for one of them.
        """
        works = [source.begin(self._lanes, step, partial(do, source)) for source in sources]
        self._lanes.wait(works, self._pace.patience if patience is None else patience)
        for source in sources:
            if source.is_busy:
                self._overran(source)
        return self._settled([source for source in sources if not source.is_busy])

    def _back(self, step: str) -> list[Taken]:
        """Those that overran at ``step`` and are through now, without those that it failed for."""
        return self._settled([s for s in self.sources if s.step == step and s.work is not None and s.work.ended])

    def _settled(self, sources: list[Taken]) -> list[Taken]:
        outcomes = [source.settle() for source in sources]
        for error in outcomes:
            if isinstance(error, KafkaFailed) or not isinstance(error, Exception | None):
                raise error
        failed = [(source, error) for source, error in zip(sources, outcomes, strict=True) if error is not None]
        self._let_go([source for source, _ in failed])
        for source, error in failed:
            self._failed(source, error)
        return [source for source, error in zip(sources, outcomes, strict=True) if error is None]

    def _overran(self, source: Taken) -> None:
        source.state = AWAY
        source.error = TradetapeError(
            f"{source.job.name} is at work for more than {self._pace.patience:g} s",
            hint="its store hangs or is slow; it goes on where it is when the store answers",
        )
        self._warn(str(source.error))

    def _failed(self, source: Taken, error: BaseException) -> None:
        source.failures += 1
        if not isinstance(error, TradetapeError):  # a bug of the connector: it would fail again, and must be seen
            _LOG.error("%s failed", source.job.name, exc_info=error)
            source.error = TradetapeError(
                f"{source.job.name}: {type(error).__name__}: {error}", hint="this is a bug of its connector; report it"
            )
            source.state = FAILED
            return
        source.error = error
        source.state = AWAY if self._follow else FAILED
        source.due = self._clock() + pause(source.failures)
        if self._follow:
            self._warn(f"{source.job.name}: {error}; trying again in {pause(source.failures):g} s")

    def _close(self) -> None:
        self._owners.clear()
        for source in self.sources:
            source.due = 0.0
            if not source.is_busy:
                source.settle()
        with suppress(Abandoned):  # stopped: nobody waits for a source that hangs
            self._let_go([s for s in self.sources if (s.step != CLOSING if s.is_busy else s.reader is not None)])

    def _let_go(self, sources: list[Taken]) -> None:
        """Close them. Those that are still at work are closed after that, and not waited for."""
        free = [source for source in sources if not source.is_busy]
        works = {source: source.begin(self._lanes, CLOSING, partial(_let_go, source)) for source in sources}
        self._lanes.wait([works[source] for source in free], self._pace.patience)
        for source in free:
            if not source.is_busy:
                source.settle()


def _send(emitter: Emits, source: Taken) -> None:
    source.taken = source.reader.send(emitter) if source.reader is not None else 0


def _keep(source: Taken) -> None:
    if source.reader is not None:
        source.reader.keep()


def _let_go(source: Taken) -> None:
    try:
        source.close()
    except Exception:
        _LOG.exception("%s could not be closed", source.job.name)
