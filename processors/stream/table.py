"""Committed state of the assigned partitions, backed by a changelog topic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import faust
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.types import TP

from tradetape.processors.state import Change, PartitionState, anew, apply
from tradetape.schemas.topics import MAX_AUDITED_BYTES

DROPPED_AT_ONCE = 2_000
"""Records of state that are deleted in one record batch."""


class StateTable(faust.Table[bytes, bytes]):
    """A Faust table whose content is one dict per partition and whose writes are atomic per batch.

    Faust recovers it from the changelog; ``commit`` writes it.
    """

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._committed: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._states: dict[int, PartitionState] = {}

    def state(self, partition: int) -> PartitionState:
        """The state of an assigned ``partition``, as of its last committed batch."""
        state = self._states.get(partition)
        if state is None:
            state = self._states[partition] = PartitionState(partition, self._committed[partition])
        return state

    def discard(self, partition: int) -> None:
        """Forget what was folded since the last commit."""
        del self._states[partition]

    async def begin_anew(self, partition: int, applied: int) -> None:
        """Drop state of another layout, that after ``applied``; dropped in part, it still is of another."""
        changes = list(anew(partition, self._committed[partition], applied))
        for start in range(0, len(changes), DROPPED_AT_ONCE):
            await self._append(partition, changes[start : start + DROPPED_AT_ONCE])

    async def commit(self, partition: int, changes: Sequence[Change]) -> None:
        """Write the ``changes`` of the current batch: to the changelog as one record batch, then here.

        The broker appends a record batch whole or not at all, so recovery never sees half a batch (decision 0002).
        """
        await self._append(partition, changes)
        self._states[partition].committed()

    async def _append(self, partition: int, changes: Sequence[Change]) -> None:
        producer = self.app.producer._producer
        batch = BatchBuilder(MAX_AUDITED_BYTES, producer._message_accumulator._compression_type)
        for key, value in changes:
            if batch.append(timestamp=None, key=key, value=value) is None:
                raise OverflowError(f"state changes of one batch exceed {MAX_AUDITED_BYTES} bytes")
        changelog = self.changelog_topic_name
        sent = await producer.send_batch(batch, changelog, partition=partition)
        appended = await sent
        self.app.tables.recovery.active_offsets[TP(changelog, partition)] = appended.offset + len(changes) - 1
        apply(self._committed[partition], changes)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Recovery: take in what the changelog holds. Each event is one fetched batch of records of a partition."""
        for event in batch:
            message = event.message
            apply(self._committed[message.partition], ((record.key, record.value) for record in message.value))

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Forget what belongs to others now, and every decoded record: another worker may have written since."""
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        ours = {tp.partition for tp in assigned}
        for partition in self._committed.keys() - ours:
            del self._committed[partition]
        self._states.clear()
