"""A portfolio as of any time: the fold of the deltas of all raw partitions, each folded again (P-02, decision 10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tradetape.processors.portfolio import books
from tradetape.processors.portfolio.order import in_order
from tradetape.processors.reading import SchemaById
from tradetape.processors.replay import Replay
from tradetape.processors.state import PartitionState
from tradetape.processors.views.plain import plain
from tradetape.schemas import topics
from tradetape.sinks import raws, travel
from tradetape.sinks.store import Store
from tradetape.sinks.tables import SENTINEL
from tradetape.sinks.travel import NOW, Document, When


def portfolio_at(
    store: Store, schema_by_id: SchemaById, name: str, when: When = NOW, *, environment: str = ""
) -> Document:
    """The figures of the portfolio ``name`` in each environment and quote asset, after its last change.

    It folds every partition from its first record on, for the way there is part of the figures: snapshots do not help.
    Raises what the functions of ``travel`` raise.
    """
    state = PartitionState(0, {})
    found: dict[tuple[str, str], dict[str, Any]] = {}
    known = raws.known(store, when.known_at)
    for delta in in_order(_deltas(store, schema_by_id, partition, last, when) for partition, last in known.items()):
        if delta["portfolio"] == name and environment in ("", delta["environment"]):
            figure = books.fold(delta, state)
            if figure is not None:
                found[figure["environment"], figure["quote_asset"]] = figure
    views = ({key: value for key, value in found[key].items() if key != SENTINEL} for key in sorted(found))
    return travel.answer(when, f"no portfolio {name!r}", (plain(view) for view in views))


def _deltas(store: Store, schema_by_id: SchemaById, partition: int, last: int, when: When) -> Iterator[dict[str, Any]]:
    replay = Replay(partition, schema_by_id, contiguous=when.at is None)
    if when.at is None:
        records = raws.following(store, partition, 0, last)
    else:
        records = raws.accepted(store, partition, last, when.at)
    for raw in records:
        for sent in replay.fold(raw):
            if sent.topic == topics.PORTFOLIO:
                yield sent.record
