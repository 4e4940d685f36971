"""What a connector is: a native store read in order, from where a checkpoint says, as events.

A connector does not send and does not remember: ``runner`` emits what ``poll`` returns, waits for Kafka, saves
``state`` and then calls ``acknowledge``. So a kill at any moment repeats the unacknowledged tail at most, under the
same ids and positions, which the processor recognises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from tradetape.producers.events import Event


class Lag(NamedTuple):
    """How far a source is ahead of what was taken from it.

    ``records`` waiting in the native store, None where the store cannot tell; ``seconds`` between the store's newest
    record and the newest one taken, by the records' own times, None where there is none.
    """

    records: int | None
    seconds: float | None


class Source(Protocol):
    """One native store, open. ``name`` is what people see, ``source_id`` names it in the record and its checkpoint."""

    name: str
    source_id: str

    def poll(self, limit: int) -> Sequence[Event]:
        """The next events in the store's order, about ``limit`` at most; empty where nothing is new.

        They are typed events or UnmappedRecords, complete with source_id, source_stream and source_position. Never
        blocks for new records longer than a second. Raises TradetapeError where the store cannot be read.
        """

    def state(self) -> dict[str, Any]:
        """The checkpoint (JSON) that speaks of everything polled so far."""

    def acknowledge(self) -> None:
        """Kafka has everything polled so far, and the checkpoint is saved."""

    def lag(self) -> Lag:
        """How far the store is ahead of what was polled."""

    def ended(self) -> Sequence[Event]:
        """``source_ended`` events for what was polled so far, for a reader that stops at the end of the store."""

    def close(self) -> None:
        """Let the store go."""
