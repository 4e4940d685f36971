"""A topic's records once more, from any offset: what rebuilding a partition's state reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from tradetape.processors.stream.steps import GivenWay

FETCH_BYTES = 1024 * 1024
"""Per partition and fetch: about 3,700 events, the batch that one message carries."""

WAIT_MILLISECONDS = 500


class KafkaLog:
    """``steps.Log`` of ``topic``, by consumers of no group. Gives way while the workers of ``app`` share out again."""

    def __init__(self, app: faust.App, topic: str, bootstrap_servers: str) -> None:
        self._app = app
        self._topic = topic
        self._bootstrap_servers = bootstrap_servers

    async def start(self, partition: int) -> int:
        """The first offset of ``partition``."""
        tp = TopicPartition(self._topic, partition)
        earliest = await self._app.consumer.earliest_offsets(tp)
        return int(earliest[tp])

    async def read(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[Any]]:
        """The records of ``partition`` from ``first`` to before ``end``, batch by batch. Raises GivenWay."""
        tp = TopicPartition(self._topic, partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            enable_auto_commit=False,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        await consumer.start()
        try:
            consumer.assign([tp])
            consumer.seek(tp, first)
            while await consumer.position(tp) < end:
                if self._app.rebalancing or self._app.should_stop:
                    raise GivenWay
                found = await consumer.getmany(tp, timeout_ms=WAIT_MILLISECONDS)
                records = [record for record in found.get(tp, ()) if record.offset < end]
                if records:
                    yield records
        finally:
            await consumer.stop()
