"""A member of a consumer group: one thread that owns the Kafka client (S4-05).

The thread polls while the handler works, so that the group keeps this member and a rebalance never waits for a handler.
Everything that is shared with the caller's threads is ``Deliveries``, under one lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tradetape.producers.consumer.commits import Commits, place_of
from tradetape.producers.consumer.dead_letters import (
    DeadLetterWriter,
    letter_of,
    partitions_of,
    record_of,
    unanswered,
)
from tradetape.producers.consumer.deliveries import Deliveries, Exhausted
from tradetape.producers.consumer.subscription import LATEST, Subscription
from tradetape.schemas.errors import TradetapeError

POLL_SECONDS = 0.05
FETCH_AT_MOST = 500
"""Records taken from the client before commits and timeouts are looked after again."""

HELD_BYTES = 64 * 1024 * 1024
"""Bytes of records held; above it nothing more is fetched."""

KAFKA_SECONDS = 15.0
LEAVE_SECONDS = 5.0
JOIN_SECONDS = 20.0
"""Beyond the session timeout: how long an ``until_end`` member waits for its partitions."""

NOTE_SECONDS = 10.0
"""Between two log lines about a broker that does not answer."""

_FATAL = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError._FATAL,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_GROUP_ID,
    }
)

_LOG = logging.getLogger("tradetape.consumer")
_KAFKA_LOG = logging.getLogger("tradetape.kafka")


class Member:
    """Fetches into ``deliveries``, commits what is settled, writes dead letters; all under the lock of ``changed``.

    Raises TradetapeError at construction where Kafka does not answer or a topic is missing. ``failure`` is what ended
    the thread, if anything did.
    """

    def __init__(
        self,
        subscription: Subscription,
        deliveries: Deliveries,
        changed: threading.Condition,
        clock: Callable[[], float],
    ) -> None:
        self.failure: BaseException | None = None
        self.ended = False
        """Nothing will come any more: left, failed, or read up to the end."""
        self.dead_lettered = 0
        self.idle_since: float | None = clock()
        """When the last caller went away to work; None while one waits for a message."""
        self._subscription = subscription
        self._deliveries = deliveries
        self._changed = changed
        self._clock = clock
        self._began = clock()
        self._stopping = threading.Event()
        self._ends: dict[int, int] = {}
        self._read_up: set[int] = set()
        self._paused = False
        self._fatal = ""
        self._noted_at = float("-inf")
        self._letters = DeadLetterWriter(subscription.bootstrap_servers, subscription.config)
        self._commits = Commits(subscription, deliveries, changed)
        config = subscription.kafka_config() | {"on_commit": self._commits.answered, "error_cb": self._on_error}
        self._kafka = self._commits.kafka = Consumer(config, logger=_KAFKA_LOG)
        partitions_of(self._kafka, subscription.bootstrap_servers, subscription.topic)
        self._thread = threading.Thread(target=self._run, name=f"consumer {subscription.group}", daemon=True)

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    def start(self) -> None:
        """Join the group."""
        self._began = self._clock()
        self._thread.start()

    def leave(self) -> None:
        """Write what is exhausted, commit what is settled, and leave the group."""
        self._stopping.set()
        if not self.started:
            self._kafka.close()
            return
        self._thread.join(4 * LEAVE_SECONDS)
        if self._thread.is_alive():
            _LOG.error("%s: still leaving; Kafka does not answer", self._subscription.group)

    def _run(self) -> None:
        try:
            self._kafka.subscribe(
                [self._subscription.topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._stopping.is_set():
                self._fetch()
                self._tend()
        except BaseException as error:
            self._fail(error)
        try:
            self._finish()
        except BaseException as error:
            self._fail(error)
        with self._changed:
            self._deliveries.revoke(self._deliveries.partitions)
            self.ended = True
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, KafkaException):
            error = unanswered(self._subscription.bootstrap_servers, error)
        _LOG.error("%s: %s", self._subscription.group, error)
        with self._changed:
            self.failure = self.failure or error
            self._changed.notify_all()

    def _fetch(self) -> None:
        message = self._kafka.poll(POLL_SECONDS)
        for _ in range(FETCH_AT_MOST):
            if message is None:
                return
            self._take_in(message)
            message = self._kafka.poll(0)
        if message is not None:
            self._take_in(message)

    def _take_in(self, message: Any) -> None:
        error = message.error()
        if error is None:
            self._hold(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._read_up.add(message.partition())
        elif error.code() in _FATAL:
            self._fatal = error.str()
        else:
            _LOG.warning("%s: %s", self._subscription.group, error.str())

    def _hold(self, message: Any) -> None:
        partition, offset = message.partition(), message.offset()
        end = self._ends.get(partition)
        if end is not None and offset + 1 >= end:
            self._read_up.add(partition)
            if offset >= end:
                self._kafka.pause([TopicPartition(self._subscription.topic, partition)])
                return
        with self._changed:
            self._deliveries.add(record_of(message))
            self._changed.notify()

    def _tend(self) -> None:
        if self._fatal:
            raise TradetapeError(
                f"{self._name} cannot read {self._subscription.topic}: {self._fatal}",
                hint="check permissions, and that no two members have one name",
            )
        now = self._clock()
        with self._changed:
            for late in self._deliveries.expire(now):
                place = f"{late.record.topic}/{late.record.partition}/{late.record.offset}"
                _LOG.warning("%s: %s not acknowledged in time, attempt %d", self._name, place, late.attempt)
                self._changed.notify()
            self._check_caller(now)
            self._check_end(now)
        self._bury()
        self._balance()
        self._commits.send(now)

    @property
    def _name(self) -> str:
        return self._subscription.group

    def _check_caller(self, now: float) -> None:
        """A caller that never comes back must not keep its partitions: another member may be able to go on."""
        patience = 2 * self._subscription.processing_timeout
        if self.idle_since is None or now - self.idle_since <= patience or not self._deliveries.is_ready(now):
            return
        raise TradetapeError(
            f"a member of {self._name} asked for no message for {patience:g} s and gave its partitions up",
            hint="give processing_timeout the longest time that a message may take, and start the member again",
        )

    def _check_end(self, now: float) -> None:
        if not self._subscription.until_end or self.ended:
            return
        assigned = self._deliveries.partitions
        if assigned and assigned <= self._read_up and not self._deliveries.held:
            self.ended = True
            self._changed.notify_all()
        elif not assigned and now - self._began > self._subscription.session_timeout + JOIN_SECONDS:
            raise TradetapeError(
                f"no partition of {self._subscription.topic} for this member of {self._name}",
                hint="other members have them all; wait until they are done",
            )

    def _bury(self) -> None:
        with self._changed:
            exhausted = self._deliveries.take_exhausted()
        for item in exhausted:
            self._write(item)
        self._letters.poll()

    def _write(self, item: Exhausted) -> None:
        record = item.record
        _LOG.error(
            "%s: %s/%d/%d is a dead letter after %d attempts: %s",
            self._name, record.topic, record.partition, record.offset, item.attempts, item.reason,
        )  # fmt: skip

        def on_written(error: str | None) -> None:
            if error is not None:
                # Nothing is committed past a record whose dead letter is not there.
                self._fail(unanswered(self._subscription.bootstrap_servers, f"dead letter not written: {error}"))
                self._stopping.set()
                return
            with self._changed:
                self.dead_lettered += 1
                self._deliveries.settle(item.token)

        self._letters.write(letter_of(item, self._subscription.group), on_written)

    def _balance(self) -> None:
        """Stop fetching while enough is held."""
        with self._changed:
            held, size = self._deliveries.held, self._deliveries.bytes_held
        most = self._subscription.prefetch
        if not self._paused and (held >= most or size >= HELD_BYTES):
            self._kafka.pause(self._kafka.assignment())
            self._paused = True
        elif self._paused and held <= most // 2 and size <= HELD_BYTES // 2:
            self._kafka.resume(self._kafka.assignment())
            self._paused = False

    def _on_error(self, error: Any) -> None:
        if error.fatal() or error.code() in _FATAL:
            self._fatal = error.str()
        elif self._clock() >= self._noted_at + NOTE_SECONDS:  # the client goes on trying
            self._noted_at = self._clock()
            _LOG.warning("%s: %s", self._name, error.str())

    def _on_assign(self, kafka: Any, assigned: list[Any]) -> None:
        topic = self._subscription.topic
        ends = {}
        if self._subscription.until_end or self._subscription.start == LATEST:
            ends = {p.partition: kafka.get_watermark_offsets(p, timeout=KAFKA_SECONDS)[1] for p in assigned}
        last = {place.partition: place for place in kafka.committed(assigned, timeout=KAFKA_SECONDS)}
        places = {number: place_of(place) for number, place in last.items()}
        fresh = {n: ends[n] for n, place in places.items() if place is None and self._subscription.start == LATEST}
        with self._changed:
            self._deliveries.assign(places)
            for number, offset in fresh.items():
                self._deliveries.begin(number, offset)
        if self._subscription.until_end:
            self._ends |= ends
        kafka.incremental_assign(
            [TopicPartition(topic, n, fresh[n]) if n in fresh else TopicPartition(topic, n) for n in places]
        )
        # What is new flows, and what was paused before; `_balance` pauses again where it must.
        kafka.resume(kafka.assignment())
        self._paused = False
        _LOG.info("%s: assigned %s", self._name, sorted(places))

    def _on_revoke(self, kafka: Any, revoked: list[Any]) -> None:
        numbers = self._forget(revoked)
        with self._changed:
            places = {n: place for n, place in self._deliveries.to_commit().items() if n in numbers}
            # Revoked before the commit: an acknowledgement from now on is refused, not lost.
            self._deliveries.revoke(numbers)
        self._commits.send_and_wait(places)
        _LOG.info("%s: revoked %s", self._name, sorted(numbers))

    def _on_lost(self, kafka: Any, lost: list[Any]) -> None:
        numbers = self._forget(lost)
        with self._changed:
            self._deliveries.revoke(numbers)
        _LOG.warning("%s: lost %s, the session was over", self._name, sorted(numbers))

    def _forget(self, partitions: list[Any]) -> set[int]:
        numbers = {place.partition for place in partitions}
        self._read_up -= numbers
        for number in numbers:
            self._ends.pop(number, None)
        return numbers

    def _finish(self) -> None:
        """Leave in order: dead letters, commit, group."""
        try:
            self._bury()
            self._letters.flush(LEAVE_SECONDS)
            self._kafka.pause(self._kafka.assignment())
            until = self._clock() + (0.0 if self._fatal else LEAVE_SECONDS)
            while not self._commits.done(self._clock()):
                if self._clock() >= until:
                    self._commits.give_up()
                # What is fetched meanwhile is not taken in, so it is not committed.
                self._kafka.poll(POLL_SECONDS)
        finally:
            self._kafka.close()
