"""Dead letters: what a consumer group could not process, kept with its bytes and its reason (S4-04, S4-05).

A dead letter is a record of ``tradetape.dead_letters`` with the original's key and value, byte for byte, and headers:
``reason``, ``attempts``, the consumer ``group``, and the original's ``topic``, ``partition`` and ``offset``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tradetape.producers.consumer.deliveries import Exhausted, Record
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError

MAX_REASON = 2000
"""Characters of a reason."""

_PREFIX = "tradetape."
_NAMES = ("reason", "attempts", "group", "topic", "partition", "offset")
_HEADERS = frozenset(_PREFIX + name for name in _NAMES)
_SECONDS = 15.0

_LOG = logging.getLogger("tradetape.kafka")

OnWritten = Callable[[str | None], None]
"""Called with None when Kafka has the dead letter, else with the error."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """``record`` is the original, with its topic, partition and offset. ``attempts`` failed in ``group``."""

    record: Record
    group: str
    reason: str
    attempts: int

    def headers(self) -> list[tuple[str, bytes | None]]:
        """As Kafka headers: the original's, and what this letter says."""
        record = self.record
        values = (self.reason[:MAX_REASON], self.attempts, self.group, record.topic, record.partition, record.offset)
        ours = zip(_NAMES, values, strict=True)
        return [*record.headers, *((_PREFIX + name, str(value).encode("utf-8", "replace")) for name, value in ours)]


def letter_of(exhausted: Exhausted, group: str) -> DeadLetter:
    """The dead letter of a record that failed in ``group``; of a re-driven one, with the attempts of all its drives."""
    before = parse(exhausted.record)
    if before is None:
        return DeadLetter(exhausted.record, group, exhausted.reason, exhausted.attempts)
    return DeadLetter(before.record, before.group, exhausted.reason, before.attempts + exhausted.attempts)


def parse(record: Record) -> DeadLetter | None:
    """The dead letter in a record of ``tradetape.dead_letters``; None where it is none."""
    if record.topic != topics.DEAD_LETTERS:
        return None
    found = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    try:
        reason, attempts, group, topic, partition, offset = (found[_PREFIX + name] for name in _NAMES)
        theirs = tuple(header for header in record.headers if header[0] not in _HEADERS)
        original = Record(topic, int(partition), int(offset), record.key, record.value, theirs)
        return DeadLetter(original, group, reason, int(attempts))
    except (KeyError, ValueError):
        return None


class DeadLetterWriter:
    """An idempotent producer on ``tradetape.dead_letters``. Raises TradetapeError where the topic is not there."""

    def __init__(self, bootstrap_servers: str, config: Mapping[str, Any] | None = None) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "acks": "all",
                "enable.idempotence": True,
                "message.max.bytes": topics.MAX_DEAD_LETTER_BYTES,
                **(config or {}),
            },
            logger=_LOG,
        )
        self._partitions = len(partitions_of(self._producer, bootstrap_servers, topics.DEAD_LETTERS))

    def write(self, letter: DeadLetter, on_written: OnWritten) -> None:
        """Send ``letter``; ``on_written`` is called from ``poll`` or ``flush``. Raises KafkaException, BufferError."""
        record = letter.record
        self._producer.produce(
            topics.DEAD_LETTERS,
            key=record.key,
            value=record.value,
            partition=record.partition % self._partitions,
            headers=letter.headers(),
            on_delivery=lambda error, _: on_written(None if error is None else str(error)),
        )

    def poll(self) -> None:
        """Call ``on_written`` for what Kafka answered."""
        self._producer.poll(0)

    def flush(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for all answers."""
        self._producer.flush(timeout)


def partitions_of(client: Any, bootstrap_servers: str, topic: str) -> list[int]:
    """The partitions of ``topic``, asked through any Kafka client. Raises TradetapeError where it is not there."""
    try:
        found = client.list_topics(timeout=_SECONDS).topics.get(topic)
    except KafkaException as error:
        raise unanswered(bootstrap_servers, error) from error
    if found is None:
        raise TradetapeError(
            f"Kafka at {bootstrap_servers} has no topic {topic}", hint="create the topics with `tradetape up`"
        )
    return sorted(found.partitions)


def unanswered(bootstrap_servers: str, error: object) -> TradetapeError:
    """What to tell a person when Kafka does not do what it is asked."""
    return TradetapeError(
        f"Kafka at {bootstrap_servers} does not answer as it should ({error})",
        hint="start it with `tradetape up`, or check `tradetape status` and TRADETAPE_BOOTSTRAP_SERVERS",
    )


def dead_letters(
    bootstrap_servers: str, *, group: str | None = None, config: Mapping[str, Any] | None = None
) -> Iterator[DeadLetter]:
    """Every dead letter there is, of ``group`` or of all, oldest first in each partition; nothing is consumed.

    A letter that was re-driven stays. One original may have several: one for each time that it failed for good, and
    one more where a member died between writing it and committing. Raises TradetapeError where Kafka does not answer.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "tradetape.dead_letters.look",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
            **(config or {}),
        },
        logger=_LOG,
    )
    try:
        for partition in partitions_of(consumer, bootstrap_servers, topics.DEAD_LETTERS):
            for record in _records(consumer, partition):
                letter = parse(record)
                if letter is not None and group in (None, letter.group):
                    yield letter
    except KafkaException as error:
        raise unanswered(bootstrap_servers, error) from error
    finally:
        consumer.close()


def _records(consumer: Consumer, partition: int) -> Iterator[Record]:
    place = TopicPartition(topics.DEAD_LETTERS, partition)
    begin, end = consumer.get_watermark_offsets(place, timeout=_SECONDS)
    consumer.assign([TopicPartition(topics.DEAD_LETTERS, partition, begin)])
    while begin < end:
        message = consumer.poll(_SECONDS)
        if message is None or message.error() is not None:
            raise KafkaException("no answer" if message is None else message.error())
        begin = message.offset() + 1
        yield record_of(message)


def record_of(message: Any) -> Record:
    """A fetched ``confluent_kafka.Message`` as a value of our own."""
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )
