"""The Faust application: which topics, which settings and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faust
import mode
from faust.types import EventT

from tradetape.processors.reading import WriterSchema
from tradetape.processors.stream.judge import Judge
from tradetape.processors.stream.log import FETCH_BYTES, KafkaLog
from tradetape.processors.stream.portfolios import Portfolios
from tradetape.processors.stream.readers import Readers
from tradetape.processors.stream.steps import GivenWay, Steps
from tradetape.processors.stream.table import StateTable
from tradetape.processors.stream.transport import BatchTransport
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import OUTPUTS, output_schema
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.registry import Registry

log = logging.getLogger(__name__)

APP_ID = "tradetape-worker"
OUTPUT_BATCH_BYTES = 500_000


class Untouched(faust.Schema):
    """Hands keys and values through as they are: the core decodes, and what does not decode is evidence."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Any]:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> EventT:
            event: EventT = create_event(message.key, message.value, message.headers, message)
            return event

        return decode


def build(*, bootstrap_servers: str, registry: Registry, partitions: int, data_folder: Path, member: str) -> faust.App:
    """The worker's app for ``partitions`` partitions; ``member`` is this worker's lasting name in the group."""
    app = faust.App(
        APP_ID,
        broker=[f"kafka://{server}" for server in bootstrap_servers.split(",")],
        store="memory://",
        datadir=str(data_folder),
        web_enabled=False,
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        # A batch in flight may otherwise still write after its partition was given away.
        stream_wait_empty=True,
        stream_buffer_maxsize=4,
        # Static membership and a short session: a restarted worker is back in 3 s instead of 40.
        consumer_group_instance_id=member,
        broker_session_timeout=6,
        broker_heartbeat_interval=2,
        broker_commit_interval=1,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        producer_compression_type="lz4",
        producer_max_batch_size=OUTPUT_BATCH_BYTES,
        producer_max_request_size=topics.MAX_AUDITED_BYTES,
    )
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    encoders = {
        topics.of_output(name): codec.Encoder(
            output_schema(name), registry.look_up(topics.of_output(name), output_schema(name))
        )
        for name in OUTPUTS
    }

    async def send(topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        await _send(app.producer._producer, topic, partition, records)

    judge = Judge(
        table=_table(app, "state", topics.STATE),
        schemas=Readers(registry.by_id, WriterSchema),
        encoders=encoders,
        send=send,
        log=KafkaLog(app, topics.EVENTS, bootstrap_servers),
        partitions=partitions,
    )
    portfolios = Portfolios(
        table=_table(app, "portfolio_state", topics.PORTFOLIO_STATE),
        schemas=Readers(registry.by_id, lambda schema: codec.Decoder(schema, output_schema("portfolio"))),
        encoder=encoders[topics.PORTFOLIOS],
        send=send,
        log=KafkaLog(app, topics.PORTFOLIO, bootstrap_servers),
    )
    for name, steps in (("judge", judge), ("portfolios", portfolios)):
        _run(app, name, steps)
    return app


def _table(app: faust.App, name: str, changelog: str) -> StateTable:
    topic = app.topic(changelog, schema=Untouched(), acks=False, internal=True, maxsize=131_072)
    # The recovery buffer counts messages, and each is a whole fetched batch: at most 8 MB wait to be applied.
    table = StateTable(app, name=name, key_type=bytes, value_type=bytes, changelog_topic=topic, recovery_buffer_size=8)
    app.tables.add(table)
    return table


def _run(app: faust.App, name: str, steps: Steps) -> None:
    """An agent that takes every batch of its topic through ``steps``."""
    topic = app.topic(steps.TOPIC, schema=Untouched())

    @app.agent(topic, name=name, supervisor_strategy=mode.CrashingSupervisor)  # type: ignore[untyped-decorator]
    async def handle(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            try:
                await steps.handle(message.partition, message.value)
            except GivenWay:
                message.acked = True  # nobody waits for it, and its offset is not committed
                continue
            event.ack()
            reach("worker.batch_acknowledged")


async def _send(producer: Any, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
    """Send ``records`` in order and wait for the acknowledgement of each."""
    sent: list[asyncio.Future[Any]] = []
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(timestamp=None, key=key, value=value) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            if batch.append(timestamp=None, key=key, value=value) is None:
                raise OverflowError(f"{topic}: a record of {len(value)} bytes does not fit an empty batch")
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    reach("worker.outputs_sent")
    await asyncio.gather(*sent)
