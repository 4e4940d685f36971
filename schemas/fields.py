"""The fields of an event type, read out of its schema once: what code that walks values asks about each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tradetape.schemas.catalogue import Schema, core_type, envelope_schema, event_types, is_nullable, kind, logical


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A place for values.

    ``kind`` is their Avro type (record, array, map, string, long, …), ``what`` the logical type where there is one,
    else the same. ``allowed`` are the only strings that may stand there (empty: any), ``spellings`` finds them by
    their folded form. ``fields`` are those of a record; ``inner`` is the place of each value of an array or a map.
    """

    name: str
    kind: str
    what: str
    nullable: bool
    has_default: bool
    default: Any
    allowed: tuple[str, ...]
    spellings: Mapping[str, str]
    fields: Mapping[str, Field]
    inner: Field | None

    @classmethod
    def of(cls, declared: Schema) -> Field:
        """The field that ``declared`` describes, every named record in it written out."""
        avro_type = declared["type"]
        core = core_type(avro_type)
        inside = core if isinstance(core, dict) else {}
        inner = inside.get("items", inside.get("values"))
        allowed = declared.get("enum", ())
        return cls(
            name=declared.get("name", ""),
            kind=kind(avro_type),
            what=logical(avro_type) or kind(avro_type),
            nullable=is_nullable(avro_type),
            has_default="default" in declared,
            default=declared.get("default"),
            allowed=tuple(allowed),
            spellings={word.casefold(): word for word in reversed(allowed)},
            fields=_by_name(inside.get("fields", ())),
            inner=None if inner is None else cls.of({"type": inner}),
        )

    def new_default(self) -> Any:
        """The default, None where there is none; a list of its own each time."""
        return list(self.default) if isinstance(self.default, list) else self.default


@cache
def envelope_fields() -> Mapping[str, Field]:
    """The fields of the envelope by name."""
    return _by_name(envelope_schema()["fields"])


@cache
def payload_fields(event_type: str) -> Mapping[str, Field]:
    """The payload fields of an event type by name."""
    return _by_name(event_types()[event_type].payload_fields)


@cache
def nested_fields(event_type: str) -> tuple[Field, ...]:
    """The payload fields that are records, arrays or maps."""
    return tuple(field for field in payload_fields(event_type).values() if field.kind in ("record", "array", "map"))


def _by_name(declared: Any) -> dict[str, Field]:
    return {field["name"]: Field.of(field) for field in declared}
