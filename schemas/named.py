"""Named records: written once in a schema (Avro allows a name once), walked as if written out everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})

_INNER = ("type", "items", "values")


def link(schema: Any, read: Callable[[str], Any]) -> Any:
    """``schema`` with each name that it does not define replaced, where it comes first, by what ``read`` defines."""
    return _link(schema, read, set())


def _link(schema: Any, read: Callable[[str], Any], known: set[str]) -> Any:
    if isinstance(schema, str):
        if schema in PRIMITIVES or schema in known:
            return schema
        return _link(read(schema), read, known)
    if isinstance(schema, list):
        return [_link(branch, read, known) for branch in schema]
    if "name" in schema and "namespace" in schema:
        known.add(f"{schema['namespace']}.{schema['name']}")
    return _map(schema, lambda inner: _link(inner, read, known))


def expand(schema: Any) -> Any:
    """``schema`` with every name written out, for code that walks it. Records must not contain themselves."""
    return _expand(schema, {})


def _expand(schema: Any, known: dict[str, Any]) -> Any:
    if isinstance(schema, str):
        return known.get(schema, schema)
    if isinstance(schema, list):
        return [_expand(branch, known) for branch in schema]
    expanded = _map(schema, lambda inner: _expand(inner, known))
    if "name" in schema and schema.get("type") in ("record", "enum", "fixed"):
        known[f"{schema['namespace']}.{schema['name']}" if "namespace" in schema else schema["name"]] = expanded
    return expanded


def _map(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """``schema`` with ``change`` made to the types inside it."""
    changed = dict(schema)
    for key in _INNER:
        if key in schema and not (key == "type" and isinstance(schema[key], str)):
            changed[key] = change(schema[key])
    if "fields" in schema:
        changed["fields"] = [{**field, "type": change(field["type"])} for field in schema["fields"]]
    return changed
