"""Turtle's decision context in typed records: what fits the schema, and what is left of it (S0-03).

A context is testimony: a value of the wrong kind or an unknown key rejects nothing, it is kept beside the typed part.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tradetape.producers.adapters.coerce import coerce
from tradetape.schemas import numbers, times
from tradetape.schemas.fields import Field

ALIASES: Mapping[str, Mapping[str, str]] = {
    "position": {"stop": "current_stop"},
    "signal": {"trigger": "trigger_price"},
    "pyramid": {"total_contracts": "contracts_after", "old_stop": "stop_before", "new_stop": "stop_after"},
    "filters": {"all passed": "all_passed"},
}
"""Short names of the document's flow examples, by block, and the names of its context schemas."""

ALL_PASSED = "all passed"

_LONG = 2**63


class _Nothing:
    """Nothing is left."""


NOTHING = _Nothing()


def in_full(context: Mapping[str, Any]) -> dict[str, Any]:
    """``context`` with the short forms of the flow examples written out; a full name that is there stays."""
    full = dict(context)
    if isinstance(full.get("filters"), str) and full["filters"].strip().casefold() == ALL_PASSED:
        full["filters"] = {"all_passed": True}
    for block, names in ALIASES.items():
        inner = full.get(block)
        if isinstance(inner, dict):
            full[block] = {_full_name(key, inner, names): value for key, value in inner.items()}
    position = full.get("position")
    if isinstance(position, dict) and isinstance(position.get("next_pyramid"), int | Decimal | str):
        full["position"] = {**position, "next_pyramid": {"trigger_price": position["next_pyramid"]}}
    return full


def _full_name(key: str, inner: Mapping[str, Any], names: Mapping[str, str]) -> str:
    full = names.get(key, key)
    return key if full != key and full in inner else full


def split(value: Any, field: Field) -> tuple[Any, Any]:
    """``value`` of ``field`` in two: what its type takes (or None), and what is left (or NOTHING).

    What is left has the shape of ``value``. Never raises, whatever parsed JSON ``value`` is.
    """
    if value is None:
        return None, NOTHING
    if field.what == "record":
        return _record(value, field) if isinstance(value, dict) else (None, value)
    if field.what == "array":
        return _array(value, field) if isinstance(value, list) else (None, value)
    if field.what == "map":
        return _map(value, field) if isinstance(value, dict) else (None, value)
    typed = coerce(value, field)
    return (typed, NOTHING) if _fits(typed, field) else (None, value)


def _record(value: dict[str, Any], field: Field) -> tuple[Any, Any]:
    typed: dict[str, Any] = {}
    left: dict[str, Any] = {}
    for key, inner in value.items():
        part, rest = split(inner, field.fields[key]) if key in field.fields else (None, inner)
        if part is not None:
            typed[key] = part
        if rest is not NOTHING:
            left[key] = rest
    return (typed if typed or not left else None), (left or NOTHING)


def _array(value: list[Any], field: Field) -> tuple[Any, Any]:
    assert field.inner is not None
    parts = [split(inner, field.inner) for inner in value]
    if any(part is None for part, _ in parts):
        return None, value
    left = [{} if rest is NOTHING else rest for _, rest in parts]
    return [part for part, _ in parts], (left if any(left) else NOTHING)


def _map(value: dict[str, Any], field: Field) -> tuple[Any, Any]:
    assert field.inner is not None
    parts = {key: split(inner, field.inner) for key, inner in value.items()}
    typed = {key: part for key, (part, _) in parts.items() if part is not None and is_writable(key)}
    left = {key: rest for key, (_, rest) in parts.items() if key not in typed and rest is not NOTHING}
    return (typed if typed or not left else None), (left or NOTHING)


def _fits(value: Any, field: Field) -> bool:
    if field.what == "decimal":
        return is_number(value)
    if field.what == "timestamp-micros":
        try:
            times.parse(value)
        except times.TimeError:
            return False
        return True
    if field.kind == "string":
        return isinstance(value, str) and is_writable(value) and (not field.allowed or value in field.allowed)
    if field.kind == "boolean":
        return isinstance(value, bool)
    return isinstance(value, int | Decimal) and is_number(value) and value == int(value) and -_LONG <= value < _LONG


def is_number(value: Any) -> bool:
    """Whether ``value`` is a decimal of the contract."""
    try:
        numbers.read(value)
    except numbers.NumberError:
        return False
    return True


def is_writable(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
