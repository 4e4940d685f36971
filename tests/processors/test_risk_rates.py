"""Windows of event time: they slide, bounded, whatever the order (P-02)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.processors.clock import MINUTE
from tradetape.processors.risk.rates import BUCKETS, Window, count, counts

BUCKET = MINUTE // BUCKETS
START = 1_700_000_000_000_000 // MINUTE * MINUTE


@pytest.mark.req("P-02")
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), max_size=60), st.integers(0, 30))
def test_a_window_holds_what_fell_into_its_buckets(times: list[tuple[int, int]], later: int) -> None:
    window, newest = Window(), 0
    for bucket, kind in times:
        count(window, MINUTE, kind, START + bucket * BUCKET + 5)
        newest = max(newest, bucket)
    at = newest + later
    expected = tuple(sum(k == kind and b > at - BUCKETS for b, k in times) for kind in range(3))
    if times:
        assert counts(window, MINUTE, START + at * BUCKET) == expected
    assert len(window.counters) <= 3 * BUCKETS


def test_an_event_older_than_the_window_is_not_counted_in_it() -> None:
    window = Window()
    count(window, MINUTE, 0, START + MINUTE)
    count(window, MINUTE, 0, START)
    assert counts(window, MINUTE, START + MINUTE) == (1, 0, 0)
    count(window, MINUTE, 0, START + BUCKET)
    assert counts(window, MINUTE, START + MINUTE) == (2, 0, 0)
