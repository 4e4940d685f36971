"""Raw events, batch by batch: the core judges them, and what it returns goes to the output topics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tradetape.processors import core
from tradetape.processors.emission import emitted, place_of
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.state import PartitionState
from tradetape.processors.stream.readers import Readers
from tradetape.processors.stream.steps import Keyed, Log, Place, Send, Steps
from tradetape.processors.stream.table import StateTable
from tradetape.schemas import codec, topics


class Judge(Steps):
    """Runs the core over batches of ``tradetape.events``, of which there are ``partitions``."""

    TOPIC: ClassVar[str] = topics.EVENTS

    def __init__(
        self,
        *,
        table: StateTable,
        schemas: Readers[WriterSchema],
        encoders: Mapping[str, codec.Encoder],
        send: Send,
        log: Log,
        partitions: int,
    ) -> None:
        super().__init__(table=table, send=send, log=log)
        self._schemas = schemas
        self._encoders = encoders
        self._partitions = partitions

    async def prepare(self, records: Sequence[Any]) -> None:
        await self._schemas.prepare(record.value or b"" for record in records)

    def fold(self, partition: int, records: Sequence[Any], state: PartitionState) -> Mapping[Place, Sequence[Keyed]]:
        sent: dict[Place, list[Keyed]] = defaultdict(list)
        for record in records:
            raw = RawRecord(partition, record.offset, record.timestamp * 1000, record.value or b"")
            for output in emitted(core.process(raw, state, self._schemas.get)):
                place = place_of(output, partition, self._partitions)
                sent[place].append((output.key, self._encoders[output.topic].encode(output.record)))
        return sent
