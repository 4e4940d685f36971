"""Rate limits and the room for bodies, with a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers.gateway.limits import BURST_SECONDS, Allowance, Bucket, Busy, Room

pytestmark = pytest.mark.req("P-08")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_client_may_send_a_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = Bucket(10, clock)
    bucket.charge(10 * BURST_SECONDS)
    assert bucket.wait() == 0
    bucket.charge(5)
    assert bucket.wait() == pytest.approx(0.5)
    clock.now += 0.25
    assert bucket.wait() == pytest.approx(0.25)
    clock.now += 0.25
    assert bucket.wait() == pytest.approx(0)


def test_a_long_silence_saves_no_more_than_the_burst() -> None:
    clock = Clock()
    bucket = Bucket(10, clock)
    clock.now += 1_000_000
    bucket.charge(10 * BURST_SECONDS + 10)
    assert bucket.wait() == pytest.approx(1.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 500)), max_size=60))
def test_whatever_the_sizes_and_pauses_the_rate_holds_on_average(steps: list[tuple[float, int]]) -> None:
    rate = 100
    clock = Clock()
    bucket = Bucket(rate, clock)
    taken = 0
    for pause, size in steps:
        clock.now += pause
        if bucket.wait() == 0:
            taken += size
            bucket.charge(size)
        # One charge may go beyond what was there; it is paid off before the next.
        assert taken <= rate * (BURST_SECONDS + clock.now - 100) + 500 + 1e-6


def test_an_allowance_waits_for_the_slower_of_events_and_bytes() -> None:
    clock = Clock()
    allowance = Allowance(10, 1000, clock)
    allowance.events.charge(10 * BURST_SECONDS + 10)
    allowance.bytes.charge(1000 * BURST_SECONDS + 3000)
    assert allowance.wait() == pytest.approx(3.0)


def test_bodies_share_the_room_and_give_it_back() -> None:
    room = Room(100)
    with room.share() as one, room.share() as other:
        one(60)
        with pytest.raises(Busy):
            other(41)
        other(40)
    with room.share() as again:
        again(100)
    with pytest.raises(ZeroDivisionError), room.share() as broken:
        broken(100)
        raise ZeroDivisionError
    with room.share() as last:
        last(100)
