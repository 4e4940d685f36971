"""Native forms of values: times, JSON, ids, as the five systems write them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from tradetape.schemas import times

_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
"""Numbers below the first are seconds, then milliseconds, then microseconds: each up to beyond the year 5000."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def moment(value: Any) -> Any:
    """``value`` as the contract's ISO-8601 UTC text where it is a time, else ``value`` itself.

    Takes ISO-8601 (without offset: UTC), aware and naive datetimes, and numbers (or their text) in seconds,
    milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
    """
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            value = Decimal(value)
        else:
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                return value
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        try:
            return times.text(times.to_micros(aware))
        except OverflowError:
            return value.isoformat()
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        micros = _micros(value)
        if micros is not None and times.EARLIEST <= micros < times.LATEST:
            return times.text(micros)
    return value


def _micros(value: int | Decimal) -> int | None:
    try:
        size: Decimal = abs(Decimal(value))
        for below, factor in _UNITS:
            if size < below:
                return int(value * factor)
        return int(value) // 1000 if size < 10**20 else None
    except (ArithmeticError, ValueError):
        return None


def parse_json(text: str | bytes) -> Any:
    """JSON with exact numbers (Decimal); NaN and infinities become their text. Raises ValueError."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=str)
    except (RecursionError, InvalidOperation) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def at(document: Any, path: str) -> Any:
    """The value at a dotted ``path``, None where there is none."""
    for part in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(part)
    return document
