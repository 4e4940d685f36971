"""What the registry lets through and must not: changes of logical types.

Under FULL_TRANSITIVE a registry accepts another scale of a decimal and millis instead of micros (measured): readers
of the old schema would then read every stored number wrongly, without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tradetape.schemas.catalogue import core_type

_LOGICAL = ("logicalType", "precision", "scale")


def logical_changes(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Every place where both schemas have a field whose logical type differs."""
    before, after = core_type(before), core_type(after)
    if isinstance(before, dict) and isinstance(after, dict):
        was, now = (tuple(schema.get(key) for key in _LOGICAL) for schema in (before, after))
        if was != now:
            yield f"{path or 'record'}: {_describe(before)} becomes {_describe(after)}"
        for key in ("items", "values", "type"):
            if key in before and key in after:
                yield from logical_changes(before[key], after[key], path)
        new = {field["name"]: field for field in after.get("fields", ())}
        for field in before.get("fields", ()):
            if field["name"] in new:
                name = f"{path}.{field['name']}".lstrip(".")
                yield from logical_changes(field["type"], new[field["name"]]["type"], name)
    elif isinstance(before, dict) != isinstance(after, dict) and _described_logical(before, after):
        yield f"{path or 'record'}: {_describe(before)} becomes {_describe(after)}"


def _described_logical(*schemas: Any) -> bool:
    return any(isinstance(schema, dict) and "logicalType" in schema for schema in schemas)


def _describe(schema: Any) -> str:
    if not isinstance(schema, dict):
        return str(schema)
    if schema.get("logicalType") == "decimal":
        return f"decimal({schema.get('precision')},{schema.get('scale')})"
    return str(schema.get("logicalType") or schema.get("type"))
