"""Positions at average cost, exact (P-02). Base and quote amounts are Decimal.

Fees are kept by asset. One in the quote asset lowers the P&L of the account (``accounts``). One in the base asset
lowers what is held, as on an exchange's statement; the total cost stays, so the average cost rises. One in a third
asset stands apart; the first FEES assets are kept.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar, NamedTuple

import msgspec

from tradetape.processors.money import (
    ZERO,
    FigureOutOfRange,
    add,
    compact,
    divide,
    fits,
    multiply,
    rounded,
    signed,
    subtract,
)
from tradetape.processors.state import Record

FEES = 64
"""Assets of fees that one position keeps: every figure of it carries them."""


class Assets(NamedTuple):
    """The two assets of a pair; the quote is empty where the pair names none."""

    base: str
    quote: str


class Execution(Record):
    """One execution of a position: its time, its number in the order they came in, and what was done."""

    KEY: ClassVar[str] = "xe"

    ts_utc: int = 0
    number: int = 0
    buys: bool = True
    price: Decimal = ZERO
    quantity: Decimal = ZERO
    fees: list[tuple[str, Decimal]] = []

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among the executions of its position."""
        return self.ts_utc, self.number


class Cost(msgspec.Struct, array_like=True, frozen=True):
    """A position in base, its signed total cost and its realised P&L in quote (fees apart), fees by asset."""

    net_base: Decimal = ZERO
    cost_quote: Decimal = ZERO
    realised_quote: Decimal = ZERO
    fees: dict[str, Decimal] = {}
    last_price: Decimal = ZERO
    fills: int = 0


def fold(position: Cost, execution: Execution, assets: Assets) -> Cost:
    """The position after ``execution`` of a quantity of base (≥ 0) at a price in quote per base.

    Opening adds price × quantity to the total cost; closing takes the cost out in proportion and realises the
    difference to the proceeds. Each figure is rounded half-even to 18 decimals once per fold.
    Raises FigureOutOfRange; ``position`` stays as it was.
    """
    net, cost, realised = position.net_base, position.cost_quote, position.realised_quote
    price, quantity, buys = execution.price, execution.quantity, execution.buys
    held, is_long = net.copy_abs(), net > 0
    closing = min(quantity, held) if held and buys != is_long else ZERO
    if closing:
        cost_out = cost if closing == held else rounded(divide(multiply(cost, closing), held))
        proceeds = signed(multiply(price, closing), is_long)
        realised = rounded(add(realised, subtract(proceeds, cost_out)))
        cost = subtract(cost, cost_out)
        net = subtract(net, signed(closing, is_long))
    opening = subtract(quantity, closing)
    if opening:
        cost = rounded(add(cost, signed(multiply(price, opening), buys)))
        net = add(net, signed(opening, buys))
    fees = position.fees
    if execution.fees:
        fees = dict(fees)
        for asset, amount in execution.fees:
            if asset in fees or asset in assets or len(fees) < FEES:
                fees[asset] = add(fees.get(asset, ZERO), amount)
            if asset == assets.base:
                net, cost, realised = _less(amount, net, cost, realised)
    if not all(map(fits, (net, cost, realised, *fees.values()))):
        raise FigureOutOfRange
    return Cost(compact(net), compact(cost), realised, fees, price, position.fills + 1)


def _less(fee: Decimal, net: Decimal, cost: Decimal, realised: Decimal) -> tuple[Decimal, Decimal, Decimal]:
    """Base paid as a fee: it leaves without proceeds. The cost of a position that it ends is lost."""
    left = subtract(net, fee)
    if net and (not left or (left > 0) != (net > 0)):
        return left, ZERO, subtract(realised, cost)
    return left, cost, realised


def average_cost(position: Cost) -> Decimal:
    """Quote per base of the open position, rounded half-even to 18 decimals; 0 when flat or beyond ±1.7e20."""
    if not position.net_base:
        return ZERO
    average = divide(position.cost_quote, position.net_base)
    return rounded(average) if fits(average) else ZERO
