"""Positions at average cost, exact (P-02). Base and quote amounts are Decimal; fees stand apart, by asset."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from tradetape.processors.state import Position
from tradetape.schemas.numbers import LIMIT, QUANTUM, WIDE

ZERO = Decimal(0)
# Every operation names its context: the ambient one keeps 28 digits, a contract number has up to 38.
_add, _subtract, _multiply, _divide = WIDE.add, WIDE.subtract, WIDE.multiply, WIDE.divide


class FigureOutOfRange(ArithmeticError):
    """Folding would push a figure beyond what the contract can carry."""


def fold(
    position: Position, *, side: str, price: Decimal, quantity: Decimal, fees: Iterable[tuple[str, Decimal]]
) -> Position:
    """The position after an execution of ``quantity`` base (≥ 0) at ``price`` quote per base.

    Opening adds price × quantity to the total cost; closing takes the cost out in proportion and realises the
    difference to the proceeds. Each figure is rounded half-even to 18 decimals once per fold.
    Raises FigureOutOfRange and leaves ``position`` as it was.
    """
    net, cost, realised = position.net_base, position.cost_quote, position.realised_quote
    held = net.copy_abs()
    buys, is_long = side == "buy", net > 0
    closing = min(quantity, held) if held and buys != is_long else ZERO
    if closing:
        cost_out = cost if closing == held else _round(_divide(_multiply(cost, closing), held))
        proceeds = _signed(_multiply(price, closing), is_long)
        realised = _round(_add(realised, _subtract(proceeds, cost_out)))
        cost = _subtract(cost, cost_out)
        net = _subtract(net, _signed(closing, is_long))
    opening = _subtract(quantity, closing)
    if opening:
        cost = _round(_add(cost, _signed(_multiply(price, opening), buys)))
        net = _add(net, _signed(opening, buys))
    totals = dict(position.fees)
    for asset, amount in fees:
        if amount:
            totals[asset] = _add(totals.get(asset, ZERO), amount)
    if any(figure.copy_abs() >= LIMIT for figure in (net, cost, realised, *totals.values())):
        raise FigureOutOfRange
    return Position(net, cost, realised, totals, price, position.fills + 1)


def average_cost(position: Position) -> Decimal:
    """Quote per base of the open position, rounded half-even to 18 decimals; 0 when flat or beyond ±1.7e20."""
    if not position.net_base:
        return ZERO
    average = _divide(position.cost_quote, position.net_base)
    return _round(average) if average.copy_abs() < LIMIT else ZERO


def _signed(amount: Decimal, positive: bool) -> Decimal:
    return amount if positive else amount.copy_negate()


def _round(amount: Decimal) -> Decimal:
    """18 decimals, half-even; what is out of range anyway is left for the range check."""
    return amount.quantize(QUANTUM, context=WIDE) if amount.adjusted() < 40 else amount
