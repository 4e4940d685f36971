"""Raw records of ``tradetape.events`` and the schemas they were written with: for replay, and for repair."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tradetape.processors.reading import RawRecord, SchemaById, WriterSchema
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry, UnknownSchemaId

KAFKA_SECONDS = 30.0
"""How long Kafka may take to hand out the next record that it has."""

_AT_ONCE = 1_000
_POLL_SECONDS = 0.1


def writer_schemas(registry: Registry) -> SchemaById:
    """Writer schemas of ``registry`` by id, each looked up once."""

    @cache
    def by_id(schema_id: int) -> WriterSchema | None:
        try:
            return WriterSchema(registry.by_id(schema_id))
        except UnknownSchemaId:
            return None

    return by_id


def records(bootstrap_servers: str, partition: int, first: int, end: int) -> Iterator[RawRecord]:
    """The records of ``partition`` from ``first`` to before ``end``, as far as Kafka still has them.

    Raises TradetapeError where Kafka does not hand them out.
    """
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    if first >= end:
        return
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "tradetape-replay",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(topics.EVENTS, partition, first)])
        silent = 0.0
        while True:
            batch = consumer.consume(_AT_ONCE, timeout=_POLL_SECONDS)
            silent = 0.0 if batch else silent + _POLL_SECONDS
            if silent > KAFKA_SECONDS:
                raise _silent(bootstrap_servers, f"nothing of partition {partition} in {KAFKA_SECONDS:.0f} s")
            for message in batch:
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise _silent(bootstrap_servers, error.str())
                if error is not None or message.offset() >= end:
                    return
                yield RawRecord(partition, message.offset(), message.timestamp()[1] * 1_000, message.value() or b"")
                if message.offset() == end - 1:
                    return
    finally:
        consumer.close()


def _silent(bootstrap_servers: str, why: str) -> TradetapeError:
    return TradetapeError(f"Kafka at {bootstrap_servers} does not answer ({why})", hint="see `tradetape status`")
