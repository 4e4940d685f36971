"""Dead letters handed to their consumer once more, when what was wrong is mended (S4-04, S4-05).

Nothing is written back to the topic that a dead letter came from: the record holds every event once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tradetape.producers.consumer.client import Consumer, Handler
from tradetape.producers.consumer.dead_letters import parse
from tradetape.producers.consumer.deliveries import Record
from tradetape.producers.consumer.messages import EventReader, Message
from tradetape.schemas import topics
from tradetape.schemas.registry import Registry

EVERY_DISPOSITION = ("accepted", "duplicate", "rejected")
"""A dead letter was wanted when it was written."""


class Redriven(NamedTuple):
    """How many dead letters the handler took, and how many failed again and are dead letters anew."""

    done: int
    failed: int


class DeadLetterReader:
    """Reads the dead letters of one group as the messages that they were."""

    def __init__(self, group: str, registry: Registry) -> None:
        self._group = group
        self._events = EventReader(registry, dispositions=EVERY_DISPOSITION)

    def read(self, record: Record) -> Message | None:
        """The original message, with its own topic, partition and offset; None for another group's letter.

        Raises as ``EventReader.read``.
        """
        letter = parse(record)
        return self._events.read(letter.record) if letter is not None and letter.group == self._group else None


def redrive(handler: Handler, *, group: str, bootstrap_servers: str, registry_url: str, **options: Any) -> Redriven:
    """Call ``handler`` with each dead letter of ``group`` that is there and was not re-driven before.

    ``group`` is the consumer group: of a broadcast consumer ``<group>.<member>``. The handler's return takes the letter
    off; it stays on its topic as evidence. A letter that fails goes through the retries and is then a new dead letter,
    with the attempts of all its drives, for the next call. ``options`` are those of Consumer. Progress is kept in the
    consumer group ``<group>.redrive``, so an interrupted call is continued by the next.

    Raises TradetapeError where Kafka or the registry does not answer.
    """
    consumer = Consumer(
        f"{group}.redrive",
        bootstrap_servers=bootstrap_servers,
        registry_url=registry_url,
        topic=topics.DEAD_LETTERS,
        reader=DeadLetterReader(group, Registry(registry_url)),
        until_end=True,
        **options,
    )
    with consumer:
        consumer.run(handler)
    return Redriven(consumer.acknowledged, consumer.dead_lettered)
