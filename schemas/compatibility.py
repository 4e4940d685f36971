"""What the registry lets through and must not: changes of logical types.

Under FULL_TRANSITIVE a registry accepts another scale of a decimal and millis instead of micros (measured): readers
of the old schema would then read every stored number wrongly, without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tradetape.schemas import named
from tradetape.schemas.catalogue import core_type

_LOGICAL = ("logicalType", "precision", "scale")


def logical_changes(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Every place where both schemas have a field whose logical type differs."""
    return _logical_changes(named.expand(before), named.expand(after), path)


def _logical_changes(before: Any, after: Any, path: str) -> Iterator[str]:
    before, after = core_type(before), core_type(after)
    if isinstance(before, dict) and isinstance(after, dict):
        was, now = (tuple(schema.get(key) for key in _LOGICAL) for schema in (before, after))
        if was != now:
            yield f"{path or 'record'}: {_describe(before)} becomes {_describe(after)}"
        for key in ("items", "values", "type"):
            if key in before and key in after:
                yield from _logical_changes(before[key], after[key], path)
        new = {field["name"]: field for field in after.get("fields", ())}
        for field in before.get("fields", ()):
            if field["name"] in new:
                name = f"{path}.{field['name']}".lstrip(".")
                yield from _logical_changes(field["type"], new[field["name"]]["type"], name)
    elif isinstance(before, dict) != isinstance(after, dict) and _described_logical(before, after):
        yield f"{path or 'record'}: {_describe(before)} becomes {_describe(after)}"


def misreading(written: Any, known: Any, path: str = "") -> str:
    """Why code that knows ``known`` must not read a record of ``written``; empty if it may.

    Fields may be more or fewer (``known`` has defaults for its own); a field that both have must have one type.
    """
    return _misreading(named.expand(written), named.expand(known), path)


def _misreading(written: Any, known: Any, path: str) -> str:
    was, now = core_type(written), core_type(known)
    was_kind, now_kind = _kind(was), _kind(now)
    if was_kind != now_kind or isinstance(written, list) != isinstance(known, list):
        return f"{path or 'record'} is {_describe(was)}, expected {_describe(now)}"
    if not isinstance(was, dict) or not isinstance(now, dict):
        return ""
    for key in ("items", "values"):
        if key in now and (problem := _misreading(was.get(key), now[key], path)):
            return problem
    fields = {field["name"]: field for field in was.get("fields", ())}
    for field in now.get("fields", ()):
        name = f"{path}.{field['name']}".lstrip(".")
        if field["name"] in fields:
            if problem := _misreading(fields[field["name"]]["type"], field["type"], name):
                return problem
        elif "default" not in field:
            return f"{name} is missing"
    return ""


def _kind(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    return (schema.get("type"), *(schema.get(key) for key in _LOGICAL))


def _described_logical(*schemas: Any) -> bool:
    return any(isinstance(schema, dict) and "logicalType" in schema for schema in schemas)


def _describe(schema: Any) -> str:
    if not isinstance(schema, dict):
        return str(schema)
    if schema.get("logicalType") == "decimal":
        return f"decimal({schema.get('precision')},{schema.get('scale')})"
    return str(schema.get("logicalType") or schema.get("type"))
