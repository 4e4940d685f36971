"""The sink loop: topics of Kafka into ClickHouse, through one consumer group, by the steps of ``landing``.

A round takes a batch of each topic partition that is due. While ClickHouse is away the assigned partitions are paused
and the same batches are tried again; polling goes on, so the group keeps its member.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tradetape.schemas.crashpoints import reach
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import intents
from tradetape.sinks.backlog import LINGER_SECONDS, Backlog
from tradetape.sinks.batch import STREAMS, Record
from tradetape.sinks.intents import Intent
from tradetape.sinks.landing import Entry, Landing
from tradetape.sinks.ledger import parse_key
from tradetape.sinks.store import StoreUnavailable

log = logging.getLogger("tradetape.sink")

GROUP = "tradetape-sink"
POLL_SECONDS = 0.05
POLL_RECORDS = 20_000
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
REPORT_SECONDS = 5.0
KAFKA_SECONDS = 10.0
# A process may be frozen at any moment, and ClickHouse remembers a limited number of tokens: who has not told Kafka
# for this long what it is landing asks whether the batch is still its own.
HOLD_SECONDS = 5.0
_NOT_OURS = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS})


class RegistryUnavailable(TradetapeError):
    """The registry cannot tell a schema now: try again later."""


class _Abandoned(Exception):
    """The batch is no longer ours, or we stop: it was not committed, another reads it again."""


class _Away(Exception):
    """Kafka does not take an intent now: try again later."""


@dataclass(slots=True)
class _Batch:
    """Records of ``backlog`` that are landed together; ``held`` is when Kafka last took the intent."""

    backlog: Backlog
    records: Sequence[Record]
    intent: Intent
    held: float = 0.0

    @property
    def place(self) -> tuple[str, int]:
        return self.backlog.topic, self.backlog.number


def consumer_config(bootstrap_servers: str, member: str = "") -> dict[str, Any]:
    """Settings of the group's consumer; ``member`` is a name that stays over restarts (static membership)."""
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": GROUP,
        "client.id": member or "tradetape-sink",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 2000,
        "max.poll.interval.ms": 600_000,
        "fetch.wait.max.ms": 50,
        "fetch.message.max.bytes": 4 * 1024 * 1024,
        "queued.max.messages.kbytes": 65_536,
        "log.connection.close": False,
    }
    if member:
        config["group.instance.id"] = member
    return config


class Writer:
    """Reads with ``consumer`` and lands with ``landing`` until ``stop``.

    Raises Hole or BadKey where a topic is not what it must be, Unquarantinable and QueryRefused where only a person
    can help, KafkaException on a fatal error of the consumer. Nothing is ever committed that did not land.
    """

    def __init__(
        self,
        consumer: Consumer,
        landing: Landing,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        on_assigned: Callable[[], object] | None = None,
    ) -> None:
        self._consumer = consumer
        self._landing = landing
        self._clock = clock
        self._wall_clock = wall_clock
        self._on_assigned = on_assigned
        self._backlogs: dict[tuple[str, int], Backlog] = {}
        self._stopping = False
        self._broken = False
        self._busy = False
        self._not_before = 0.0
        self._tally = _Tally(clock)

    def stop(self) -> None:
        """Land what was read, commit it, and return from ``run``. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """The loop; leaves the group before it returns or raises."""
        self._consumer.subscribe(list(STREAMS), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        try:
            while not self._stopping:
                self._take(self._consumer.consume(POLL_RECORDS, POLL_SECONDS))
                self._land_due()
                self._tally.report()
            self._land(list(self._backlogs), once=True)
        except _Abandoned:
            log.info("stopping; what did not land is read again at the next start")
        except BaseException:
            # What is read stays uncommitted: leaving the group must land nothing behind a hole.
            self._broken = True
            raise
        finally:
            self._stopping = True
            self._tally.report(last=True)
            self._consumer.close()

    def _take(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        reach("sink.polled")
        now = self._clock()
        for message in messages:
            error = message.error()
            if error is not None:
                _report(error)
                continue
            backlog = self._backlogs.get((message.topic(), message.partition()))
            if backlog is None:
                # Fetched before the partition was taken away: its new owner reads it.
                continue
            identity = parse_key(message.key())
            value = message.value() or b""
            backlog.add(Record(identity, value, message.timestamp()[1] * 1000, message.offset()), now)

    def _land_due(self) -> None:
        now = self._clock()
        due = [place for place, backlog in self._backlogs.items() if backlog.is_full]
        if now >= self._not_before:
            wall_clock = self._wall_clock()
            due = [place for place, backlog in self._backlogs.items() if backlog.is_due(now, wall_clock)] or due
        if not due:
            return
        self._land(due, once=False)
        done = self._clock()
        self._not_before = done + min(done - now, LINGER_SECONDS)

    def _land(self, places: Sequence[tuple[str, int]], *, once: bool) -> None:
        """Land and commit what is read of ``places``, a batch of each at a time.

        With ``once`` an outage raises _Abandoned.
        """
        while batches := self._cut(places):
            self._busy = True
            try:
                entries = self._land_batches(batches, once=once)
            finally:
                self._busy = False
            # 5. commit: only now, and only this far
            self._commit({(entry.topic, entry.partition): entry.intent.end for entry in entries})
            reach("sink.after_commit")
            for batch, entry in zip(batches, entries, strict=False):
                batch.backlog.forget(len(batch.records), self._clock())
                landed = entry.landed
                self._tally.add(landed.landed, landed.repeats, landed.present, landed.unstorable)
            if len(entries) < len(batches):
                return

    def _land_batches(self, batches: Sequence[_Batch], *, once: bool) -> Sequence[Entry]:
        """Steps 1 to 4 of ``batches``; returns the entries of the first ones, up to one that is no longer ours."""
        # 1. intent
        if not self._insist(batches, lambda: self._hold(batches), once=once):
            return []
        reach("sink.after_intent")
        entries: list[Entry] = []
        for batch in batches:
            if not self._insist([batch], lambda b=batch: entries.append(self._land_batch(b)), once=once):  # type: ignore[misc]
                break
        # 4. mark
        if entries and not self._insist(batches[: len(entries)], lambda: self._landing.mark(entries), once=once):
            return []
        reach("sink.after_mark")
        return entries

    def _land_batch(self, batch: _Batch) -> Entry:
        landed = self._landing.land(
            STREAMS[batch.backlog.topic],
            batch.backlog.number,
            batch.backlog.reached,
            batch.records,
            pending=batch.backlog.pending is not None,
            hold=lambda: self._hold_longer(batch),
        )
        return Entry(*batch.place, batch.intent, landed)

    def _cut(self, places: Sequence[tuple[str, int]]) -> list[_Batch]:
        """The next batch of each of ``places`` that has one."""
        backlogs = [self._backlogs[place] for place in places if place in self._backlogs]
        return [_Batch(backlog, *cut) for backlog in backlogs if (cut := backlog.cut()) is not None]

    def _insist(self, batches: Sequence[_Batch], step: Callable[[], object], *, once: bool) -> bool:
        """Take ``step`` until Kafka, ClickHouse and the registry take part; False if a batch is no longer ours."""
        attempt = 0
        try:
            while True:
                try:
                    step()
                except (StoreUnavailable, RegistryUnavailable, _Away) as error:
                    if once or self._stopping:
                        raise _Abandoned from error
                    wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                    log.warning("%s waits %.1f s: %s", _names_of(batches), wait, error)
                    attempt += 1
                    self._wait_paused(wait)
                    if not self._are_ours(batches):
                        return False
                except _Abandoned as error:
                    log.warning("%s: %s", _names_of(batches), error)
                    for batch in batches:
                        # Read again from the committed offset if the group gives it back.
                        self._backlogs.pop(batch.place, None)
                    return False
                else:
                    if attempt:
                        log.info("%s goes on after %d attempts", _names_of(batches), attempt)
                    return True
        finally:
            if attempt:
                self._consumer.resume(self._consumer.assignment())

    def _are_ours(self, batches: Sequence[_Batch]) -> bool:
        return all(self._backlogs.get(batch.place) is batch.backlog for batch in batches)

    def _hold(self, batches: Sequence[_Batch]) -> None:
        """Write the intents of ``batches``. Raises _Abandoned where they are another's, _Away where Kafka is."""
        now = self._clock()
        meant = [TopicPartition(*b.place, b.intent.first, metadata=b.intent.text) for b in batches]
        try:
            done = self._consumer.commit(offsets=meant, asynchronous=False) or ()
        except KafkaException as error:
            raise self._refusal(error.args[0]) from error
        for tp in done:
            if tp.error is not None:
                raise self._refusal(tp.error)
        for batch in batches:
            batch.held = now

    def _hold_longer(self, batch: _Batch) -> None:
        if self._clock() - batch.held > HOLD_SECONDS:
            self._hold([batch])

    @staticmethod
    def _refusal(error: KafkaError) -> Exception:
        if error.fatal():
            fatal: Exception = KafkaException(error)
            return fatal
        return _Abandoned(error.str()) if error.code() in _NOT_OURS else _Away(error.str())

    def _wait_paused(self, seconds: float) -> None:
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0 and not self._stopping:
            self._consumer.pause(self._consumer.assignment())
            self._take(self._consumer.consume(POLL_RECORDS, min(left, 0.5)))

    def _commit(self, ends: Mapping[tuple[str, int], int]) -> None:
        if not ends:
            return
        try:
            offsets = [TopicPartition(*key, end) for key, end in ends.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # They landed: whoever reads them again finds them in the store.
            log.warning("%s: not committed yet: %s", _names(offsets), error)

    def _assigned(self, _: Consumer, assigned: list[TopicPartition]) -> None:
        for tp in self._consumer.committed(assigned, timeout=KAFKA_SECONDS):
            if tp.error is not None:
                raise KafkaException(tp.error)
            pending = intents.read(tp.metadata)
            self._backlogs[_place(tp)] = Backlog(*_place(tp), pending)
            if pending is not None:
                log.info("%s %d: offsets %d to %d are finished first", *_place(tp), pending.first, pending.end - 1)
        log.info("assigned %s", _names(assigned))
        if self._on_assigned is not None:
            self._on_assigned()

    def _revoked(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        places = [_place(tp) for tp in revoked]
        # In the middle of a batch the store does not answer: forget, the next owner reads it again.
        if not self._busy and not self._broken:
            try:
                self._land(places, once=True)
            except _Abandoned:
                log.warning("%s: handed over with the last batches not landed", _names(revoked))
        for place in places:
            self._backlogs.pop(place, None)
        # A partition that was paused stays so when it comes back.
        self._consumer.resume(revoked)
        log.info("revoked %s", _names(revoked))

    def _lost(self, _: Consumer, lost: list[TopicPartition]) -> None:
        for tp in lost:
            self._backlogs.pop(_place(tp), None)
        self._consumer.resume(lost)
        log.warning("lost %s", _names(lost))


class _Tally:
    """Counts what landed and says so every few seconds, if anything did."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._counts = [0, 0, 0, 0]

    def add(self, *counts: int) -> None:
        self._counts = [have + more for have, more in zip(self._counts, counts, strict=True)]

    def report(self, *, last: bool = False) -> None:
        now = self._clock()
        if not last and now - self._since < REPORT_SECONDS:
            return
        if any(self._counts):
            rows, repeats, present, unstorable = self._counts
            rate = (rows + unstorable) / max(now - self._since, 1e-9)
            log.info(
                "rows=%d rate=%.0f/s repeats=%d present=%d unstorable=%d", rows, rate, repeats, present, unstorable
            )
        self._since = now
        self._counts = [0, 0, 0, 0]


def _names(partitions: Sequence[TopicPartition]) -> str:
    return ", ".join(sorted(f"{tp.topic}-{tp.partition}" for tp in partitions)) or "nothing"


def _names_of(batches: Sequence[_Batch]) -> str:
    return _names([TopicPartition(*batch.place) for batch in batches])


def _place(tp: TopicPartition) -> tuple[str, int]:
    return tp.topic, tp.partition


def _report(error: KafkaError) -> None:
    # The error in a message is never marked fatal: there its code says it. A consumer that goes on gets nothing more.
    if error.fatal() or error.code() == KafkaError._FATAL:
        raise KafkaException(error)
    log.warning("Kafka: %s", error.str())
