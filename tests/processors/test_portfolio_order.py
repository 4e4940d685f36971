"""The order of a book's deltas is on record, so its figures replay to the last digit, the way there included (P-02)."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import SCHEMAS
from tests.processors.logs import log

from tradetape.processors.portfolio import books
from tradetape.processors.portfolio.order import Place, book_of, in_order, place_of
from tradetape.processors.replay import Replay
from tradetape.processors.state import PartitionState
from tradetape.schemas import topics

pytestmark = pytest.mark.req("P-02", "N-05")

PARTITIONS = 3
Delta = dict[str, Any]


@cache
def queues() -> dict[int, list[Delta]]:
    """The deltas of the largest book, by raw partition."""
    found: dict[tuple[str, ...], dict[int, list[Delta]]] = {}
    for partition, records in log(1, PARTITIONS).items():
        replay = Replay(partition, SCHEMAS.get)
        for sent in (each for raw in records for each in replay.fold(raw)):
            if sent.topic == topics.PORTFOLIO:
                found.setdefault(book_of(sent.record), {}).setdefault(partition, []).append(sent.record)
    return max(found.values(), key=lambda parts: (len(parts), sum(map(len, parts.values()))))


def shuffled(draw: list[int]) -> list[Delta]:
    """All deltas in an order that keeps each partition's; ``draw`` says which partition comes next."""
    left = {partition: list(queue) for partition, queue in queues().items()}
    order: list[Delta] = []
    while any(left.values()):
        waiting = [partition for partition, queue in left.items() if queue]
        order.append(left[waiting[draw[len(order) % len(draw)] % len(waiting)]].pop(0))
    return order


def figures(order: list[Delta]) -> list[dict[str, Any]]:
    state = PartitionState(0, {})
    return [books.fold(delta, state) or {} for delta in order]


def placed() -> list[tuple[Place, int]]:
    """Places and ingest times as a reader of the record has them, one partition after the other."""
    return [(place_of(delta), delta["ingest_ts_utc"]) for queue in queues().values() for delta in queue]


draws = st.lists(st.integers(0, PARTITIONS - 1), min_size=1, max_size=40)


@settings(max_examples=20)
@given(draw=draws)
def test_whatever_the_order_was_it_is_the_one_on_record(draw: list[int]) -> None:
    assert sum(map(len, queues().values())) > 50
    assert len(queues()) > 1
    order = shuffled(draw)
    recorded = {place_of(figure): figure["book_seq"] for figure in figures(order)}
    assert sorted(recorded.values()) == list(range(1, len(order) + 1))
    assert in_order(placed(), recorded) == [place_of(delta) for delta in order]


@settings(max_examples=20)
@given(draw=draws, data=st.data())
def test_deltas_that_are_not_on_record_yet_follow_those_of_their_partition(
    draw: list[int], data: st.DataObject
) -> None:
    order = shuffled(draw)
    stored = data.draw(st.sets(st.sampled_from(range(len(order)))))
    recorded = {place_of(order[n]): n + 1 for n in stored}
    found = in_order(placed(), recorded)
    assert [place for place in found if place in recorded] == [place_of(order[n]) for n in sorted(stored)]
    for partition, queue in queues().items():
        assert [place for place in found if place.raw_partition == partition] == [place_of(each) for each in queue]


def test_without_a_recorded_order_it_is_by_time_and_keeps_that_of_each_partition() -> None:
    deltas = [(Place(1, 0, 0), 9), (Place(1, 1, 0), 5), (Place(0, 0, 0), 5), (Place(0, 1, 0), 9)]
    assert in_order(deltas, {}) == [Place(0, 0, 0), Place(0, 1, 0), Place(1, 0, 0), Place(1, 1, 0)]
