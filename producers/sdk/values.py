"""Values of a bot's own objects as its native store would hold them: JSON with exact numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from tradetape.schemas.errors import TradetapeError

Exact = Decimal | int | str | float
"""A number; a float counts as the shortest decimal that stands for it, which is what JSON would hold."""

MAX_DEPTH = 64


def exact(value: Exact) -> Decimal:
    """``value`` as a Decimal. Raises TradetapeError where it is no finite number."""
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except (ArithmeticError, ValueError, TypeError):
        raise TradetapeError(f"{value!r} is not a number", hint="pass Decimal, int, float or decimal text") from None
    if not number.is_finite():
        raise TradetapeError(f"{value!r} is not a finite number")
    return number


def plain(value: Any, path: str = "value", depth: int = 0) -> Any:
    """``value`` in the values of parsed JSON. Raises TradetapeError, naming the place, for what JSON cannot hold."""
    if depth > MAX_DEPTH:
        raise TradetapeError(f"{path} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | int | Decimal):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(inner, f"{path}.{k}", depth + 1) for k, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner, f"{path}[{index}]", depth + 1) for index, inner in enumerate(value)]
    raise TradetapeError(f"{path} is a {type(value).__name__}", hint="pass text, numbers, times, lists or dicts")
