"""Realised P&L first in, first out: the lots of an open position, oldest first (P-02).

A position keeps LOTS of them; beyond that the two oldest become one, at their common cost: what is realised on that
one is then their average. Lots live in a ring, a small record each, so that an execution rewrites one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import ClassVar

from tradetape.processors.money import ZERO, add, compact, divide, multiply, rounded, signed, subtract
from tradetape.processors.risk.positions import Assets, Execution
from tradetape.processors.state import Record

LOTS = 64


class Lot(Record):
    """A quantity of base (> 0) and its total cost in quote, negative where it was sold."""

    KEY: ClassVar[str] = "xl"

    quantity: Decimal = ZERO
    cost: Decimal = ZERO


class Lots:
    """The lots of one position during a fold: ``count`` of them from slot ``first`` on; ``load`` reads a slot.

    What was changed stands in ``changed``, by slot; nothing is written here.
    """

    def __init__(self, first: int, count: int, load: Callable[[int], Lot]) -> None:
        self.first, self.count = first, count
        self.changed: dict[int, Lot] = {}
        self._load = load

    def slot(self, index: int) -> int:
        """The slot of the lot at ``index``, 0 the oldest, -1 the newest."""
        return (self.first + (index if index >= 0 else self.count + index)) % LOTS

    def __getitem__(self, index: int) -> Lot:
        slot = self.slot(index)
        return self.changed.get(slot) or self._load(slot)

    def __setitem__(self, index: int, lot: Lot) -> None:
        self.changed[self.slot(index)] = lot

    def __iter__(self) -> Iterator[Lot]:
        return (self[index] for index in range(self.count))

    def drop_oldest(self) -> None:
        self.first = (self.first + 1) % LOTS
        self.count -= 1

    def append(self, lot: Lot) -> None:
        """Add the newest lot; the two oldest become one where there is no room."""
        if self.count == LOTS:
            merged = Lot(add(self[0].quantity, self[1].quantity), add(self[0].cost, self[1].cost))
            self.drop_oldest()
            self[0] = merged
        self.count += 1
        self[-1] = lot


def fold(lots: Lots, execution: Execution, *, is_long: bool, assets: Assets) -> Decimal:
    """Take ``execution`` into ``lots``; returns what it realised in quote. ``is_long`` says how the lots are held."""
    price, left, buys = execution.price, execution.quantity, execution.buys
    realised = ZERO
    while left and lots.count and buys != is_long:
        oldest = lots[0]
        closing, cost_out = oldest.quantity, oldest.cost
        if closing <= left:
            lots.drop_oldest()
        else:
            closing, cost_out = left, rounded(divide(multiply(oldest.cost, left), oldest.quantity))
            lots[0] = Lot(subtract(oldest.quantity, closing), subtract(oldest.cost, cost_out))
        realised = add(realised, subtract(signed(multiply(price, closing), is_long), cost_out))
        left = subtract(left, closing)
    if left:
        is_long = buys
        lots.append(Lot(compact(left), compact(rounded(signed(multiply(price, left), buys)))))
    for asset, amount in execution.fees:
        if asset == assets.base and amount:
            lost, is_long = _pay(lots, amount, is_long)
            realised = subtract(realised, lost)
    return rounded(realised)


def _pay(lots: Lots, fee: Decimal, is_long: bool) -> tuple[Decimal, bool]:
    """Take a fee in base out of the newest lots, whose cost stays: the cost that is lost, and how lots are held now."""
    owed = fee.copy_abs()
    if lots.count and is_long == (fee < 0):
        lots[-1] = Lot(add(lots[-1].quantity, owed), lots[-1].cost)
        return ZERO, is_long
    cost = ZERO
    while lots.count and lots[-1].quantity <= owed:
        owed = subtract(owed, lots[-1].quantity)
        cost = add(cost, lots[-1].cost)
        lots.count -= 1
    if lots.count:
        lots[-1] = Lot(subtract(lots[-1].quantity, owed), add(lots[-1].cost, cost))
        return ZERO, is_long
    if owed:
        lots.append(Lot(owed, ZERO))
        return cost, fee < 0
    return cost, is_long
