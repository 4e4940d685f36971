"""Replay of a running stack: which partitions there are, and where their raw records come from (G3, P-06)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from tradetape.infra import completeness
from tradetape.infra.settings import Settings
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry
from tradetape.sinks import raws, replay
from tradetape.sinks.raw_log import records, writer_schemas
from tradetape.sinks.replay import PATIENCE, OnJudged, Outcome
from tradetape.sinks.store import Store

Progress = Callable[[int, int, int], object]
"""Hears partition, records folded, records to fold."""


def run(
    found: Settings,
    *,
    from_topic: bool,
    partitions: Collection[int],
    on_progress: Progress,
    on_judged: OnJudged = lambda _replay, _judged: None,
    patience: float = PATIENCE,
) -> list[Outcome]:
    """Fold ``partitions`` (empty: all) again, from their topic or from the store, and compare with the store.

    ``on_judged`` hears what is sent for each record.
    Raises TradetapeError where Kafka, the registry or ClickHouse does not answer or nothing is there to compare.
    """
    store = Store(found.clickhouse_url)
    last = raws.last_stored(store, patience)
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
            on_judged=on_judged,
            patience=patience,
        )
        outcome.not_stored = max(0, end - until - 1)
        outcomes.append(outcome)
    return outcomes


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
