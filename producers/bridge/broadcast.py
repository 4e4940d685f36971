"""Sending control records to their partitions."""

from __future__ import annotations

from collections.abc import Iterable

from tradetape.producers.emitter import Emitter
from tradetape.producers.events import Event


def broadcast(emitter: Emitter, copies: Iterable[Event]) -> int:
    """Send copy number p to partition p and wait until Kafka has all; returns how many. Raises TradetapeError."""
    count = 0
    for partition, copy in enumerate(copies):
        emitter.emit(copy, copy["event_type"], partition=partition)
        count += 1
    emitter.flush()
    return count
