"""Replay of a running stack: which partitions there are, and their raw records from Kafka (G3, P-06)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cache

from tradetape.infra import completeness
from tradetape.infra.settings import Settings
from tradetape.processors.reading import RawRecord, SchemaById, WriterSchema
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry, UnknownSchemaId
from tradetape.sinks import replay
from tradetape.sinks.batch import STREAMS
from tradetape.sinks.replay import Outcome
from tradetape.sinks.store import QueryRefused, Store

KAFKA_SECONDS = 30.0
"""How long Kafka may take to hand out the next record that it has."""

_AT_ONCE = 1_000
_POLL_SECONDS = 0.1

Progress = Callable[[int, int, int], object]
"""Hears partition, records folded, records to fold."""


def run(found: Settings, *, from_topic: bool, partitions: Collection[int], on_progress: Progress) -> list[Outcome]:
    """Fold ``partitions`` (empty: all) again, from their topic or from the store, and compare with the store.

    Raises TradetapeError where Kafka, the registry or ClickHouse does not answer or nothing is there to compare.
    """
    store = Store(found.clickhouse_url)
    last = _last_stored(store)
    offsets = completeness.kafka_offsets(found.bootstrap_servers) if from_topic else {}
    there = sorted(offsets if from_topic else last)
    _check(there, partitions, last)
    schema_by_id = writer_schemas(Registry(found.registry_url))
    outcomes = []
    for partition in sorted(partitions) or there:
        first, end = offsets.get(partition, (0, 0))
        until = last.get(partition, -1)
        if until < 0:
            outcomes.append(Outcome(partition, not_stored=end))
            continue
        outcome = replay.compare(
            store,
            partition,
            until,
            schema_by_id,
            raws=records(found.bootstrap_servers, partition, first, min(end, until + 1)) if from_topic else None,
            on_progress=lambda done, p=partition, total=until + 1: on_progress(p, done, total),  # type: ignore[misc]
        )
        outcome.not_stored = max(0, end - until - 1)
        outcomes.append(outcome)
    return outcomes


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
    """The records of ``partition`` of ``tradetape.events`` from ``first`` to before ``end``, as no group's consumer.

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


def _last_stored(store: Store) -> dict[int, int]:
    """The last raw offset with a verdict in the store, by partition."""
    try:
        marks = store.high_water(STREAMS[topics.AUDITED].sources)
    except QueryRefused as error:
        if error.code not in completeness.UNKNOWN_TABLES:
            raise
        marks = {}
    return {partition: mark.raw_offset for partition, mark in marks.items()}


def _check(there: Collection[int], partitions: Collection[int], last: dict[int, int]) -> None:
    if not last:
        raise TradetapeError(
            "nothing is stored: there is nothing to compare", hint="see `tradetape status`: the sink fills the store"
        )
    unknown = sorted(set(partitions) - set(there))
    if unknown:
        raise TradetapeError(
            f"there is no raw partition {', '.join(map(str, unknown))}", hint=f"there are {', '.join(map(str, there))}"
        )
