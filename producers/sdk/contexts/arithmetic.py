"""What the builders compute with: exact, rounded half-up, written out."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tradetape.producers.sdk.values import Exact, exact
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.numbers import WIDE, text

Context = dict[str, Any]

PLACES = 2
PERIOD = 20
STOP_MULTIPLIER = Decimal(2)
PYRAMID_INTERVAL = Decimal("0.5")
MAX_UNITS = 4


def sign_of(direction: str) -> int:
    """1 for LONG, −1 for SHORT. Raises TradetapeError for anything else."""
    try:
        return {"LONG": 1, "SHORT": -1}[direction]
    except KeyError:
        raise TradetapeError(f"direction {direction!r} is neither LONG nor SHORT") from None


def rounded(value: Decimal, places: int) -> Decimal:
    """Rounded half-up."""
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, context=WIDE)


def percent(part: Decimal, whole: Decimal) -> Decimal | None:
    """``part`` of ``whole`` in percent, to one decimal; None of nothing."""
    return rounded(WIDE.divide(100 * part, whole), 1) if whole else None


def maybe(value: Exact | None) -> Decimal | None:
    """``value`` exact, None for none."""
    return None if value is None else exact(value)


def present(context: Context) -> Context:
    """Without the keys that hold nothing."""
    return {name: value for name, value in context.items() if value is not None}


def written(start: Decimal, sign: int, factor: Decimal, n: Decimal, *, places: int) -> str:
    """A level and how it was computed, as text."""
    result = start + sign * factor * n
    return f"{text(start)} {'+' if sign > 0 else '-'} ({text(factor)} × {text(n)}) = {text(rounded(result, places))}"
