"""A native store read once more from its beginning, as if no checkpoint had ever been: for reconciliation (S3-11).

Nothing is sent and nothing is remembered. Events come out as they would go to Kafka: also what does not fit its schema,
or is too large, becomes what the runner would make of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.runner import Reader
from tradetape.producers.connectors.source import Source
from tradetape.producers.emitter import OVERHEAD_BYTES, EventTooLarge
from tradetape.producers.events import Event
from tradetape.schemas import topics
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Encoder


def read(source: Source) -> Iterator[Event]:
    """All events of ``source``, opened without a checkpoint, to the end of its store; it stays open.

    Raises TradetapeError where the store cannot be read.
    """
    reader, taken = Reader(source, _Forgetful()), _Taken()
    while reader.poll():
        reader.send(taken)
        yield from taken.take()
    reader.poll_end()
    reader.send(taken)
    yield from taken.take()


class _Forgetful(Checkpoints):
    def __init__(self) -> None:
        super().__init__(Path())

    def load(self, source_id: str) -> dict[str, Any] | None:
        return None

    def save(self, source_id: str, state: dict[str, Any]) -> None:
        raise AssertionError("a reading for comparison keeps no place")


class _Taken:
    """An emitter (``Emits``) that encodes as the real one does, and keeps the event."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def emit(self, event: Event, event_type_name: str) -> None:
        size = len(_encoder(event_type_name).encode(event)) + len(event["instance_name"].encode())
        if size > topics.MAX_EVENT_BYTES - OVERHEAD_BYTES:
            raise EventTooLarge(f"a {event_type_name} of {size} bytes is larger than the topic takes")
        self._events.append(event)

    def flush(self, timeout: float = 0.0) -> None:
        """Nothing is on its way."""

    def cluster_id(self) -> str:
        """None."""
        return ""

    def take(self) -> list[Event]:
        """The events since the last call."""
        taken, self._events = self._events, []
        return taken


@cache
def _encoder(event_type_name: str) -> Encoder:
    return Encoder(event_types()[event_type_name].schema, 0)
