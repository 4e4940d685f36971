"""Native values in the types of a schema: what can be read as the type asked for is; the rest is left as it is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tradetape.producers.adapters.native import moment, parse_json
from tradetape.schemas import numbers
from tradetape.schemas.fields import Field

_NOTHING = frozenset({"", "null", "none"})
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def coerce(value: Any, field: Field) -> Any:
    """``value`` for ``field``: numbers from text, text from numbers, times from any native form, JSON text
    opened where a record, list or map belongs, enumerations in the schema's spelling. Never raises.
    """
    value = _typed(value, field)
    if field.allowed and isinstance(value, str):
        return field.spellings.get(value.strip().casefold(), value)
    return value


def _typed(value: Any, field: Field) -> Any:
    what = field.what
    if what == "string":
        return value if isinstance(value, str) else _text(value)
    if what == "json":
        return _opened(value)
    if isinstance(value, str) and value.strip().casefold() in _NOTHING:
        return None
    if what == "timestamp-micros":
        return moment(value)
    if what == "boolean":
        return _boolean(value)
    if what in ("long", "int"):
        return _whole(value)
    if what in ("record", "array", "map"):
        return _inner(_opened(value), field)
    return value


def _inner(value: Any, field: Field) -> Any:
    if field.what == "array" and field.inner is not None and isinstance(value, list):
        return [_typed(inner, field.inner) for inner in value]
    if field.what == "map" and field.inner is not None and isinstance(value, dict):
        return {key: _typed(inner, field.inner) for key, inner in value.items()}
    if field.what == "record" and isinstance(value, dict):
        fields = field.fields
        return {key: coerce(inner, fields[key]) if key in fields else inner for key, inner in value.items()}
    return value


def _opened(value: Any) -> Any:
    """JSON text of an object or a list as what it says."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return parse_json(value)
        except ValueError:
            return value
    return value


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() < numbers.MAX_TEXT else value
    if isinstance(value, Decimal):
        return numbers.text(value) if value.is_finite() and abs(value.adjusted()) < numbers.MAX_TEXT else str(value)
    if isinstance(value, dict | list):
        try:
            return json.dumps(value, default=str, ensure_ascii=False)
        except RecursionError:
            return value
    return value


def _boolean(value: Any) -> Any:
    if isinstance(value, str):
        return _BOOLEANS.get(value.strip().casefold(), value)
    if isinstance(value, int | Decimal) and value in (0, 1):
        return bool(value)
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        try:
            number, _ = numbers.read(value)
        except numbers.NumberError:
            return value
        return int(number) if number == number.to_integral_value() else value
    return value
