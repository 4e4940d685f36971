"""Commits of a member: one at a time, with the failures of the first message that is not acknowledged (S4-05)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from tradetape.producers.consumer.deliveries import Deliveries, Place
from tradetape.producers.consumer.subscription import Subscription

COMMIT_SECONDS = 0.1
"""Between two commits: what a killed member had acknowledged since the last one comes again."""

_FAILURES = "failures="

_LOG = logging.getLogger("tradetape.consumer")


class Commits:
    """Commits what ``deliveries`` allow through ``kafka``, on the thread that polls it."""

    def __init__(self, subscription: Subscription, deliveries: Deliveries, changed: threading.Condition) -> None:
        self.kafka: Any = None
        self._group = subscription.group
        self._topic = subscription.topic
        self._deliveries = deliveries
        self._changed = changed
        self._sent: dict[int, Place] | None = None
        self._sent_at = float("-inf")
        self._given_up = False

    def send(self, now: float) -> None:
        """Commit what is settled, without waiting; nothing while an answer is awaited or just after the last one."""
        if self._sent is not None or now < self._sent_at + COMMIT_SECONDS:
            return
        with self._changed:
            places = self._deliveries.to_commit()
        if places:
            self._sent, self._sent_at = places, now
            self.kafka.commit(offsets=self._offsets(places), asynchronous=True)

    def answered(self, error: Any, offsets: list[Any]) -> None:
        """Kafka's answer to ``send``."""
        places, self._sent = self._sent or {}, None
        failed = error or next((place.error for place in offsets if place.error), None)
        if failed is not None:  # e.g. a rebalance is under way: the next commit says it again
            _LOG.info("%s: not committed: %s", self._group, failed)
            return
        with self._changed:
            self._deliveries.committed(places)

    def done(self, now: float) -> bool:
        """Whether Kafka has everything, or does not answer and is waited for no longer; sends what is missing."""
        self.send(now)
        with self._changed:
            return self._given_up or (self._sent is None and not self._deliveries.to_commit())

    def give_up(self) -> None:
        """Wait for no more answers."""
        self._given_up = True
        _LOG.warning("%s: the last commit is not confirmed; what it names comes again", self._group)

    def send_and_wait(self, places: Mapping[int, Place]) -> None:
        """Commit ``places`` of partitions that are about to go to another member."""
        if not places or self._given_up:
            return
        try:
            self.kafka.commit(offsets=self._offsets(places), asynchronous=False)
        except KafkaException as error:
            _LOG.warning("%s: not committed before a rebalance, comes again: %s", self._group, error)

    def _offsets(self, places: Mapping[int, Place]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, n, p.offset, f"{_FAILURES}{p.failures}") for n, p in places.items()]


def place_of(committed: Any) -> Place | None:
    """What the last owner of a partition committed, None where nobody did. Raises KafkaException."""
    if committed.error is not None:
        raise KafkaException(committed.error)
    if committed.offset < 0:
        return None
    text = committed.metadata or ""
    failures = text.removeprefix(_FAILURES) if text.startswith(_FAILURES) else ""
    return Place(committed.offset, int(failures) if failures.isdecimal() else 0)
