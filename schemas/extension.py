"""What a newer writer's payloads have beyond the schema that this code knows, at every depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tradetape.schemas import named
from tradetape.schemas.catalogue import EventType, Schema, core_type, of_payload


def extended(event_type: EventType, schema: Schema) -> EventType:
    """``event_type`` with the payload fields that only ``schema`` has, that of a writer; itself where there are none.

    Its contract (what is required, what is allowed) stays that of ``event_type``. Fields of one name must have one
    type (``compatibility.misreading``).
    """
    written = next(field["type"] for field in named.expand(schema)["fields"] if field["name"] == "payload")
    fields = tuple(_fields(event_type.payload_fields, written["fields"]))
    return event_type if fields == event_type.payload_fields else replace(event_type, **of_payload(fields))


def _fields(known: Sequence[Schema], written: Sequence[Schema]) -> Iterator[Schema]:
    """The fields of ``known``, and behind them those that only ``written`` has."""
    others = {field["name"]: field for field in written}
    for field in known:
        other = others.pop(field["name"], None)
        yield field if other is None else {**field, "type": _type(field["type"], other["type"])}
    yield from others.values()


def _type(known: Any, written: Any) -> Any:
    if isinstance(known, list):
        return [branch if branch == "null" else _type(branch, core_type(written)) for branch in known]
    if not isinstance(known, dict):
        return known
    if "fields" in known:
        return {**known, "fields": list(_fields(known["fields"], written["fields"]))}
    inner = next((key for key in ("items", "values") if key in known), None)
    return known if inner is None else {**known, inner: _type(known[inner], written[inner])}
