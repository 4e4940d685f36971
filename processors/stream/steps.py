"""One batch of one partition, from raw records to committed state. The order of the steps is the guarantee (G1, G2).

1. outputs sent   2. outputs acknowledged   3. state with its applied offset written and acknowledged   4. batch acked

A crash before 3 folds the same records again, from the same state, to the same outputs; who reads them drops what it
has. After 3 the records are at or below ``applied`` and are passed over.

State of another layout is dropped, and folded again from the log; what was sent before is not sent again.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from tradetape.processors.state import NOTHING_SENT, Change, PartitionState, StateVersionMismatch
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

_LOG = logging.getLogger(__name__)


class Log(Protocol):
    """What Kafka holds of a topic's partition."""

    async def start(self, partition: int) -> int:
        """Its first offset."""

    def read(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[Any]]:
        """The records from ``first`` to before ``end``, batch by batch. Raises GivenWay."""


class GivenWay(Exception):
    """The partition may be another's soon, and what is left of it that one's to read."""


class MissingRecords(RuntimeError):
    """The topic's next record is not the one that follows the last one folded. Nothing may be folded past that."""


class Steps(ABC):
    """Folds batches of ``TOPIC``, whose records ``log`` has, into ``table`` and sends what they cause."""

    TOPIC: ClassVar[str]

    def __init__(self, *, table: StateTable, send: Send, log: Log) -> None:
        self._table = table
        self._send = send
        self._log = log

    @abstractmethod
    async def prepare(self, records: Sequence[Any]) -> None:
        """Get ready what folding ``records`` needs."""

    @abstractmethod
    def fold(self, partition: int, records: Sequence[Any], state: PartitionState) -> Mapping[Place, Sequence[Keyed]]:
        """Fold ``records`` into ``state``; returns what to send."""

    async def handle(self, partition: int, records: Sequence[Any]) -> int:
        """Fold ``records`` of ``partition``; returns how many were new.

        Raises MissingRecords on a hole, GivenWay where a rebuild is cut short: then nothing of ``records`` is folded.
        """
        if not records:
            return 0
        applied = await self._rebuilt(partition, records[0].offset)
        fresh = [record for record in records if record.offset > applied]
        await self._fold_all(partition, fresh)
        return len(fresh)

    async def _rebuilt(self, partition: int, end: int) -> int:
        """Fold again what state of another layout had, before ``end``; returns up to where the partition is folded."""
        try:
            progress = self._table.state(partition).progress
        except StateVersionMismatch as mismatch:
            _LOG.warning("%s: %s; it is folded again from the log", self.TOPIC, mismatch)
            await self._table.begin_anew(partition, mismatch.applied)
            progress = self._table.state(partition).progress
        end = min(end, progress.sent + 1)
        if progress.applied < end - 1:
            first = await self._expected(partition, progress.applied)
            async for records in self._log.read(partition, first, end):
                await self._fold_all(partition, records)
            _LOG.warning("%s/%d is folded again", self.TOPIC, partition)
        return self._table.state(partition).progress.applied

    async def _fold_all(self, partition: int, records: Sequence[Any]) -> None:
        progress = self._table.state(partition).progress
        await self._check_contiguous(partition, progress.applied, records)
        for part in _parts(records, progress.sent):
            await self._step(partition, part, is_sent=part[-1].offset <= progress.sent)

    async def _expected(self, partition: int, applied: int) -> int:
        return applied + 1 if applied >= 0 else await self._log.start(partition)

    async def _check_contiguous(self, partition: int, applied: int, records: Sequence[Any]) -> None:
        expected = await self._expected(partition, applied) if records else 0
        for record in records:
            if record.offset != expected:
                raise MissingRecords(
                    f"{self.TOPIC}/{partition}: offset {record.offset} follows {expected - 1}; "
                    f"{record.offset - expected} records are missing"
                )
            expected += 1

    async def _step(self, partition: int, records: Sequence[Any], *, is_sent: bool) -> None:
        reach("worker.read")
        await self.prepare(records)
        state = self._table.state(partition)
        outputs = self.fold(partition, records, state)
        state.progress.applied = records[-1].offset
        if state.progress.applied >= state.progress.sent:
            state.progress.sent = NOTHING_SENT
        changes = list(state.changes())
        if len(records) > 1 and not fits(changes):
            self._table.discard(partition)
            half = len(records) // 2
            await self._step(partition, records[:half], is_sent=is_sent)
            await self._step(partition, records[half:], is_sent=is_sent)
            return
        reach("worker.folded")
        sends = [] if is_sent else [self._send(*place, sent) for place, sent in outputs.items() if sent]
        if sends:
            await asyncio.gather(*sends)
            reach("worker.outputs_acknowledged")
        await self._table.commit(partition, changes)
        reach("worker.state_acknowledged")


def _parts(records: Sequence[Any], sent: int) -> Iterator[Sequence[Any]]:
    """``records`` in parts of at most MAX_EVENTS, none of which has some that were sent and some that were not."""
    known = bisect_right(records, sent, key=lambda record: record.offset)
    for some in (records[:known], records[known:]):
        for start in range(0, len(some), MAX_EVENTS):
            yield some[start : start + MAX_EVENTS]


def fits(changes: Sequence[Change]) -> bool:
    """Whether ``changes`` can be committed as one record batch."""
    size = sum(len(key) + len(value or b"") + RECORD_BYTES for key, value in changes)
    return size + BATCH_BYTES <= MAX_AUDITED_BYTES
