"""What the registry lets through and must not: changes of logical types.

Under FULL_TRANSITIVE a registry accepts another scale of a decimal and millis instead of micros (measured): readers
of the old schema would then read every stored number wrongly, without an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

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


MAX_DEPTH = 100
"""Objects and lists inside one another in a schema that records are read by; the deepest of the catalogue has 25."""

_PARSED = "__fastavro_parsed__"
"""Key of a schema that fastavro takes for one that it has checked itself."""

_BROKEN = (SchemaParseException, ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What fastavro raises on a schema that is none."""


def unreadable(written: Any) -> str:
    """Why records of ``written`` must not be decoded at all; empty if they may.

    A type inside itself lets a few bytes nest deeper than the stack is, items of no bytes let them be endless.
    """
    if _is_deep(written):
        return f"types nested deeper than {MAX_DEPTH}"
    if _PARSED in written:
        return f"it has the key {_PARSED}"
    types: dict[str, Any] = {}
    try:
        root = fastavro.parse_schema(written, types)
    except _BROKEN as error:
        return f"it does not parse: {type(error).__name__}: {str(error)[:200]}"
    return _unsound(root, types, {})


def _is_deep(schema: Any) -> bool:
    """Whether ``schema`` is nested beyond MAX_DEPTH; asked level by level, without recursion."""
    level = [schema]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(schema: Any) -> Iterator[Any]:
    if isinstance(schema, list):
        yield from schema
    elif isinstance(schema, dict):
        yield from (schema[key] for key in ("type", "items", "values", "fields") if key in schema)


def _unsound(schema: Any, types: Mapping[str, Any], checked: dict[str, str | None]) -> str:
    """Why ``schema``, parsed, is unreadable; ``checked`` says it by name, None of one that is being looked at."""
    if isinstance(schema, list):
        return next(filter(None, (_unsound(branch, types, checked) for branch in schema)), "")
    if isinstance(schema, str):
        if schema not in types:
            return ""
        name, schema = schema, types[schema]
    else:
        name = schema.get("name", "")
    if name:
        if name in checked:
            found = checked[name]
            return f"{name} contains itself" if found is None else found
        checked[name] = None
    inner = [schema[key] for key in ("items", "values") if key in schema]
    inner += [field["type"] for field in schema.get("fields", ())]
    wrong = next(filter(None, (_unsound(each, types, checked) for each in inner)), "")
    if not wrong and "items" in schema and _is_empty(schema["items"], types):
        wrong = "a list of items that take no bytes"
    if name:
        checked[name] = wrong
    return wrong


def _is_empty(schema: Any, types: Mapping[str, Any]) -> bool:
    """Whether a value of ``schema``, which does not contain itself, takes no bytes."""
    if isinstance(schema, str):
        return schema == "null" or (schema in types and _is_empty(types[schema], types))
    if isinstance(schema, list):
        return False
    if schema["type"] == "fixed":
        return bool(schema["size"] <= 0)
    if "fields" in schema:
        return all(_is_empty(field["type"], types) for field in schema["fields"])
    return bool(schema["type"] == "null")


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
