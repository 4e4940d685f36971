"""Many sources in one process: a small pool of threads, one connection to Kafka, one wait for it per round.

A round polls the sources that are due and sends what they give, waits once until Kafka has all of it, then saves every
place. A source that fails is closed and, while following, opened again at its checkpoint, after a pause that grows;
the others go on. A failure of Kafka throws the whole connection away: what was lost may belong to any source, so all of
them are opened again at their checkpoints.
"""

from __future__ import annotations

import logging
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
from tradetape.producers.connectors.taken import AWAY, ENDED, FAILED, FOLLOWING, Job, Status, Taken, pause
from tradetape.producers.emitter import Emits
from tradetape.schemas.errors import TradetapeError

THREADS = 8
ROUND = 32
"""Sources of one round at most: with BATCH events each they fit the emitter's queue."""
GRACE = 10.0
"""Seconds that a stop leaves for the round at hand."""
REPORT_EVERY = 10.0

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
    """How many events of a source make a batch, and the seconds between looks, reports and the end of patience."""

    batch: int = BATCH
    interval: float = INTERVAL
    report_every: float = REPORT_EVERY
    grace: float = GRACE


def run_many(
    jobs: Sequence[Job],
    connect: Connect,
    *,
    follow: bool,
    stop: threading.Event,
    pace: Pace = Pace(),
    threads: int = THREADS,
    on_report: OnReport = lambda _: None,
    on_warning: OnWarning = lambda _: None,
    clock: Callable[[], float] = monotonic,
    wait: Callable[[float], object] | None = None,
) -> list[Summary | TradetapeError]:
    """Take all ``jobs`` in until ``stop`` is set or, without ``follow``, to the end of each: a result for each job.

    The result of a job is its summary, or the error that it ended with. A source always works on the same thread, so
    it may hold what is bound to one (SQLite). ``on_report`` gets the status of all sources every ``report_every``
    seconds and at the end; ``on_warning`` a line for every failure that is tried again. ``stop`` lets the round at
    hand finish, for ``grace`` seconds at most. Without ``follow`` raises KafkaFailed, and what ``connect`` raises.
    """
    with Lanes(max(1, min(threads, len(jobs)))) as lanes:
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
        self.sources = [Taken(lane, job) for lane, job in enumerate(jobs)]
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
            due = sorted((s for s in self.sources if s.active and s.due <= now), key=lambda s: s.due)[:ROUND]
            if due:
                self._round(kafka, due)
            if self._clock() >= report_at:
                self._ask()
                self._report([source.status for source in self.sources])
                report_at = self._clock() + self._pace.report_every
            if not self._done():
                until = min([report_at, *(source.due for source in self.sources if source.active)])
                if (left := until - self._clock()) > 0:
                    self._wait(left)

    def _round(self, kafka: Kafka, due: list[Taken]) -> None:
        taken = self._each(due, partial(self._take, kafka))
        if any(source.taken for source in taken):
            self._flush(kafka.emitter)
        kept = self._each(taken, _keep)
        for source in kept:
            source.failures = 0
            source.error = None
            source.state = ENDED if source.at_end else FOLLOWING
            source.due = self._clock() + (0.0 if source.taken else self._pace.interval)
        self._let_go([source for source in kept if source.at_end])

    def _flush(self, emitter: Emits) -> None:
        (error,) = self._run([(0, partial(flush, emitter))])  # on a thread that a stop need not wait for
        if error is not None:
            raise error

    def _take(self, kafka: Kafka, source: Taken) -> None:
        source.taken = 0
        if source.reader is None:
            source.reader = self._open(source, kafka.checkpoints)
        source.taken = source.reader.take(kafka.emitter)
        source.at_end = not source.taken and not self._follow
        if source.at_end:
            source.taken = source.reader.take_end(kafka.emitter)

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

        self._each([source for source in self.sources if source.reader is not None], ask)

    def _each(self, sources: list[Taken], do: Callable[[Taken], None]) -> list[Taken]:
        """``do`` for each source, on its own thread: those that it did not fail for.

        Raises KafkaFailed, when all are through, where it was Kafka that failed for one of them.
        """
        outcomes = self._run([(source.lane, partial(do, source)) for source in sources])
        for error in outcomes:
            if isinstance(error, KafkaFailed) or not isinstance(error, Exception | None):
                raise error
        failed = [(source, error) for source, error in zip(sources, outcomes, strict=True) if error is not None]
        self._let_go([source for source, _ in failed])
        for source, error in failed:
            self._failed(source, error)
        return [source for source, error in zip(sources, outcomes, strict=True) if error is None]

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
        with suppress(Abandoned):  # stopped: nobody waits for a source that hangs
            self._let_go([source for source in self.sources if source.reader is not None])

    def _let_go(self, sources: list[Taken]) -> None:
        outcomes = self._run([(source.lane, source.close) for source in sources])
        for source, error in zip(sources, outcomes, strict=True):
            if error is not None:
                _LOG.error("%s could not be closed", source.job.name, exc_info=error)

    def _run(self, tasks: Sequence[tuple[int, Callable[[], None]]]) -> list[BaseException | None]:
        return self._lanes.run(tasks, self._stop, self._pace.grace)


def _keep(source: Taken) -> None:
    if source.reader is not None:
        source.reader.keep()
