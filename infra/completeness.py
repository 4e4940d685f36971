"""Is anything missing? Offsets in Kafka against rows in ClickHouse, partition by partition (P-03, S3-09)."""

from __future__ import annotations

import time
from typing import Any

from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import queries
from tradetape.sinks.store import UNKNOWN_TABLES, QueryRefused, Store

COLUMNS = (
    "raw_partition",
    "kafka_first",
    "kafka_end",
    "rows",
    "accepted",
    "duplicate",
    "rejected",
    "missing",
    "holes",
    "doubles",
    "archived",
)
"""kafka_first and kafka_end bound what Kafka holds, the end excluded; ``missing`` offsets below that end are not stored
(yet, where the sink is behind), ``holes`` are those of them below the last stored one: lost until repaired.
``archived`` rows count as stored."""

KAFKA_SECONDS = 10.0
POLL_SECONDS = 0.1


def compare(store: Store, bootstrap_servers: str) -> list[dict[str, Any]]:
    """One row per raw partition. Raises TradetapeError where Kafka or ClickHouse does not answer."""
    stored = {row["raw_partition"]: row for row in _stored(store)}
    compared = []
    for partition, (first, end) in kafka_offsets(bootstrap_servers).items():
        row = stored.get(partition, {})
        behind = end - max(first, row.get("last", -1) + 1)
        compared.append(
            {
                "raw_partition": partition,
                "kafka_first": first,
                "kafka_end": end,
                "rows": row.get("rows", 0),
                "accepted": row.get("accepted", 0),
                "duplicate": row.get("duplicates", 0),
                "rejected": row.get("rejected", 0),
                "missing": row.get("holes", 0) + max(0, behind),
                "holes": row.get("holes", 0),
                "doubles": row.get("doubles", 0),
                "archived": row.get("archived", 0),
            }
        )
    return compared


def wait_until_stored(store: Store, bootstrap_servers: str, timeout: float) -> int:
    """Wait until everything that Kafka holds now is stored; returns how many records are missing after ``timeout``."""
    ends = {partition: end for partition, (_, end) in kafka_offsets(bootstrap_servers).items()}
    until = time.monotonic() + timeout
    while True:
        missing: int
        try:
            last = {row["raw_partition"]: row["last"] for row in _stored(store)}
            missing = sum(max(0, end - 1 - int(last.get(partition, -1))) for partition, end in ends.items())
        except TradetapeError:
            missing = sum(ends.values())
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(POLL_SECONDS)


def _stored(store: Store) -> list[dict[str, Any]]:
    try:
        return queries.rows(store, "completeness")
    except QueryRefused as error:
        if error.code not in UNKNOWN_TABLES:
            raise
        return []


def kafka_offsets(bootstrap_servers: str) -> dict[int, tuple[int, int]]:
    """First and end offset of every partition of ``tradetape.events``. Raises TradetapeError."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "tradetape-completeness", "log_level": 0})
    try:
        found = consumer.list_topics(topics.EVENTS, timeout=KAFKA_SECONDS).topics[topics.EVENTS].partitions
        if not found:
            raise TradetapeError(
                f"{topics.EVENTS} is missing at {bootstrap_servers}", hint="create it with `tradetape up`"
            )
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topics.EVENTS, partition), timeout=KAFKA_SECONDS)
            for partition in sorted(found)
        }
    except KafkaException as error:
        raise TradetapeError(
            f"Kafka at {bootstrap_servers} does not answer ({error.args[0].str()})",
            hint="check that it is up (`tradetape status`) and that TRADETAPE_BOOTSTRAP_SERVERS is right",
        ) from error
    finally:
        consumer.close()
