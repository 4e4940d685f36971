"""A portfolio as of any time: the fold of the deltas of all raw partitions, each folded again (P-02, decision 10)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from tradetape.processors.portfolio import books
from tradetape.processors.portfolio.order import Book, Place
from tradetape.processors.reading import SchemaById
from tradetape.processors.replay import Replay
from tradetape.processors.state import PartitionState
from tradetape.processors.views.plain import plain
from tradetape.schemas import topics
from tradetape.sinks import raws, stored, travel, views
from tradetape.sinks.portfolio_deltas import Delta, Deltas
from tradetape.sinks.store import Store
from tradetape.sinks.tables import PORTFOLIOS
from tradetape.sinks.travel import NOW, Document, When


def portfolio_at(
    store: Store, schema_by_id: SchemaById, name: str, when: When = NOW, *, environment: str = ""
) -> Document:
    """The figures of the portfolio ``name`` in each environment and quote asset, after its last change.

    It folds every partition from its first record on, for the way there is part of the figures: snapshots do not help.
    Raises what the functions of ``travel`` raise.
    """
    with closing(Deltas()) as deltas:
        for partition, last in raws.known(store, when.known_at).items():
            for delta in _deltas(store, schema_by_id, partition, last, when):
                if delta["portfolio"] == name and environment in ("", delta["environment"]):
                    deltas.add(delta)
        found = [plain(_last(deltas, book, _recorded(store, book))) for book in deltas.books()]
    return travel.answer(when, f"no portfolio {name!r}", iter(found))


def _last(deltas: Deltas, book: Book, recorded: dict[Place, int]) -> dict[str, Any]:
    """The figures of ``book`` after all of its deltas."""
    state = PartitionState(0, {})
    figures = (books.fold(delta, state) for delta in deltas.in_order(book, recorded))
    (last,) = deque((figure for figure in figures if figure is not None), maxlen=1)
    return {**stored.as_row(PORTFOLIOS, last), **dict.fromkeys(last["beyond"])}


def _recorded(store: Store, book: Book) -> dict[Place, int]:
    """The ``book_seq`` of every figure of ``book`` that is stored."""
    environment, portfolio, asset = book
    found = store.query(
        f"SELECT raw_partition, raw_offset, derived_seq, book_seq FROM {views.full_name(PORTFOLIOS)} "
        "WHERE environment = {environment:String} AND portfolio = {portfolio:String} AND quote_asset = {asset:String}",
        {"environment": environment, "portfolio": portfolio, "asset": asset},
    )
    return {Place(int(row[0]), int(row[1]), int(row[2])): int(row[3]) for row in found}


def _deltas(store: Store, schema_by_id: SchemaById, partition: int, last: int, when: When) -> Iterator[Delta]:
    replay = Replay(partition, schema_by_id, contiguous=when.at is None)
    if when.at is None:
        records = raws.following(store, partition, 0, last)
    else:
        records = raws.accepted(store, partition, last, when.at)
    for raw in records:
        for sent in replay.fold(raw):
            if sent.topic == topics.PORTFOLIO:
                yield sent.record
