"""The sink loop: topics of Kafka into ClickHouse, through one consumer group, by the steps of ``landing``.

A round takes a batch of each topic partition. While ClickHouse is away the assigned partitions are paused and the same
batches are tried again; polling goes on, so the consumer group keeps its member.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tradetape.schemas.crashpoints import reach
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import intents
from tradetape.sinks.backlog import LINGER_SECONDS, Backlog
from tradetape.sinks.batch import MAX_BYTES, MAX_ROWS, STREAMS, Record
from tradetape.sinks.intents import Intent
from tradetape.sinks.landing import Batch, Entry, Landed, Landing
from tradetape.sinks.ledger import parse_key
from tradetape.sinks.store import BatchRefused, StoreUnavailable

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


class _Batch(NamedTuple):
    """The next records of ``backlog``, and the intent to land them."""

    backlog: Backlog
    records: Sequence[Record]
    intent: Intent

    @property
    def place(self) -> tuple[str, int]:
        return self.backlog.topic, self.backlog.number


@dataclass(slots=True)
class _Group:
    """Batches of partitions of ``topic`` that are landed together, and what became of them.

    ``held`` is when Kafka last took their intents.
    """

    topic: str
    batches: Sequence[_Batch]
    held: float = 0.0
    landed: Sequence[Landed] = ()


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
        now, wall_clock = self._clock(), self._wall_clock()
        backlogs = self._backlogs.values()
        is_due = now >= self._not_before and any(backlog.is_due(now, wall_clock) for backlog in backlogs)
        if not is_due and not any(backlog.is_full for backlog in backlogs):
            return
        # What is not due yet goes along: its rows cost little, an insert of their own much.
        self._land(list(self._backlogs), once=False)
        done = self._clock()
        self._not_before = done + min(done - now, LINGER_SECONDS)

    def _land(self, places: Sequence[tuple[str, int]], *, once: bool) -> None:
        """Land and commit what is read of ``places``, a batch of each at a time.

        With ``once`` an outage raises _Abandoned.
        """
        while groups := self._cut(places):
            self._busy = True
            try:
                done = self._land_groups(groups, once=once)
            finally:
                self._busy = False
            # 5. commit: only now, and only this far
            self._commit({batch.place: batch.intent.end for batch, _ in done})
            reach("sink.after_commit")
            for batch, landed in done:
                batch.backlog.forget(len(batch.records), self._clock())
                self._tally.add(landed.landed, landed.repeats, landed.present, landed.unstorable)

    def _land_groups(self, groups: Sequence[_Group], *, once: bool) -> Sequence[tuple[_Batch, Landed]]:
        """Steps 1 to 4 of ``groups``; returns the batches that landed."""
        batches = [batch for group in groups for batch in group.batches]
        # 1. intent
        if self._insist(batches, lambda: self._hold(groups), once=once):
            reach("sink.after_intent")
            for group in groups:
                if not self._insist(group.batches, partial(self._land_group, group), once=once):
                    break
        done = [pair for group in groups for pair in zip(group.batches, group.landed, strict=False)]
        # 4. mark
        entries = [Entry(*batch.place, batch.intent, landed) for batch, landed in done]
        if entries and self._insist([batch for batch, _ in done], lambda: self._landing.mark(entries), once=once):
            reach("sink.after_mark")
        else:
            done = []
        places = {batch.place for batch, _ in done}
        self._leave([batch for batch in batches if batch.place not in places])
        return done

    def _land_group(self, group: _Group) -> None:
        """Steps 2 and 3 of ``group``; where its rows are refused together, nothing of it has landed for certain."""
        batches = [
            Batch(b.backlog.number, b.records, b.intent, b.backlog.reached, b.backlog.pending is not None)
            for b in group.batches
        ]
        try:
            group.landed = self._landing.land(STREAMS[group.topic], batches, hold=lambda: self._hold_longer(group))
        except BatchRefused as error:
            log.warning("%s: refused together, landed one by one: %s", _names_of(group.batches), error)

    def _leave(self, batches: Sequence[_Batch]) -> None:
        """What was meant and may have landed in part is landed as it was meant, and first, where it still is ours."""
        for batch in batches:
            if self._are_ours([batch]):
                batch.backlog.pending = batch.intent

    def _cut(self, places: Sequence[tuple[str, int]]) -> list[_Group]:
        """The next batch of each of ``places`` that has one; those of a topic are landed together."""
        groups = []
        for topic in STREAMS:
            backlogs = [self._backlogs[place] for place in places if place[0] == topic and place in self._backlogs]
            batches = [_Batch(backlog, *cut) for backlog in backlogs if (cut := backlog.cut()) is not None]
            groups += [_Group(topic, [batch]) for batch in batches if batch.backlog.pending is not None]
            for some in _packed([batch for batch in batches if batch.backlog.pending is None]):
                meant = intents.together(topic, {batch.backlog.number: batch.intent for batch in some})
                groups.append(_Group(topic, [b._replace(intent=meant[b.backlog.number]) for b in some]))
        return groups

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

    def _hold(self, groups: Sequence[_Group]) -> None:
        """Write the intents of ``groups``. Raises _Abandoned where they are another's, _Away where Kafka is."""
        now = self._clock()
        meant = [
            TopicPartition(*batch.place, batch.intent.first, metadata=batch.intent.text)
            for group in groups
            for batch in group.batches
        ]
        try:
            done = self._consumer.commit(offsets=meant, asynchronous=False) or ()
        except KafkaException as error:
            raise self._refusal(error.args[0]) from error
        for tp in done:
            if tp.error is not None:
                raise self._refusal(tp.error)
        for group in groups:
            group.held = now

    def _hold_longer(self, group: _Group) -> None:
        if self._clock() - group.held > HOLD_SECONDS:
            self._hold([group])

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


def _packed(batches: Iterable[_Batch]) -> Iterator[list[_Batch]]:
    """``batches`` in groups that are within the bounds of one insert."""
    some: list[_Batch] = []
    rows = size = 0
    for batch in batches:
        more = sum(len(record.value) for record in batch.records)
        if some and (rows + len(batch.records) > MAX_ROWS or size + more > MAX_BYTES):
            yield some
            some, rows, size = [], 0, 0
        some.append(batch)
        rows, size = rows + len(batch.records), size + more
    if some:
        yield some


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
