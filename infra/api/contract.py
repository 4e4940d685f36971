"""The OpenAPI description: FastAPI's, with the answers as they are and an operation for every named query. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tradetape.infra.api import events, figures, health, named
from tradetape.infra.api.forms import CSV, JSON, NDJSON
from tradetape.infra.api.scope import is_of_fleet
from tradetape.producers.serving import problems
from tradetape.producers.serving.problems import MEDIA_TYPE
from tradetape.schemas.catalogue import Schema, core_type, is_nullable, kind, logical
from tradetape.sinks import queries
from tradetape.sinks.queries import NamedQuery

TOKEN = "token"
"""The name of the security scheme."""

_REF = "#/components/schemas/"
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}

_PROBLEMS = {
    401: "No known token",
    403: "The token may not see this",
    404: "Nothing of that name",
    406: "No such form of the answer",
    422: "A parameter is not what it should be",
    503: "Busy, too heavy, or the store does not answer; `Retry-After` says when to ask again",
}


def answers(name: str, *others: str, refuses: Sequence[int] = (403,)) -> dict[int | str, dict[str, Any]]:
    """The responses of an operation that answers the schema ``name`` as JSON, and rows in ``others``.

    ``refuses`` are the problems besides those that every operation has.
    """
    forms = {JSON: {"schema": {"$ref": _REF + name}}} | {
        other: {"schema": {"type": "string", "description": "One row a line."}} for other in others
    }
    statuses = sorted({401, 406, 422, 503, *refuses})
    return {200: {"description": "The answer", "content": forms}, **{status: _problem(status) for status in statuses}}


def health_answers() -> dict[int | str, dict[str, Any]]:
    """The responses of the health operation."""
    content = {JSON: {"schema": {"$ref": f"{_REF}Health"}}}
    away = {**content, MEDIA_TYPE: {"schema": {"$ref": f"{_REF}Problem"}}}
    return {
        200: {"description": "The store answers", "content": content},
        401: _problem(401),
        503: {"description": "The store does not answer", "content": away},
    }


def complete(described: dict[str, Any]) -> None:
    """Add to FastAPI's description ``described`` what it cannot know."""
    for path in described["paths"].values():
        for operation in path.values():
            operation["parameters"] = [_parameter(found) for found in operation.get("parameters", [])]
    described["paths"] |= {f"/v1/queries/{query.name}": {"get": _query(query)} for query in queries.listing().values()}
    described.setdefault("components", {})["schemas"] = _components()


@cache
def _components() -> Mapping[str, Schema]:
    """The schemas of all answers."""
    event = {**_record(events.COLUMNS), "event_id": {"type": "string", "format": "uuid"}, "payload": {"type": "object"}}
    partition = dict.fromkeys(("raw_partition", "kafka_end", "behind"), _COUNT)
    partition["last_stored"] = {"type": "integer", "minimum": -1}
    return {
        "Event": _object(event),
        "Events": _rows("events", {"$ref": f"{_REF}Event"}, next=_NEXT),
        "Chain": _rows("events", {"type": "object"}, correlation_id=_TEXT),
        "Figures": _object(_record(figures.COLUMNS)),
        "Risk": _rows("positions", {"$ref": f"{_REF}Figures"}),
        "State": _object(
            {
                "at": {"type": ["string", "null"]},
                "known_at": {"type": ["string", "null"]},
                "core_version": _TEXT,
                "found": {"type": "array", "items": {"type": "object"}},
            }
        ),
        "Timeline": _rows("timeline", {"type": "object"}),
        "Queries": _rows("queries", _LISTED),
        "Rows": _rows("rows", {"type": "object"}, query=_TEXT),
        "Health": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": {"enum": list(health.STATUSES)},
                "rows": {"type": "object", "additionalProperties": _COUNT},
                "lag": {"type": ["integer", "null"], "description": "Records in Kafka that are not stored yet."},
                "partitions": {"type": ["array", "null"], "items": _object(partition)},
            },
        },
        "Problem": problems.schema(errors=_ERRORS),
    }


_NEXT: Schema = {"type": ["string", "null"], "description": "Where the page of older events is."}

_ERRORS: Schema = {
    "type": "array",
    "description": "422: each parameter, and what is wrong with it.",
    "items": {
        "type": "object",
        "required": ["parameter", "message"],
        "properties": {"parameter": _TEXT, "message": _TEXT},
    },
}

_LISTED: Schema = {
    "type": "object",
    "required": ["name", "purpose", "notes", "of_fleet", "href", "parameters"],
    "properties": {
        "name": _TEXT,
        "purpose": _TEXT,
        "notes": _TEXT,
        "of_fleet": {"type": "boolean", "description": "Not for tokens that are limited to bots."},
        "href": _TEXT,
        "parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "type", "required", "default", "choices"],
                "properties": {
                    "name": _TEXT,
                    "type": _TEXT,
                    "required": {"type": "boolean"},
                    "default": {"type": ["string", "null"]},
                    "choices": {"type": "array", "items": _TEXT},
                },
            },
        },
    },
}


def _query(query: NamedQuery) -> Schema:
    fleet = " Not for tokens that are limited to bots." if is_of_fleet(query) else ""
    parameters = [
        {"name": param.name, "in": "query", "required": param.default is None, "schema": named.schema(param)}
        for param in query.params
    ]
    archived = {"type": "boolean", "default": False, "description": "Archived rows too."}
    return {
        "tags": ["named queries"],
        "summary": query.purpose,
        "description": f"{query.notes}{fleet}".strip(),
        "operationId": f"query_{query.name}",
        "parameters": [*parameters, {"name": named.ARCHIVED, "in": "query", "required": False, "schema": archived}],
        "responses": {str(status): answer for status, answer in answers("Rows", NDJSON, CSV).items()},
        "security": [{TOKEN: []}],
    }


def _problem(status: int) -> Schema:
    return problems.described(_PROBLEMS[status])


def _rows(name: str, row: Schema, **others: Schema) -> Schema:
    return _object({**others, name: {"type": "array", "items": row}})


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "required": list(properties), "properties": dict(properties)}


def _parameter(found: Schema) -> Schema:
    """A parameter as it may be sent: one that is left out is not null."""
    schema = {key: value for key, value in found["schema"].items() if key != "default" or value is not None}
    if "anyOf" in schema:
        kinds = [each for each in schema["anyOf"] if each != {"type": "null"}]
        schema = {**schema, "anyOf": kinds} if len(kinds) > 1 else {**schema, **kinds[0]}
        if len(kinds) == 1 and "anyOf" not in kinds[0]:
            del schema["anyOf"]
    return {**found, "schema": schema}


def _record(columns: Mapping[str, Any]) -> dict[str, Schema]:
    return {name: _field(avro_type) for name, avro_type in columns.items()}


def _field(avro_type: Any) -> Schema:
    value = _value(avro_type)
    return {"anyOf": [value, {"type": "null"}]} if is_nullable(avro_type) else value


def _value(avro_type: Any) -> Schema:
    core, of, meaning = core_type(avro_type), kind(avro_type), logical(avro_type)
    if meaning == "decimal":
        return {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"}
    if meaning == "timestamp-micros":
        return {"type": "string", "format": "date-time"}
    if of == "record":
        return _object(_record({field["name"]: field["type"] for field in core["fields"]}))
    if of == "array":
        return {"type": "array", "items": _field(core["items"])}
    if of == "map":
        return {"type": "object", "additionalProperties": _field(core["values"])}
    return {"type": {"int": "integer", "long": "integer", "string": "string", "boolean": "boolean"}[of]}
