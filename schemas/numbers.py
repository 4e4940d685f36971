"""Decimals of the contract: decimal(38,18), finite, |x| < 1.7e20 (design, Contract)."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

SCALE = 18
LIMIT = Decimal("1.7e20")
"""Bound of |x|: decimal(38,18) has 20 digits before the point; ClickHouse refuses more for a whole insert."""

QUANTUM = Decimal(1).scaleb(-SCALE)
WIDE = Context(prec=76, rounding=ROUND_HALF_EVEN)
"""Room for the exact product of two contract decimals; quantize once, at the end."""

_TEXT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)
MAX_TEXT = 400
"""Longest text read as a number: 56 decimals are real, thousands are an attack on the parser."""


class NumberError(ValueError):
    """Not a number of the contract; ``code`` is the reason code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def read(value: object) -> tuple[Decimal, bool]:
    """``value`` (int, Decimal or decimal text) as a contract decimal, and whether it had to be rounded.

    Raises NumberError with code ``number_invalid`` (not a finite number) or ``number_out_of_range``.
    Floats are refused: a caller that has one must say how it wants it read (see ``from_float_text``).
    """
    if isinstance(value, Decimal):
        return fit(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise NumberError("number_invalid", f"{type(value).__name__} is not a number")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise NumberError("number_invalid", f"{len(value)} characters are not a number")
    if isinstance(value, str) and not _TEXT.fullmatch(value):
        raise NumberError("number_invalid", f"{value[:80]!r} is not a finite number")
    return fit(Decimal(value))


def fit(number: Decimal) -> tuple[Decimal, bool]:
    """``number`` rounded half-even to 18 decimals, and whether that changed it. Raises as ``read``."""
    if not number.is_finite():
        raise NumberError("number_invalid", f"{number} is not finite")
    magnitude = number.adjusted()
    if magnitude > 20 or (magnitude == 20 and number.copy_abs() >= LIMIT):
        raise NumberError("number_out_of_range", f"{number:.6E} is outside ±1.7e20")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -SCALE:
        rounded = number.quantize(QUANTUM, context=WIDE)
        return rounded, rounded != number
    return number, False


def from_float_text(text: str) -> Decimal:
    """Decimal text that a program wrote by expanding a binary float, read back as the number it stood for.

    ``Decimal(0.1113)`` prints 56 decimals; the shortest text that gives the same float is 0.1113. Text that is
    not the exact expansion of a float is read as it stands. Raises NumberError as ``read``.
    """
    if len(text) > MAX_TEXT:
        raise NumberError("number_invalid", f"{len(text)} characters are not a number")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise NumberError("number_invalid", f"{text[:80]!r} is not a number") from None
    if not number.is_finite():
        raise NumberError("number_invalid", f"{number} is not finite")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -SCALE:
        shortest = float(number)
        if Decimal(shortest) == number:
            return Decimal(repr(shortest))
    return number


def text(number: Decimal) -> str:
    """Plain decimal text, no exponent, no trailing zeros: the form of decimals in JSON."""
    plain = format(number, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in ("-0", "") else plain
