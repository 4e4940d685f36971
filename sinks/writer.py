"""The sink loop: three topics of Kafka into ClickHouse, through one consumer group.

Steps 1 and 2 of a batch are ``Landing.land``; step 3, the commit, is here and comes last. While ClickHouse is away
the assigned partitions are paused and the same batch is tried again; polling goes on, so the group keeps its member.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tradetape.schemas.crashpoints import reach
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.batch import STREAMS, Record
from tradetape.sinks.landing import Landed, Landing, Reached
from tradetape.sinks.ledger import parse_key
from tradetape.sinks.store import StoreUnavailable

log = logging.getLogger("tradetape.sink")

GROUP = "tradetape-sink"
MAX_ROWS = 50_000
MAX_BYTES = 32 * 1024 * 1024
# An insert costs about 25 ms of CPU however small it is, and there are up to 12 topic partitions: a quarter of a
# second keeps rows visible within one, and the rest as long as the last round took keeps half the time free.
LINGER_SECONDS = 0.25
# Behind by more than this, rows are late already: larger batches catch up with less work.
BEHIND_SECONDS = 5.0
CATCH_UP_LINGER_SECONDS = 1.0
POLL_SECONDS = 0.05
POLL_RECORDS = 20_000
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
REPORT_SECONDS = 5.0


class RegistryUnavailable(TradetapeError):
    """The registry cannot tell a schema now: try again later."""


class _Abandoned(Exception):
    """The batch is no longer ours, or we stop: it was not committed, another reads it again."""


@dataclass(slots=True)
class _Partition:
    """What is read and not yet landed of one topic partition."""

    reached: Reached = field(default_factory=Reached)
    records: list[Record] = field(default_factory=list)
    size: int = 0
    since: float = 0.0
    next_offset: int = 0


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
        self._partitions: dict[tuple[str, int], _Partition] = {}
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
            for key in list(self._partitions):
                self._land(key, once=True)
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
            key = (message.topic(), message.partition())
            partition = self._partitions.get(key)
            if partition is None:
                # Fetched before the partition was taken away: its new owner reads it.
                continue
            if not partition.records:
                partition.since = now
            value = message.value() or b""
            identity = parse_key(message.key())
            partition.records.append(Record(identity, value, message.timestamp()[1] * 1000))
            partition.size += len(value)
            partition.next_offset = message.offset() + 1

    def _land_due(self) -> None:
        now = self._clock()
        full = [k for k, p in self._partitions.items() if len(p.records) >= MAX_ROWS or p.size >= MAX_BYTES]
        due = full
        if now >= self._not_before:
            due = [k for k, p in self._partitions.items() if p.records and now - p.since >= self._linger(p)] or full
        if not due:
            return
        for key in due:
            self._land(key, once=False)
        done = self._clock()
        self._not_before = done + min(done - now, LINGER_SECONDS)

    def _linger(self, partition: _Partition) -> float:
        behind = self._wall_clock() - partition.records[0].timestamp / 1_000_000
        return CATCH_UP_LINGER_SECONDS if behind > BEHIND_SECONDS else LINGER_SECONDS

    def _land(self, key: tuple[str, int], *, once: bool) -> None:
        """Land and commit what is read of ``key``, in batches. With ``once`` an outage raises _Abandoned."""
        while (partition := self._partitions.get(key)) is not None and partition.records:
            records, offset = self._cut(partition)
            self._busy = True
            try:
                landed = self._insist(key, partition, records, once=once)
            finally:
                self._busy = False
            if landed is None:
                return
            # 3. commit: only now, and only this far
            self._commit(key, offset)
            reach("sink.after_commit")
            del partition.records[: len(records)]
            partition.size = sum(len(record.value) for record in partition.records) if partition.records else 0
            partition.since = self._clock()
            self._tally.add(landed.rows, landed.repeats, landed.present, landed.unstorable)

    @staticmethod
    def _cut(partition: _Partition) -> tuple[list[Record], int]:
        """The next batch, within the bounds of one insert, and the Kafka offset behind it."""
        size = 0
        for count, record in enumerate(partition.records):
            size += len(record.value)
            if count and (count >= MAX_ROWS or size > MAX_BYTES):
                return partition.records[:count], partition.next_offset - (len(partition.records) - count)
        return list(partition.records), partition.next_offset

    def _insist(
        self, key: tuple[str, int], partition: _Partition, records: Sequence[Record], *, once: bool
    ) -> Landed | None:
        """Land ``records``, tried until ClickHouse and the registry take part; None if ``key`` was taken away."""
        attempt = 0
        try:
            while True:
                try:
                    landed = self._landing.land(STREAMS[key[0]], key[1], partition.reached, records)
                except (StoreUnavailable, RegistryUnavailable) as error:
                    if once or self._stopping:
                        raise _Abandoned from error
                    wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                    log.warning("%s %d waits %.1f s: %s", key[0], key[1], wait, error)
                    attempt += 1
                    self._wait_paused(wait)
                    if self._partitions.get(key) is not partition:
                        return None
                else:
                    if attempt:
                        log.info("%s %d goes on after %d attempts", key[0], key[1], attempt)
                    return landed
        finally:
            if attempt:
                self._consumer.resume(self._consumer.assignment())

    def _wait_paused(self, seconds: float) -> None:
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0 and not self._stopping:
            self._consumer.pause(self._consumer.assignment())
            self._take(self._consumer.consume(POLL_RECORDS, min(left, 0.5)))

    def _commit(self, key: tuple[str, int], offset: int) -> None:
        try:
            self._consumer.commit(offsets=[TopicPartition(key[0], key[1], offset)], asynchronous=False)
        except KafkaException as error:
            # It landed: whoever reads it again finds it in the store.
            log.warning("%s %d: offset %d is not committed yet: %s", key[0], key[1], offset, error)

    def _assigned(self, _: Consumer, assigned: list[TopicPartition]) -> None:
        for tp in assigned:
            self._partitions[(tp.topic, tp.partition)] = _Partition()
        log.info("assigned %s", _names(assigned))
        if self._on_assigned is not None:
            self._on_assigned()

    def _revoked(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        for tp in revoked:
            key = (tp.topic, tp.partition)
            # In the middle of a batch the store does not answer: forget, the next owner reads it again.
            if not self._busy and not self._broken:
                try:
                    self._land(key, once=True)
                except _Abandoned:
                    log.warning("%s %d is handed over with its last batch not landed", *key)
            self._partitions.pop(key, None)
        log.info("revoked %s", _names(revoked))

    def _lost(self, _: Consumer, lost: list[TopicPartition]) -> None:
        for tp in lost:
            self._partitions.pop((tp.topic, tp.partition), None)
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


def _report(error: KafkaError) -> None:
    # The error in a message is never marked fatal: there its code says it. A consumer that goes on gets nothing more.
    if error.fatal() or error.code() == KafkaError._FATAL:
        raise KafkaException(error)
    log.warning("Kafka: %s", error.str())
