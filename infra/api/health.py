"""How much is stored, and how far the store is behind Kafka (S1-08, S3-09)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradetape.infra import completeness
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import raws
from tradetape.sinks.store import UNKNOWN_TABLES, QueryRefused, Store
from tradetape.sinks.tables import TABLES

OK, BEHIND, KAFKA_AWAY, STORE_AWAY = "ok", "behind", "kafka_away", "store_away"
"""``behind``: more than BEHIND_RECORDS wait in Kafka."""

STATUSES = (OK, BEHIND, KAFKA_AWAY, STORE_AWAY)
BEHIND_RECORDS = 100_000


def is_up(store: Store) -> bool:
    """Whether the store answers."""
    try:
        store.query("SELECT 1")
    except TradetapeError:
        return False
    return True


def counts(store: Store) -> dict[str, int]:
    """Rows of each table that may be seen; 0 where there is no table yet. Raises what Store.query raises."""
    found = {}
    for name, table in TABLES.items():
        try:
            found[name] = int(store.query(f"SELECT count() FROM {table.full_name}")[0][0])
        except QueryRefused as error:
            if error.code not in UNKNOWN_TABLES:
                raise
            found[name] = 0
    return found


def lag(store: Store, bootstrap_servers: str) -> list[dict[str, int]]:
    """By raw partition: where Kafka ends, the last offset stored (-1: none), and how many records lie between.

    Raises TradetapeError where Kafka does not answer, and what Store.query raises.
    """
    last = raws.last_stored(store, patience=0)
    return [
        {
            "raw_partition": partition,
            "kafka_end": end,
            "last_stored": last.get(partition, -1),
            "behind": max(0, end - 1 - max(last.get(partition, -1), first - 1)),
        }
        for partition, (first, end) in completeness.kafka_offsets(bootstrap_servers).items()
    ]


def document(rows: Mapping[str, int], behind: list[dict[str, int]] | None) -> dict[str, Any]:
    """What health tells; ``behind`` is None where Kafka does not answer, or is not known."""
    waiting = None if behind is None else sum(partition["behind"] for partition in behind)
    status = KAFKA_AWAY if waiting is None else BEHIND if waiting > BEHIND_RECORDS else OK
    return {"status": status, "rows": dict(rows), "lag": waiting, "partitions": behind}
