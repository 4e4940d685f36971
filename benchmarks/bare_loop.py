"""The peer of the worker: confluent-kafka, the same pure work, the same outputs; no framework, no changelog."""

from __future__ import annotations

import os

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from benchmarks.judging import Judging, Sent
from tradetape.processors.reading import RawRecord
from tradetape.processors.state import PartitionState
from tradetape.schemas import topics

PEER = "bare"
GROUP = "bench-bare"
BATCH = 4_000


def main() -> None:
    """Judge ``tradetape.events`` from where the group has committed on, until killed."""
    servers = os.environ["TRADETAPE_BOOTSTRAP_SERVERS"]
    judging = Judging(PEER)
    consumer = Consumer({"bootstrap.servers": servers, "group.id": GROUP, "enable.auto.commit": False})
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 5,
            "acks": "all",
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    partitions = range(topics.DEFAULT_PARTITIONS)
    begin = consumer.committed([TopicPartition(topics.EVENTS, p) for p in partitions], timeout=10)
    for tp in begin:
        tp.offset = tp.offset if tp.offset >= 0 else OFFSET_BEGINNING
    consumer.assign(begin)
    states = {p: PartitionState(p, {}) for p in partitions}
    stages = {p: PartitionState(p, {}) for p in partitions}

    def send(record: Sent) -> None:
        producer.produce(record.topic, key=record.key, value=record.value, partition=record.partition)

    def take(raw: RawRecord) -> None:
        """Send what the worker sends for ``raw``, and what its portfolio stage makes of it: here without a topic."""
        for output in judging.judge(raw, states[raw.partition]):
            send(judging.sent(output, raw.partition))
            if output.topic == topics.PORTFOLIO:
                place = judging.place(output, raw.partition)
                figure = judging.fold(output.record, stages[place])
                if figure is not None:
                    send(judging.sent(figure, place))

    while True:
        messages = consumer.consume(BATCH, timeout=0.05)
        for message in messages:
            take(RawRecord(message.partition(), message.offset(), message.timestamp()[1] * 1000, message.value()))
            producer.poll(0)
        producer.flush()
        for state in (*states.values(), *stages.values()):
            state.committed()
        if messages:
            consumer.commit(asynchronous=True)


if __name__ == "__main__":
    main()
