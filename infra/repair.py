"""Repair of a running stack: which partitions, up to where (P-11)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from tradetape.infra.settings import Settings
from tradetape.schemas.registry import Registry
from tradetape.sinks import raw_log, raws
from tradetape.sinks.repair import Repaired, Repairer
from tradetape.sinks.store import Store


def run(found: Settings, partitions: Collection[int], *, every_partition: bool = False) -> list[Repaired]:
    """Insert what ``partitions`` (or every one) lack up to their last verdict.

    Raises Unrepairable, and TradetapeError where Kafka, the registry or ClickHouse does not answer.
    """
    store = Store(found.clickhouse_url)
    registry = Registry(found.registry_url)
    last = raws.last_stored(store)
    fetch = partial(raw_log.records, found.bootstrap_servers)
    repairer = Repairer(store, raw_log.writer_schemas(registry), registry, fetch)
    chosen = sorted(last) if every_partition else [partition for partition in partitions if partition in last]
    return [repairer.repair(partition, last[partition] + 1) for partition in chosen]
