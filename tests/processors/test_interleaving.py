"""Figures of portfolios follow from deltas in some order that keeps each partition's; a changed one does not (P-02)."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import SCHEMAS
from tests.processors.logs import log

from tradetape.processors.portfolio import books
from tradetape.processors.portfolio.interleaving import Interleaving
from tradetape.processors.portfolio.order import in_order
from tradetape.processors.replay import Replay
from tradetape.processors.state import PartitionState
from tradetape.schemas import topics
from tradetape.schemas.numbers import QUANTUM

pytestmark = pytest.mark.req("P-02")

PARTITIONS = 3
Delta = dict[str, Any]
Place = tuple[int, int, int]


@cache
def queues() -> dict[int, list[Delta]]:
    """The deltas of the largest book, by raw partition."""
    sent = {}
    for partition, records in log(1, PARTITIONS).items():
        replay = Replay(partition, SCHEMAS.get)
        judged = (each for raw in records for each in replay.fold(raw))
        sent[partition] = [each.record for each in judged if each.topic == topics.PORTFOLIO]
    found: dict[tuple[str, ...], dict[int, list[Delta]]] = {}
    for partition, deltas in sent.items():
        for delta in deltas:
            book = (delta["environment"], delta["portfolio"], delta["quote_asset"])
            found.setdefault(book, {}).setdefault(partition, []).append(delta)
    return max(found.values(), key=lambda parts: (len(parts), sum(map(len, parts.values()))))


def place(record: Delta) -> Place:
    return record["raw_partition"], record["raw_offset"], record["derived_seq"]


def shuffled(draw: list[int]) -> list[Delta]:
    """All deltas in an order that keeps each partition's; ``draw`` says which partition comes next."""
    left = {partition: list(queue) for partition, queue in queues().items()}
    order = []
    while any(left.values()):
        waiting = [partition for partition, queue in left.items() if queue]
        number = draw[len(order) % len(draw)] if draw else 0
        order.append(left[waiting[number % len(waiting)]].pop(0))
    return order


def figures(order: list[Delta]) -> dict[Place, dict[str, Any]]:
    state = PartitionState(0, {})
    return {place(delta): books.fold(delta, state) or {} for delta in order}


def search(rows: dict[Place, dict[str, Any]]) -> tuple[Delta, dict[str, Any]] | None:
    return Interleaving(
        queues(), lambda delta: delta, lambda delta: delta["ingest_ts_utc"], lambda d, found: rows[place(d)] == found
    ).broken_at()


draws = st.lists(st.integers(0, PARTITIONS - 1), min_size=1, max_size=40)


@settings(max_examples=20)
@given(draw=draws)
def test_whatever_the_order_was_it_is_found(draw: list[int]) -> None:
    assert sum(map(len, queues().values())) > 50
    assert len(queues()) > 1
    assert search(figures(shuffled(draw))) is None


@settings(max_examples=20)
@given(draw=draws, data=st.data())
def test_a_figure_that_was_changed_by_one_unit_in_the_last_place_is_named(draw: list[int], data: st.DataObject) -> None:
    order = shuffled(draw)
    rows = figures(order)
    changed = data.draw(st.sampled_from(order))
    rows[place(changed)] = rows[place(changed)] | {"exposure_net": rows[place(changed)]["exposure_net"] + QUANTUM}
    broken = search(rows)
    assert broken is not None
    assert place(broken[0]) == place(changed)
    assert broken[1]["exposure_net"] == rows[place(changed)]["exposure_net"] - QUANTUM


def test_the_order_of_the_record_is_by_time_and_keeps_that_of_each_partition() -> None:
    early, late = {"ingest_ts_utc": 5, "derived_seq": 0}, {"ingest_ts_utc": 9, "derived_seq": 0}
    one = [late | {"raw_partition": 1, "raw_offset": 0}, early | {"raw_partition": 1, "raw_offset": 1}]
    two = [early | {"raw_partition": 0, "raw_offset": 0}, late | {"raw_partition": 0, "raw_offset": 1}]
    found = [(each["raw_partition"], each["raw_offset"]) for each in in_order([one, two])]
    assert found == [(0, 0), (0, 1), (1, 0), (1, 1)]
