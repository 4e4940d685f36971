"""Small moves are left out, and counted."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers.sdk.throttle import PriceThrottle
from tradetape.schemas.errors import TradetapeError


def offer(throttle: PriceThrottle, key: str, price: Decimal) -> int | None:
    """What the throttle says of ``price``, which is kept where it passes."""
    left_out = throttle.offer(key, price)
    if left_out is not None:
        throttle.keep(key, price)
    return left_out


@pytest.mark.req("S1-05")
def test_only_moves_above_a_tenth_of_a_percent_pass_and_the_rest_is_counted() -> None:
    throttle = PriceThrottle()
    offered = ["100", "100.1", "99.9", "100.11", "100.2", "100.5"]
    assert [offer(throttle, "p", Decimal(price)) for price in offered] == [0, None, None, 2, None, 1]
    assert throttle.suppressed == 3


@pytest.mark.req("S1-05")
def test_keys_do_not_share_and_a_forgotten_key_begins_anew() -> None:
    throttle = PriceThrottle(Decimal("0.5"))
    assert offer(throttle, "a", Decimal(1)) == offer(throttle, "b", Decimal(1)) == 0
    assert offer(throttle, "a", Decimal(1)) is None
    assert (throttle.left_out("a"), throttle.left_out("b")) == (1, 0)
    throttle.forget("a")
    throttle.forget("a")
    assert throttle.left_out("a") == 0
    assert offer(throttle, "a", Decimal(1)) == 0


@pytest.mark.req("S1-05")
def test_a_price_that_was_not_kept_is_judged_anew() -> None:
    throttle = PriceThrottle()
    assert [throttle.offer("p", Decimal(100)) for _ in range(2)] == [0, 0]
    throttle.keep("p", Decimal(100))
    assert throttle.offer("p", Decimal("100.05")) is None
    assert [throttle.offer("p", Decimal(101)) for _ in range(2)] == [1, 1]
    throttle.keep("p", Decimal(101))
    assert throttle.offer("p", Decimal(103)) == 0


@pytest.mark.req("S1-05")
@given(st.lists(st.decimals("-50", "50", places=2)), st.decimals("0", "1", places=3))
def test_nothing_is_uncounted_and_no_large_move_left_out(prices: list[Decimal], change: Decimal) -> None:
    throttle = PriceThrottle(change)
    last: Decimal | None = None
    counted = 0
    for price in prices:
        left_out = offer(throttle, "p", price)
        if left_out is None:
            assert last is not None and abs(price - last) <= change * abs(last)
        else:
            counted += left_out + 1
            assert last is None or abs(price - last) > change * abs(last) or not last
            last = price
    assert counted + throttle.left_out("p") == len(prices)


def test_a_negative_change_is_refused() -> None:
    with pytest.raises(TradetapeError, match=r"0\.001"):
        PriceThrottle(Decimal("-0.1"))
