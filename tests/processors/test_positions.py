"""Positions at average cost and first in, first out: identities that hold for every sequence of executions (P-02)."""

from __future__ import annotations

from collections import deque
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.processors.money import FigureOutOfRange
from tradetape.processors.risk import lots
from tradetape.processors.risk.lots import LOTS, Lot, Lots
from tradetape.processors.risk.positions import Assets, Cost, Execution, average_cost, fold
from tradetape.schemas.numbers import WIDE

ASSETS = Assets("ONE", "USDT")
NUMBERS = st.decimals("0.000001", "100000", places=6)
Fill = tuple[str, Decimal, Decimal]
FILLS = st.lists(st.tuples(st.sampled_from(["buy", "sell"]), NUMBERS, NUMBERS), max_size=30)
BASE_FEES = st.lists(st.decimals("-0.001", "0.001", places=6), min_size=30, max_size=30)
SIGN = {"buy": 1, "sell": -1}
ROUNDING = Fraction(1, 10**15)


def execution(fill: Fill, *fees: tuple[str, Decimal]) -> Execution:
    side, price, quantity = fill
    return Execution(0, 0, side == "buy", price, quantity, list(fees))


def fold_all(fills: list[Fill], fee: tuple[str, Decimal] = ("USDT", Decimal("0.1"))) -> Cost:
    position = Cost()
    for fill in fills:
        position = fold(position, execution(fill, fee), ASSETS)
    return position


def first_in_first_out(fills: list[Fill]) -> tuple[Fraction, list[tuple[Fraction, Fraction]]]:
    """Realised P&L and the lots that are left (signed quantity, price), in fractions."""
    realised, held = Fraction(0), deque[tuple[Fraction, Fraction]]()
    for side, price, quantity in fills:
        left = Fraction(quantity) * SIGN[side]
        while left and held and (held[0][0] > 0) != (left > 0):
            lot, cost = held.popleft()
            closing = min(abs(left), abs(lot)) * (1 if lot > 0 else -1)
            realised += (Fraction(price) - cost) * closing
            left += closing
            if lot != closing:
                held.appendleft((lot - closing, cost))
        if left:
            held.append((left, Fraction(price)))
    return realised, list(held)


def fold_lots(executions: list[Execution]) -> tuple[Decimal, Lots, Cost]:
    held, position, realised = Lots(0, 0, [Lot()].__getitem__), Cost(), Decimal(0)
    for each in executions:
        realised = WIDE.add(realised, lots.fold(held, each, is_long=position.net_base > 0, assets=ASSETS))
        position = fold(position, each, ASSETS)
    return realised, held, position


@pytest.mark.req("P-02")
@given(FILLS)
def test_net_is_the_signed_sum_and_cash_flow_is_realised_less_cost(fills: list[Fill]) -> None:
    position = fold_all(fills)
    with localcontext() as context:
        context.prec = 80
        assert position.net_base == sum((SIGN[s] * q for s, _, q in fills), Decimal(0))
        cash = -sum((SIGN[s] * p * q for s, p, q in fills), Decimal(0))
        assert position.realised_quote - position.cost_quote == cash
        assert position.fees.get("USDT", 0) == len(fills) * Decimal("0.1")
    assert (position.cost_quote == 0) == (position.net_base == 0)


@given(FILLS)
def test_the_long_and_the_short_of_it_mirror(fills: list[Fill]) -> None:
    other = {"buy": "sell", "sell": "buy"}
    here, there = fold_all(fills), fold_all([(other[s], p, q) for s, p, q in fills])
    assert (there.net_base, there.cost_quote, there.realised_quote) == (
        here.net_base.copy_negate(),
        here.cost_quote.copy_negate(),
        here.realised_quote.copy_negate(),
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
        fold(before, execution(("buy", Decimal("1e15"), Decimal("1e15"))), ASSETS)
    assert before.net_base == 1


@pytest.mark.req("P-02")
@given(FILLS)
def test_lots_realise_what_an_independent_fold_in_fractions_does(fills: list[Fill]) -> None:
    realised, held, position = fold_lots([execution(fill) for fill in fills])
    expected, left = first_in_first_out(fills)
    assert abs(Fraction(realised) - expected) < ROUNDING
    assert sum(lot.quantity for lot in held) == abs(position.net_base)
    assert [lot.quantity for lot in held] == [abs(quantity) for quantity, _ in left]
    cash = -sum((SIGN[s] * Fraction(p) * Fraction(q) for s, p, q in fills), Fraction(0))
    assert abs(Fraction(realised) - sum((Fraction(lot.cost) for lot in held), Fraction(0)) - cash) < ROUNDING


@pytest.mark.req("P-02")
@given(FILLS, BASE_FEES)
def test_a_fee_in_base_lowers_what_is_held_and_no_cash_flows(fills: list[Fill], fees: list[Decimal]) -> None:
    realised, held, position = fold_lots(
        [execution(fill, ("ONE", fee)) for fill, fee in zip(fills, fees, strict=False)]
    )
    paid = sum(fees[: len(fills)], Decimal(0))
    assert position.net_base == sum((SIGN[s] * q for s, _, q in fills), Decimal(0)) - paid
    assert sum(lot.quantity for lot in held) == abs(position.net_base)
    cash = -sum((SIGN[s] * Fraction(p) * Fraction(q) for s, p, q in fills), Fraction(0))
    assert abs(Fraction(position.realised_quote) - Fraction(position.cost_quote) - cash) < ROUNDING
    assert abs(Fraction(realised) - sum((Fraction(lot.cost) for lot in held), Fraction(0)) - cash) < ROUNDING


@pytest.mark.req("P-02")
@pytest.mark.parametrize(
    ("fills", "fee", "net", "cost", "realised"),
    [
        ([("buy", 2, 10)], "1", 9, 20, 0),
        ([("sell", 2, 10)], "1", -11, -20, 0),
        ([("buy", 2, 1)], "1", 0, 0, -2),
        ([("buy", 2, 1)], "3", -2, 0, -2),
        ([("buy", 2, 10)], "-1", 11, 20, 0),
    ],
    ids=["long", "short", "flat", "turned over", "rebate"],
)
def test_a_fee_in_base_by_hand(fills: list[tuple[str, int, int]], fee: str, net: int, cost: int, realised: int) -> None:
    side, price, quantity = fills[0]
    paid = ("ONE", Decimal(fee))
    position = fold(Cost(), execution((side, Decimal(price), Decimal(quantity)), paid), ASSETS)
    assert (position.net_base, position.cost_quote, position.realised_quote) == (net, cost, realised)
    assert position.fees == {"ONE": Decimal(fee)}


@pytest.mark.req("P-02")
def test_lots_are_bounded_and_the_oldest_are_merged() -> None:
    buys = [("buy", Decimal(price), Decimal(1)) for price in range(1, LOTS + 3)]
    _, held, _ = fold_lots([execution(fill) for fill in buys])
    assert held.count == LOTS
    assert held[0] == Lot(Decimal(3), Decimal(1 + 2 + 3))
    assert [lot.quantity for lot in held][1:] == [1] * (LOTS - 1)
    assert sum(lot.cost for lot in held) == sum(price for _, price, _ in buys)
