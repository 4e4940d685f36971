"""A stretch of the record under other limits (N-06): read, folded both ways, and what changes named by event."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Any

from tradetape.processors.control.limits import LimitSet
from tradetape.processors.reading import SchemaById
from tradetape.processors.what_if import Changed, WhatIf
from tradetape.schemas import times
from tradetape.sinks import raws, snapshots
from tradetape.sinks.store import Store

Document = dict[str, Any]


def decisions_that_change(
    store: Store, schema_by_id: SchemaById, other: LimitSet, *, since: int | None = None, until: int | None = None
) -> Iterator[Document]:
    """Which decisions of limits change, in the order in which events were taken in, had ``other`` been set at
    ``since`` and kept to ``until`` (ingest times, microseconds; None: from the first record, to the last).

    ``would`` says what: ``happen`` only under ``other``, ``not happen`` only as it was.
    Raises TradetapeError where records are missing or ClickHouse does not answer.
    """
    before = {} if since is None else raws.known(store, since - 1)
    walks = (
        _in_partition(store, schema_by_id, other, partition=partition, begun=before.get(partition, -1), last=last)
        for partition, last in raws.known(store, until).items()
    )
    for _, document in merge(*walks, key=lambda placed: placed[0]):
        yield document


def _in_partition(
    store: Store, schema_by_id: SchemaById, other: LimitSet, *, partition: int, begun: int, last: int
) -> Iterator[tuple[tuple[int, int, int, int], Document]]:
    """The changes after the offset ``begun`` up to ``last``, each with where it stands among those of others."""
    replay, _ = snapshots.resume(store, partition, begun, schema_by_id)
    snapshots.fold_on(store, replay, begun)
    both = WhatIf(partition, schema_by_id, replay.store, other)
    for raw in raws.following(store, partition, begun + 1, last):
        for number, changed in enumerate(both.fold(raw)):
            yield (raw.timestamp, partition, raw.offset, number), _document(changed)


def _document(changed: Changed) -> Document:
    verdict, decision = changed.verdict, changed.decision
    return {
        "ts_utc": times.text(verdict["ts_utc"]),
        "ingest_ts_utc": times.text(verdict["ingest_ts_utc"]),
        "environment": verdict["environment"],
        "account": verdict["account"],
        "instance_name": verdict["instance_name"],
        "would": "happen" if changed.is_new else "not happen",
        "code": decision.code,
        "status": decision.status,
        "limit": decision.detail.get("limit") or decision.detail.get("rule"),
        "figure": decision.detail["figure"],
        "value": decision.detail["value"],
        "threshold": decision.detail["threshold"],
        "event_type": verdict["event_type"],
        "event_id": verdict["event_id"],
        "raw_partition": verdict["raw_partition"],
        "raw_offset": verdict["raw_offset"],
    }
