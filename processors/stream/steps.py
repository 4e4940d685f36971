"""One batch of one partition, from raw records to committed state. The order of the steps is the guarantee (G1, G2).

1. outputs sent   2. outputs acknowledged   3. state with its applied offset written and acknowledged   4. batch acked

A crash before 3 folds the same records again, from the same state, to the same outputs; who reads them drops what it
has. After 3 the records are at or below ``applied`` and are passed over.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

from tradetape.processors.state import Change, PartitionState
from tradetape.processors.stream.table import StateTable
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.topics import MAX_AUDITED_BYTES

MAX_EVENTS = 2_000
"""Records folded per commit of state: about 3 changed keys of 300 bytes each keep its record batch near 2 MB. Where it
would be larger than Kafka takes, they are folded again in halves.
"""

RECORD_BYTES = 32
"""What Kafka adds to a key and a value in a record batch, at most."""
BATCH_BYTES = 1024
"""What it adds to a record batch."""

Keyed = tuple[bytes, bytes]
Place = tuple[str, int]
"""Topic and partition."""

Send = Callable[[str, int, Sequence[Keyed]], Awaitable[None]]
"""Sends keyed records to a topic's partition, in their order, and returns when Kafka has them."""


class MissingRecords(RuntimeError):
    """The topic's next record is not the one that follows the last one folded. Nothing may be folded past that."""


class Steps(ABC):
    """Folds batches of ``TOPIC`` into ``table`` and sends what they cause.

    ``log_start`` gives the first offset of a partition.
    """

    TOPIC: ClassVar[str]

    def __init__(self, *, table: StateTable, send: Send, log_start: Callable[[int], Awaitable[int]]) -> None:
        self._table = table
        self._send = send
        self._log_start = log_start

    @abstractmethod
    async def prepare(self, records: Sequence[Any]) -> None:
        """Get ready what folding ``records`` needs."""

    @abstractmethod
    def fold(self, partition: int, records: Sequence[Any], state: PartitionState) -> Mapping[Place, Sequence[Keyed]]:
        """Fold ``records`` into ``state``; returns what to send."""

    async def handle(self, partition: int, records: Sequence[Any]) -> int:
        """Fold ``records`` of ``partition``; returns how many were new. Raises MissingRecords on a hole."""
        applied = self._table.state(partition).progress.applied
        fresh = [record for record in records if record.offset > applied]
        await self._check_contiguous(partition, applied, fresh)
        for start in range(0, len(fresh), MAX_EVENTS):
            await self._step(partition, fresh[start : start + MAX_EVENTS])
        return len(fresh)

    async def _check_contiguous(self, partition: int, applied: int, fresh: Sequence[Any]) -> None:
        expected = applied + 1
        if fresh and applied < 0:
            expected = await self._log_start(partition)
        for record in fresh:
            if record.offset != expected:
                raise MissingRecords(
                    f"{self.TOPIC}/{partition}: offset {record.offset} follows {expected - 1}; "
                    f"{record.offset - expected} records are missing"
                )
            expected += 1

    async def _step(self, partition: int, records: Sequence[Any]) -> None:
        reach("worker.read")
        await self.prepare(records)
        state = self._table.state(partition)
        outputs = self.fold(partition, records, state)
        state.progress.applied = records[-1].offset
        changes = list(state.changes())
        if len(records) > 1 and not fits(changes):
            self._table.discard(partition)
            half = len(records) // 2
            await self._step(partition, records[:half])
            await self._step(partition, records[half:])
            return
        reach("worker.folded")
        await asyncio.gather(*(self._send(*place, sent) for place, sent in outputs.items() if sent))
        reach("worker.outputs_acknowledged")
        await self._table.commit(partition, changes)
        reach("worker.state_acknowledged")


def fits(changes: Sequence[Change]) -> bool:
    """Whether ``changes`` can be committed as one record batch."""
    size = sum(len(key) + len(value or b"") + RECORD_BYTES for key, value in changes)
    return size + BATCH_BYTES <= MAX_AUDITED_BYTES
