"""Exact arithmetic of money and quantities. Every operation names its context: what a thread has by itself keeps
28 digits, a contract number has up to 38.
"""

from __future__ import annotations

from decimal import Decimal

from tradetape.schemas.numbers import QUANTUM, SCALE, WIDE

ZERO = Decimal(0)
HUNDRED = Decimal(100)

BOUND = Decimal("1e20")
"""Of what has 18 decimals: decimal(38,18) leaves 20 digits before the point."""

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


def ratio(part: Decimal, whole: Decimal) -> Decimal | None:
    """``part`` / ``whole`` to 18 decimals; None of nothing, or of less."""
    return rounded(divide(part, whole)) if whole > 0 else None


def percent(part: Decimal, whole: Decimal) -> Decimal | None:
    """``part`` in percent of ``whole``, as ``ratio``."""
    return ratio(multiply(part, HUNDRED), whole)


def compact(amount: Decimal) -> Decimal:
    """The same number without trailing zeros: numbers from Avro carry 18 decimals."""
    return amount.normalize(WIDE)


def fits(amount: Decimal) -> bool:
    """Whether the contract can carry ``amount``, a figure with up to 18 decimals."""
    return amount.copy_abs() < BOUND


def sound(amount: Decimal | None) -> Decimal | None:
    """``amount``; None where the contract cannot carry it."""
    return amount if amount is not None and fits(amount) else None
