"""Portfolio deltas, batch by batch: folded into books, and each figure sent on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tradetape.processors.emission import key_of
from tradetape.processors.portfolio import books
from tradetape.processors.state import PartitionState
from tradetape.processors.stream.readers import Readers
from tradetape.processors.stream.steps import Keyed, Log, Place, Send, Steps
from tradetape.processors.stream.table import StateTable
from tradetape.schemas import codec, topics


class Portfolios(Steps):
    """Folds ``tradetape.portfolio``; the figures go to the same partition of ``tradetape.portfolios``."""

    TOPIC: ClassVar[str] = topics.PORTFOLIO

    def __init__(
        self,
        *,
        table: StateTable,
        schemas: Readers[codec.Decoder],
        encoder: codec.Encoder,
        send: Send,
        log: Log,
    ) -> None:
        super().__init__(table=table, send=send, log=log)
        self._schemas = schemas
        self._encoder = encoder

    async def prepare(self, records: Sequence[Any]) -> None:
        await self._schemas.prepare(record.value for record in records)

    def fold(self, partition: int, records: Sequence[Any], state: PartitionState) -> Mapping[Place, Sequence[Keyed]]:
        sent = []
        for record in records:
            figure = books.fold(self._delta(record.value), state)
            if figure is not None:
                sent.append((key_of(figure), self._encoder.encode(figure)))
        return {(topics.PORTFOLIOS, partition): sent}

    def _delta(self, value: bytes) -> dict[str, Any]:
        """The delta in ``value``: only the worker writes them, so nothing else may be there."""
        decoder = self._schemas.get(codec.schema_id_of(value))
        if decoder is None:
            raise codec.Undecodable(f"{self.TOPIC}: the registry does not know the schema of a delta")
        return decoder.decode(value)
