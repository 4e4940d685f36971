"""New, repeated and missing records, however the stream is cut and re-sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.sinks.ledger import BadKey, Hole, Identity, Position, check_start, parse_key, sift


def offsets(*numbers: int) -> list[Identity]:
    return [Identity(0, number, 0) for number in numbers]


def test_keys() -> None:
    assert parse_key(b"3:120:2") == Identity(3, 120, 2)
    for bad in (None, b"", b"3:120", b"3:120:2:1", b"a:1:0", b"-1:1:0", b"1:1: 0"):
        with pytest.raises(BadKey):
            parse_key(bad)


@pytest.mark.req("P-03")
def test_new_ones_and_repeats() -> None:
    sifted = sift({0: Position(4, 0)}, offsets(3, 4, 5, 6, 5, 6, 7), contiguous=True)
    assert list(sifted.fresh) == [2, 3, 6]
    assert sifted.repeats == 4
    assert sifted.last == {0: Position(7, 0)}


@pytest.mark.req("P-03")
def test_a_hole_names_what_is_missing() -> None:
    with pytest.raises(Hole) as caught:
        sift({2: Position(4, 0)}, [Identity(2, 5, 0), Identity(2, 7, 0)], contiguous=True)
    assert (caught.value.partition, caught.value.expected, caught.value.found) == (2, 6, 7)


def test_derived_records_follow_their_event() -> None:
    batch = [Identity(0, 5, 0), Identity(0, 5, 1), Identity(0, 6, 0)]
    assert list(sift({0: Position(4, 0)}, batch, contiguous=True).fresh) == [0, 1, 2]
    with pytest.raises(Hole):
        sift({0: Position(4, 0)}, [Identity(0, 5, 1)], contiguous=True)


def test_outputs_only_rise() -> None:
    batch = [Identity(0, 5, 1), Identity(0, 9, 1), Identity(0, 9, 2), Identity(0, 9, 1), Identity(1, 2, 1)]
    sifted = sift({}, batch, contiguous=False)
    assert list(sifted.fresh) == [0, 1, 2, 4]
    assert sifted.last == {0: Position(9, 2), 1: Position(2, 1)}


def test_the_start_joins_what_is_stored() -> None:
    check_start(0, None, Identity(0, 0, 0))
    check_start(0, Position(9, 0), Identity(0, 10, 0))
    check_start(0, Position(9, 0), Identity(0, 3, 0))
    for mark, first in ((None, 1), (Position(9, 0), 11)):
        with pytest.raises(Hole):
            check_start(0, mark, Identity(0, first, 0))


@pytest.mark.req("P-03", "P-06")
@given(st.integers(1, 60), st.lists(st.tuples(st.integers(0, 59), st.integers(0, 20)), max_size=8), st.data())
def test_every_offset_once_however_often_stretches_are_sent_again(
    count: int, resent: list[tuple[int, int]], data: st.DataObject
) -> None:
    # A crash sends a stretch again that ends where the topic ended.
    stream: list[int] = []
    top = 0
    for back, forth in resent:
        start = max(0, top - back)
        stream += range(start, min(count, top + forth))
        top = max(top, min(count, top + forth))
    stream += range(top, count)
    taken: list[int] = []
    last: dict[int, Position] = {0: Position(-1, 0)}
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        batch, stream = stream[:cut], stream[cut:]
        sifted = sift(last, offsets(*batch), contiguous=True)
        taken += [batch[index] for index in sifted.fresh]
        last = dict(sifted.last)
    assert taken == list(range(count))
