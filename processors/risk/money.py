"""Exact arithmetic of figures. Every operation names its context: the ambient one keeps 28 digits, a contract number
has up to 38.
"""

from __future__ import annotations

from decimal import Decimal

from tradetape.schemas.numbers import LIMIT, QUANTUM, SCALE, WIDE

ZERO = Decimal(0)
HUNDRED = Decimal(100)

add, subtract, multiply, divide = WIDE.add, WIDE.subtract, WIDE.multiply, WIDE.divide


class FigureOutOfRange(ArithmeticError):
    """Folding would push a figure beyond what the contract can carry."""


def signed(amount: Decimal, positive: bool) -> Decimal:
    """``amount`` or its negative."""
    return amount if positive else amount.copy_negate()


def rounded(amount: Decimal) -> Decimal:
    """18 decimals, half-even; what is far out of range anyway is left for the range check."""
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= -SCALE or amount.adjusted() >= 50:
        return amount
    return amount.quantize(QUANTUM, context=WIDE)


def compact(amount: Decimal) -> Decimal:
    """The same number without trailing zeros: numbers from Avro carry 18 decimals."""
    return amount.normalize(WIDE)


def fits(amount: Decimal) -> bool:
    """Whether the contract can carry ``amount``."""
    return amount.copy_abs() < LIMIT
