"""The peer of the worker: confluent-kafka, the same pure work, the same outputs; no framework, no changelog."""

from __future__ import annotations

import os
import sys

from confluent_kafka import Consumer, Producer, TopicPartition

from tradetape.processors import core
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.state import PartitionState
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.registry import Registry

BATCH = 4_000


def main() -> None:
    """Judge ``tradetape.events`` from its end on, until killed; outputs go to ``bench.*``."""
    servers = os.environ["TRADETAPE_BOOTSTRAP_SERVERS"]
    registry = Registry(os.environ["TRADETAPE_REGISTRY_URL"])
    outputs = {topics.AUDITED: "audited", topics.RISK: "risk", topics.ALERTS: "alerts"}
    encode = {
        topic: codec.Encoder(output_schema(name), registry.look_up(topic, output_schema(name))).encode
        for topic, name in outputs.items()
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
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for message in consumer.consume(BATCH, timeout=0.05):
            partition, offset = message.partition(), message.offset()
            raw = RawRecord(partition, offset, message.timestamp()[1] * 1000, message.value())
            output = core.process(raw, states[partition], schema_by_id)
            identity = b"%d:%d:" % (partition, offset)
            sent = [(topics.AUDITED, b"0", output.audited)]
            if output.risk is not None:
                sent.append((topics.RISK, b"1", output.risk))
            sent += [(topics.ALERTS, b"%d" % alert["derived_seq"], alert) for alert in output.alerts]
            for topic, derived, record in sent:
                producer.produce(
                    topic.replace("tradetape", "bench"),
                    key=identity + derived,
                    value=encode[topic](record),
                    partition=partition,
                )
            producer.poll(0)
        producer.flush()
        for state in states.values():
            state.committed()


if __name__ == "__main__":
    main()
