"""Native values in the types of a schema: what can be read as the type asked for is; the rest is left as it is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tradetape.producers.adapters.native import moment, parse_json
from tradetape.schemas import numbers
from tradetape.schemas.catalogue import Schema, core_type, kind, logical

_NOTHING = frozenset({"", "null", "none"})
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def coerce(value: Any, declared: Schema) -> Any:
    """``value`` for the field ``declared``: numbers from text, text from numbers, times from any native form, JSON text
    opened where a record, list or map belongs, enumerations in the schema's spelling. Never raises.
    """
    value = _typed(value, declared["type"])
    if "enum" in declared and isinstance(value, str):
        folded = value.strip().casefold()
        return next((allowed for allowed in declared["enum"] if allowed.casefold() == folded), value)
    return value


def _typed(value: Any, avro_type: Any) -> Any:
    core = core_type(avro_type)
    wanted, meaning = kind(avro_type), logical(avro_type)
    is_text = wanted == "string" and meaning != "timestamp-micros"
    if isinstance(value, str) and not is_text and value.strip().casefold() in _NOTHING:
        return None
    if meaning == "timestamp-micros":
        return moment(value)
    if meaning == "json":
        return _opened(value)
    if wanted == "string":
        return _text(value)
    if wanted == "boolean":
        return _boolean(value)
    if wanted in ("long", "int"):
        return _whole(value)
    if wanted in ("record", "array", "map"):
        return _inner(_opened(value), core)
    return value


def _inner(value: Any, core: Any) -> Any:
    if isinstance(value, list) and "items" in core:
        return [_typed(inner, core["items"]) for inner in value]
    if isinstance(value, dict) and "values" in core:
        return {key: _typed(inner, core["values"]) for key, inner in value.items()}
    if isinstance(value, dict) and "fields" in core:
        fields = {field["name"]: field for field in core["fields"]}
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
