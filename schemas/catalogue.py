"""Event types as data: ``catalogue.toml`` joined with the ``.avsc`` files.

An event type is one payload schema, one catalogue entry and one file of examples. The registered record is the
envelope's fields followed by ``payload`` (design, Contract); it is composed here and nowhere else.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from tradetape.schemas import named

Schema = dict[str, Any]

EVENT_VERSION = "v1"


def _root() -> Traversable:
    return files("tradetape.schemas")


@dataclass(frozen=True, slots=True)
class EventType:
    """One canonical event type.

    ``schema`` is the record to register; ``payload_fields`` have every named record written out. ``enumerations``
    maps a payload key to its allowed strings, ``required`` lists the payload keys that must be there (S3-04),
    ``decimals``, ``times`` and ``documents`` (JSON of any shape, as text) the keys of those logical types, ``nested``
    the fields that are records, arrays or maps.
    """

    name: str
    record: str
    family: str
    scope: str
    retention: str
    control: bool
    schema: Schema
    payload_fields: tuple[Schema, ...]
    payload_keys: frozenset[str]
    required: tuple[str, ...]
    enumerations: dict[str, frozenset[str]]
    decimals: tuple[str, ...]
    times: tuple[str, ...]
    documents: tuple[str, ...]
    nested: tuple[Schema, ...]


def read_schema(path: str) -> Schema:
    """The parsed JSON of one ``.avsc`` file, by its path below ``schemas/avro``."""
    loaded: Schema = json.loads(_root().joinpath("avro", *path.split("/")).read_text(encoding="utf-8"))
    return loaded


@cache
def envelope_schema() -> Schema:
    """The envelope's Avro record."""
    return read_schema("envelope.avsc")


@cache
def _context_records() -> dict[str, Schema]:
    """Records that payloads share, by full name."""
    folder = _root().joinpath("avro", "context")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()]
    return {f"{record['namespace']}.{record['name']}": record for record in records}


def compose(payload: Schema) -> Schema:
    """The record to register for ``payload``: the envelope's fields and a ``payload`` field."""
    envelope = envelope_schema()
    return {
        "type": "record",
        "name": payload["name"].removesuffix("Payload"),
        "namespace": payload["namespace"],
        "doc": payload["doc"],
        "fields": [*envelope["fields"], {"name": "payload", "type": payload}],
    }


def core_type(avro_type: Any) -> Any:
    """``avro_type`` without its null branch."""
    if isinstance(avro_type, list):
        branches = [branch for branch in avro_type if branch != "null"]
        return branches[0] if len(branches) == 1 else branches
    return avro_type


def is_nullable(avro_type: Any) -> bool:
    """Whether null is a value of ``avro_type``."""
    return isinstance(avro_type, list) and "null" in avro_type


def logical(avro_type: Any) -> str | None:
    """The logical type's name, if ``avro_type`` (null branch aside) has one."""
    core = core_type(avro_type)
    return core.get("logicalType") if isinstance(core, dict) else None


def kind(avro_type: Any) -> Any:
    """The Avro type's name, null branch aside: record, array, string, …"""
    core = core_type(avro_type)
    return core["type"] if isinstance(core, dict) else core


@cache
def event_types() -> dict[str, EventType]:
    """Every canonical event type by name."""
    entries = tomllib.loads(_root().joinpath("catalogue.toml").read_text(encoding="utf-8"))
    return {name: _build(name, entry) for name, entry in entries.items()}


def _build(name: str, entry: dict[str, Any]) -> EventType:
    payload = named.link(read_schema(entry["schema"]), _context_records().__getitem__)
    fields = tuple(named.expand(payload)["fields"])
    schema = compose(payload)
    return EventType(
        name=name,
        record=f"{schema['namespace']}.{schema['name']}",
        family=entry["family"],
        scope=entry["scope"],
        retention=entry["retention"],
        control=entry.get("control", False),
        schema=schema,
        required=tuple(f["name"] for f in fields if not is_nullable(f["type"]) and "default" not in f),
        enumerations={f["name"]: frozenset(f["enum"]) for f in fields if "enum" in f},
        **of_payload(fields),
    )


def of_payload(fields: tuple[Schema, ...]) -> dict[str, Any]:
    """What an event type says of the ``fields`` of its payload, whoever wrote it: all but the contract."""
    return {
        "payload_fields": fields,
        "payload_keys": frozenset(field["name"] for field in fields),
        "decimals": tuple(f["name"] for f in fields if logical(f["type"]) == "decimal"),
        "times": tuple(f["name"] for f in fields if logical(f["type"]) == "timestamp-micros"),
        "documents": tuple(f["name"] for f in fields if logical(f["type"]) == "json"),
        "nested": tuple(f for f in fields if kind(f["type"]) in ("record", "array", "map")),
    }


@cache
def by_record() -> dict[str, EventType]:
    """Every event type by the full name of its Avro record."""
    return {event_type.record: event_type for event_type in event_types().values()}


OUTPUTS = {
    "audited": "output/audited.avsc",
    "risk": "output/risk_figure.avsc",
    "alerts": "output/alert.avsc",
    "portfolio": "output/portfolio_delta.avsc",
    "portfolios": "output/portfolio_figure.avsc",
}


@cache
def output_schema(topic: str) -> Schema:
    """The schema of one of the processor's output topics, by the topic's last word."""
    return read_schema(OUTPUTS[topic])
