"""The OpenAPI description, with the schemas of all events as they follow from the catalogue. Pure."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from tradetape.producers.serving import problems
from tradetape.schemas import rules
from tradetape.schemas.catalogue import (
    EVENT_VERSION,
    EventType,
    Schema,
    core_type,
    envelope_schema,
    event_types,
    is_nullable,
    kind,
    logical,
)

JSON, NDJSON = "application/json", "application/x-ndjson"
EXAMPLE = "order_filled"
_REF = "#/components/schemas/"

_WRITTEN_HERE = frozenset(
    {"native", "native_type", "native_event_id", "extra", "precision_rounded", "assumed", "legacy", "ingest_source"}
    | {"source_system", "source_id", "source_stream", "source_position", "adapter"}
)
"""Envelope fields that ingestion writes, whatever a client sends there."""

_VALUES: dict[str, Schema] = {
    "Decimal": {
        "anyOf": [{"type": "string", "pattern": r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,6})?$"}, {"type": "number"}],
        "description": "Exact, below 1.7e20; more than 18 decimals are rounded half-even. Text is safest.",
        "examples": ["27000.5"],
    },
    "Timestamp": {
        "type": "string",
        "format": "date-time",
        "description": "ISO-8601 in UTC, from 2000 to 2100; microseconds are kept.",
        "examples": ["2026-11-20T10:00:00.123456Z"],
    },
}

_ANSWERS: dict[str, Schema] = {
    "Result": {
        "type": "object",
        "required": ["event_id", "status", "reasons"],
        "properties": {
            "event_id": {"type": "string", "format": "uuid", "description": "The id it is stored under."},
            "status": {
                "enum": ["accepted", "evidence"],
                "description": "evidence: it breaks the contract; its bytes are kept, and it is rejected for `reasons`",
            },
            "reasons": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["code", "detail"],
                    "properties": {"code": {"enum": sorted(rules.REASONS)}, "detail": {"type": "string"}},
                },
            },
        },
    },
    "Taken": {
        "type": "object",
        "required": ["accepted", "evidence", "results"],
        "properties": {
            "accepted": {"type": "integer"},
            "evidence": {"type": "integer"},
            "results": {"type": "array", "items": {"$ref": f"{_REF}Result"}, "description": "One an event, in order."},
        },
    },
    "Health": {
        "type": "object",
        "required": ["status", "kafka", "spool"],
        "properties": {
            "status": {
                "enum": ["ok", "spooling", "refusing"],
                "description": "Where events go: Kafka, the spool on disk, or nowhere.",
            },
            "kafka": {"type": "object", "properties": {"reachable": {"type": "boolean"}}},
            "spool": {
                "type": "object",
                "properties": {
                    "waiting_bytes": {"type": "integer", "description": "Kept on disk, and not in Kafka yet."},
                    "accepted": {"type": "integer", "description": "Events taken by the spool since the start."},
                    "acknowledged": {"type": "integer", "description": "Events of the spool that Kafka has."},
                    "refused": {"type": "integer", "description": "Events that the spool had no room for."},
                },
            },
        },
    },
    "Problem": problems.schema(
        evidence={"type": ["string", "null"], "description": "400: the id that the body's bytes are kept under."}
    ),
}

_PROBLEMS = {
    400: "The body as a whole is not readable; its bytes are kept as evidence",
    401: "No known token",
    403: "The token may not write for a bot that is named; nothing was taken",
    408: "The body did not arrive in time",
    413: "The body, an event, or the number of events is too large; nothing was taken",
    415: "Unsupported Content-Type or Content-Encoding",
    429: "The token's allowance is used up; nothing was taken",
    503: "Neither Kafka nor the spool takes it; send the same again",
}


def post_operation() -> dict[str, Any]:
    """What OpenAPI says of ``POST /v1/events`` besides its texts."""
    event, good, bad = {"$ref": f"{_REF}Event"}, example(), {**example(), "ts_utc": "yesterday"}
    batch = {"type": "array", "items": event}
    results = [
        {"event_id": good["event_id"], "status": "accepted", "reasons": []},
        {
            "event_id": good["event_id"],
            "status": "evidence",
            "reasons": [{"code": "ts_unparseable", "detail": "ts_utc: 'yesterday' is not an ISO-8601 timestamp"}],
        },
    ]
    return {
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {"oneOf": [event, batch]},
                    "examples": {
                        "one": {"summary": "one event", "value": good},
                        "batch": {"summary": "a batch, the second against the contract", "value": [good, bad]},
                    },
                },
                NDJSON: {
                    "schema": {"type": "string", "description": "One event a line."},
                    "example": json.dumps(good) + "\n",
                },
            },
        },
        "responses": {
            "202": {
                "description": "Kafka or the spool has all of it",
                "content": {
                    JSON: {
                        "schema": {"$ref": f"{_REF}Taken"},
                        "example": {"accepted": 1, "evidence": 1, "results": results},
                    }
                },
            },
            **{str(status): problems.described(text) for status, text in _PROBLEMS.items()},
        },
    }


def health_operation() -> dict[str, Any]:
    """What OpenAPI says of ``GET /v1/health`` besides its texts."""
    content = {JSON: {"schema": {"$ref": f"{_REF}Health"}}}
    return {
        "responses": {
            "200": {"description": "Events are taken", "content": content},
            "503": {"description": "Events are refused", "content": content},
        }
    }


def complete(described: dict[str, Any]) -> None:
    """Add the schemas to FastAPI's description ``described``."""
    found = described.setdefault("components", {})
    for name, content in _components().items():
        found[name] = {**found.get(name, {}), **content}


@cache
def _components() -> dict[str, Any]:
    """Security scheme and schemas: each event type, the values, the answers."""
    known = [event_type for event_type in event_types().values() if not event_type.control]
    names = {event_type.name: event_type.record.rpartition(".")[2] for event_type in known}
    union = {
        "oneOf": [{"$ref": _REF + name} for name in names.values()],
        "discriminator": {
            "propertyName": "event_type",
            "mapping": {name: _REF + schema for name, schema in names.items()},
        },
    }
    typed = {names[event_type.name]: _event(event_type) for event_type in known}
    return {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        "schemas": {"Event": union, **_VALUES, **_ANSWERS, **typed},
    }


@cache
def example() -> dict[str, Any]:
    """A good event."""
    text = files("tradetape.schemas").joinpath("examples", f"{EXAMPLE}.json").read_text(encoding="utf-8")
    event: dict[str, Any] = json.loads(text)["valid"][0]["event"]
    return event


def _event(event_type: EventType) -> Schema:
    properties: dict[str, Any] = {
        field["name"]: _field(field) for field in envelope_schema()["fields"] if field["name"] not in _WRITTEN_HERE
    }
    properties["event_type"] = {"const": event_type.name}
    properties["event_version"] = {"const": EVENT_VERSION}
    properties["payload"] = _record(event_type.schema["fields"][-1]["type"] | {"fields": event_type.payload_fields})
    for name in rules.SCOPES[event_type.scope]:
        if properties[name].get("type") == "string":
            properties[name]["minLength"] = 1
    return {
        "type": "object",
        "description": event_type.schema["doc"],
        "properties": properties,
        "required": list(rules.REQUIRED_KEYS),
    }


def _record(record: Schema) -> Schema:
    fields = record["fields"]
    required = [f["name"] for f in fields if not is_nullable(f["type"]) and "default" not in f]
    return {
        "type": "object",
        **({"description": record["doc"]} if "doc" in record else {}),
        "properties": {field["name"]: _field(field) for field in fields},
        **({"required": required} if required else {}),
    }


def _field(field: Schema) -> Schema:
    value = {"enum": list(field["enum"])} if "enum" in field else _value(field["type"])
    if "enum" not in field and is_nullable(field["type"]):
        value = {"anyOf": [value, {"type": "null"}]}
    elif is_nullable(field["type"]):
        value["enum"].append(None)
    return value | ({"description": field["doc"]} if "doc" in field else {})


def _value(avro_type: Any) -> Schema:
    core, of, meaning = core_type(avro_type), kind(avro_type), logical(avro_type)
    if meaning == "decimal":
        return {"$ref": f"{_REF}Decimal"}
    if meaning == "timestamp-micros":
        return {"$ref": f"{_REF}Timestamp"}
    if meaning == "json":
        return {}
    if of == "record":
        return _record(core)
    if of == "array":
        return {"type": "array", "items": _value(core["items"])}
    if of == "map":
        return {"type": "object", "additionalProperties": _value(core["values"])}
    return {"type": {"int": "integer", "long": "integer"}.get(of, of)}
