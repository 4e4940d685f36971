"""Positions at average cost: identities that hold for every sequence of executions (P-02)."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.processors.positions import FigureOutOfRange, average_cost, fold
from tradetape.processors.state import Position

NUMBERS = st.decimals("0.000001", "100000", places=6)
FILLS = st.lists(st.tuples(st.sampled_from(["buy", "sell"]), NUMBERS, NUMBERS), max_size=30)


def fold_all(fills: list[tuple[str, Decimal, Decimal]]) -> Position:
    position = Position()
    for side, price, quantity in fills:
        position = fold(position, side=side, price=price, quantity=quantity, fees=[("USDT", Decimal("0.1"))])
    return position


@pytest.mark.req("P-02")
@given(FILLS)
def test_net_is_the_signed_sum_and_cash_flow_is_realised_less_cost(fills: list[tuple[str, Decimal, Decimal]]) -> None:
    position = fold_all(fills)
    with localcontext() as context:
        context.prec = 80
        sign = {"buy": 1, "sell": -1}
        assert position.net_base == sum((sign[s] * q for s, _, q in fills), Decimal(0))
        cash = -sum((sign[s] * p * q for s, p, q in fills), Decimal(0))
        assert position.realised_quote - position.cost_quote == cash
        assert position.fees.get("USDT", 0) == len(fills) * Decimal("0.1")
    assert (position.cost_quote == 0) == (position.net_base == 0)


@given(FILLS)
def test_the_long_and_the_short_of_it_mirror(fills: list[tuple[str, Decimal, Decimal]]) -> None:
    other = {"buy": "sell", "sell": "buy"}
    here, there = fold_all(fills), fold_all([(other[s], p, q) for s, p, q in fills])
    assert (there.net_base, there.cost_quote, there.realised_quote) == (
        -here.net_base,
        -here.cost_quote,
        -here.realised_quote,
    )


def test_a_flip_closes_then_opens_at_the_new_price() -> None:
    position = fold_all([("buy", Decimal(2), Decimal(10)), ("sell", Decimal(3), Decimal(15))])
    assert (position.net_base, position.realised_quote, average_cost(position)) == (-5, 10, 3)


def test_numbers_that_need_38_digits_stay_exact() -> None:
    position = fold_all([("buy", Decimal(1), Decimal("123456789012345678.000000000000000001"))] * 2)
    assert position.net_base == Decimal("246913578024691356.000000000000000002")


def test_a_figure_out_of_range_leaves_the_position_as_it_was() -> None:
    before = fold_all([("buy", Decimal(1), Decimal(1))])
    with pytest.raises(FigureOutOfRange):
        fold(before, side="buy", price=Decimal("1e15"), quantity=Decimal("1e15"), fees=[])
    assert before.net_base == 1
