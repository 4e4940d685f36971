"""One batch of one partition, from raw records to committed state. The order of the steps is the guarantee (G1, G2).

1. outputs sent   2. outputs acknowledged   3. state with its applied offset written and acknowledged   4. batch acked

A crash before 3 judges the same records again, from the same state, to the same outputs; the sink drops what it has.
After 3 the records are at or below ``applied`` and are passed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from tradetape.processors import core
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.stream.table import StateTable
from tradetape.schemas import codec, topics
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import UnknownSchemaId

log = logging.getLogger(__name__)

MAX_EVENTS = 2_000
"""Records judged per commit of state: about 3 changed keys of 300 bytes each keep its record batch near 2 MB."""

REGISTRY_PAUSE = 1.0
"""Seconds between attempts while the registry does not answer."""


class MissingRecords(RuntimeError):
    """The topic's next record is not the one that follows the last one folded. Nothing may be judged past that."""


class WriterSchemas:
    """Writer schemas by id, looked up once. An unknown id is asked for again: it may be registered by then."""

    def __init__(self, schema_by_id: Callable[[int], dict[str, Any]]) -> None:
        self._schema_by_id = schema_by_id
        self._known: dict[int, WriterSchema] = {}

    async def prepare(self, values: Iterable[bytes]) -> None:
        """Look up every id in ``values`` that is not known yet; waits for a registry that does not answer."""
        for schema_id in {id_ for value in values if (id_ := _id_of(value)) is not None} - self._known.keys():
            try:
                schema = await self._look_up(schema_id)
                self._known[schema_id] = WriterSchema(schema)
            except UnknownSchemaId:
                log.warning("schema id %d is not in the registry: its records are rejected", schema_id)

    def get(self, schema_id: int) -> WriterSchema | None:
        """The writer schema of a prepared id, None where the registry has none."""
        return self._known.get(schema_id)

    async def _look_up(self, schema_id: int) -> dict[str, Any]:
        while True:
            try:
                return await asyncio.to_thread(self._schema_by_id, schema_id)
            except TradetapeError as error:
                log.error("%s; trying again in %.0f s", error, REGISTRY_PAUSE)
                await asyncio.sleep(REGISTRY_PAUSE)


def _id_of(value: bytes | None) -> int | None:
    try:
        return codec.schema_id_of(value or b"")
    except codec.Undecodable:
        return None


class Judge:
    """Runs the core over batches and sends what it returns."""

    def __init__(
        self,
        *,
        table: StateTable,
        schemas: WriterSchemas,
        encoders: dict[str, codec.Encoder],
        send: Callable[[str, int, Sequence[tuple[bytes, bytes]]], Awaitable[None]],
        log_start: Callable[[int], Awaitable[int]],
    ) -> None:
        self._table = table
        self._schemas = schemas
        self._encoders = encoders
        self._send = send
        self._log_start = log_start

    async def handle(self, partition: int, records: Sequence[Any]) -> int:
        """Judge ``records`` of ``partition``; returns how many were new. Raises MissingRecords on a hole."""
        applied = self._table.state(partition).progress.applied
        fresh = [record for record in records if record.offset > applied]
        await self._check_contiguous(partition, applied, fresh)
        for start in range(0, len(fresh), MAX_EVENTS):
            await self._judge(partition, fresh[start : start + MAX_EVENTS])
        return len(fresh)

    async def _check_contiguous(self, partition: int, applied: int, fresh: Sequence[Any]) -> None:
        expected = applied + 1
        if fresh and applied < 0:
            expected = await self._log_start(partition)
        for record in fresh:
            if record.offset != expected:
                raise MissingRecords(
                    f"{topics.EVENTS}/{partition}: offset {record.offset} follows {expected - 1}; "
                    f"{record.offset - expected} records are missing"
                )
            expected += 1

    async def _judge(self, partition: int, records: Sequence[Any]) -> None:
        reach("worker.read")
        await self._schemas.prepare(record.value or b"" for record in records)
        state = self._table.state(partition)
        outputs = self._fold(partition, records, state)
        reach("worker.folded")
        await asyncio.gather(*(self._send(topic, partition, sent) for topic, sent in outputs.items() if sent))
        reach("worker.outputs_acknowledged")
        state.progress.applied = records[-1].offset
        await self._table.commit(partition)
        reach("worker.state_acknowledged")

    def _fold(self, partition: int, records: Sequence[Any], state: Any) -> dict[str, list[tuple[bytes, bytes]]]:
        audited: list[tuple[bytes, bytes]] = []
        risk: list[tuple[bytes, bytes]] = []
        alerts: list[tuple[bytes, bytes]] = []
        encode_audited = self._encoders[topics.AUDITED].encode
        encode_risk = self._encoders[topics.RISK].encode
        encode_alert = self._encoders[topics.ALERTS].encode
        for record in records:
            raw = RawRecord(partition, record.offset, record.timestamp * 1000, record.value or b"")
            output = core.process(raw, state, self._schemas.get)
            identity = b"%d:%d:" % (partition, record.offset)
            audited.append((identity + b"0", encode_audited(output.audited)))
            if output.risk is not None:
                risk.append((identity + b"1", encode_risk(output.risk)))
            for alert in output.alerts:
                alerts.append((identity + b"%d" % alert["derived_seq"], encode_alert(alert)))
        return {topics.AUDITED: audited, topics.RISK: risk, topics.ALERTS: alerts}
