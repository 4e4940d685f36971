"""The merge of Quantum's streams and its rate limits, without a server."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers.adapters.quantum_entries import FLOW, EntryId
from tradetape.producers.connectors.quantum.limits import RateLimits
from tradetape.producers.connectors.quantum.merge import Cursor, Item, Stream, next_stream

TICKS = "market.tick.price"


def fill(stream: Stream, ids: list[EntryId]) -> None:
    for entry_id in ids:
        stream.read = Cursor(entry_id, 0)
        stream.items.append(Item(entry_id, (), None, stream.read))


IDS = st.lists(st.builds(EntryId, st.integers(1, 6), st.integers(0, 3)), unique=True, max_size=8).map(sorted)


@pytest.mark.req("S4-01")
@given(st.lists(IDS, min_size=1, max_size=4), st.integers(1, 4))
def test_streams_read_piece_by_piece_come_as_one_sequence(contents: list[list[EntryId]], count: int) -> None:
    streams = [Stream(name) for name in FLOW[: len(contents)]]
    left = {stream.name: list(ids) for stream, ids in zip(streams, contents, strict=True)}
    came = []
    while True:
        for stream in streams:
            if not stream.items and stream.more:
                part, left[stream.name] = left[stream.name][:count], left[stream.name][count:]
                fill(stream, part)
                stream.more, stream.read_at_ms = len(part) == count, 1000
        stream = next_stream(streams, 100)
        if stream is None:
            break
        came.append(stream.key(stream.let_go().entry_id))
    assert len(came) == sum(map(len, contents))
    assert came == sorted(came)


@pytest.mark.req("S4-01")
def test_a_millisecond_goes_by_the_documents_flow() -> None:
    filled, submitted = Stream("trades.order.filled"), Stream("trades.order.submitted")
    for stream in (filled, submitted):
        fill(stream, [EntryId(5, 0), EntryId(5, 1)])
        stream.more, stream.read_at_ms = False, 1000
    order = []
    while (stream := next_stream([filled, submitted], 100)) is not None:
        order.append((stream.name, stream.let_go().entry_id.number))
    assert order == [(submitted.name, 0), (submitted.name, 1), (filled.name, 0), (filled.name, 1)]


@pytest.mark.req("S4-01")
def test_nothing_goes_while_something_earlier_may_still_come() -> None:
    young, unread = Stream("position.opened"), Stream("market.candle.new")
    fill(young, [EntryId(950, 0)])
    young.more, young.read_at_ms = False, 1000
    assert next_stream([young, unread], 0) is None, "the other stream was not read"
    unread.more, unread.read_at_ms = False, 1000
    assert next_stream([young, unread], 100) is None, "too young"
    assert next_stream([young, unread], 100, anything=True) is young
    assert next_stream([young, unread], 50) is young


ENTRIES = st.lists(st.tuples(st.integers(0, 4_000), st.sampled_from(["A", "B"])), max_size=120).map(sorted)


@pytest.mark.req("S4-03")
@given(ENTRIES, st.sets(st.integers(0, 119), max_size=3))
def test_every_entry_is_within_its_limit_or_counted_whenever_it_is_read(
    entries: list[tuple[int, str]], restarts: set[int]
) -> None:
    limits = RateLimits({TICKS: 3})
    passed: Counter[tuple[str, int]] = Counter()
    dropped: Counter[tuple[str, int]] = Counter()
    for number, (ms, symbol) in enumerate(entries):
        if number in restarts:
            saved = json.loads(json.dumps(limits.saved()))
            limits = RateLimits({TICKS: 3})
            limits.restore(saved)
        entry_id = EntryId(ms, number)
        passed[symbol, ms // 1000] += limits.has_room(TICKS, symbol, entry_id)
        for excess in limits.take(TICKS, symbol, entry_id):
            dropped[excess.symbol, excess.first.ms // 1000] += excess.dropped
    for excess in limits.close(TICKS, 5):
        dropped[excess.symbol, excess.first.ms // 1000] += excess.dropped
    there = Counter((symbol, ms // 1000) for ms, symbol in entries)
    assert {key: count for key, count in passed.items() if count} == {key: min(3, n) for key, n in there.items()}
    assert dropped == {key: n - 3 for key, n in there.items() if n > 3}
    assert list(limits.streams()) == []


@pytest.mark.req("S4-03")
def test_other_types_have_no_limit_and_spellings_share_one() -> None:
    limits = RateLimits()
    assert limits.limit_of("trades.order.filled") is None
    assert limits.limit_of("MarketTickPrice") == 10
    assert all(limits.has_room("trades.order.filled", "A", EntryId(1, number)) for number in range(50))
