"""The peer of the worker: confluent-kafka, the same pure work, the same outputs; no framework, no changelog."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from confluent_kafka import Consumer, Producer, TopicPartition

from tradetape.processors import core
from tradetape.processors.emission import Emitted, emitted, place_of
from tradetape.processors.portfolio import books
from tradetape.processors.reading import RawRecord, SchemaById, WriterSchema
from tradetape.processors.state import PartitionState
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import OUTPUTS, output_schema
from tradetape.schemas.registry import Registry

BATCH = 4_000


def main() -> None:
    """Judge ``tradetape.events`` from its end on, until killed; outputs go to ``bench.*``."""
    servers = os.environ["TRADETAPE_BOOTSTRAP_SERVERS"]
    registry = Registry(os.environ["TRADETAPE_REGISTRY_URL"])
    encode = {
        topics.of_output(name): codec.Encoder(
            output_schema(name), registry.look_up(topics.of_output(name), output_schema(name))
        ).encode
        for name in OUTPUTS
    }
    schemas: dict[int, WriterSchema] = {}

    def schema_by_id(schema_id: int) -> WriterSchema:
        if schema_id not in schemas:
            schemas[schema_id] = WriterSchema(registry.by_id(schema_id))
        return schemas[schema_id]

    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench-bare", "enable.auto.commit": False})
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 5,
            "acks": "all",
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    partitions = consumer.list_topics(topics.EVENTS, timeout=10).topics[topics.EVENTS].partitions
    ends = [TopicPartition(topics.EVENTS, p) for p in partitions]
    for tp in ends:
        tp.offset = consumer.get_watermark_offsets(tp, timeout=10)[1]
    consumer.assign(ends)
    states = {p: PartitionState(p, {}) for p in partitions}
    stages = {p: PartitionState(p, {}) for p in partitions}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for message in consumer.consume(BATCH, timeout=0.05):
            partition = message.partition()
            raw = RawRecord(partition, message.offset(), message.timestamp()[1] * 1000, message.value())
            for output in _outputs(raw, states[partition], schema_by_id, stages, len(partitions)):
                producer.produce(
                    output.topic.replace("tradetape", "bench"),
                    key=output.key,
                    value=encode[output.topic](output.record),
                    partition=partition,
                )
            producer.poll(0)
        producer.flush()
        for state in (*states.values(), *stages.values()):
            state.committed()


def _outputs(
    raw: RawRecord,
    state: PartitionState,
    schema_by_id: SchemaById,
    stages: dict[int, PartitionState],
    partitions: int,
) -> Iterator[Emitted]:
    """What the worker sends for ``raw``, and what its portfolio stage makes of the deltas: here without a topic."""
    for output in emitted(core.process(raw, state, schema_by_id)):
        yield output
        if output.topic == topics.PORTFOLIO:
            figure = books.fold(output.record, stages[place_of(output, raw.partition, partitions)[1]])
            if figure is not None:
                yield Emitted(output.key, topics.PORTFOLIOS, figure)


if __name__ == "__main__":
    main()
