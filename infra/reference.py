"""The reference, as it is in the code: event types, what native types become, findings, reasons, named queries, and an
AsyncAPI file.

Nothing of it is written by hand or kept in the repository: ``tradetape schemas docs FOLDER`` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from tradetape.processors.findings import CATALOGUE as FINDINGS
from tradetape.producers.adapters import mapping
from tradetape.schemas import rules, topics
from tradetape.schemas.catalogue import (
    OUTPUTS,
    EventType,
    Schema,
    core_type,
    envelope_schema,
    event_types,
    kind,
    logical,
    output_schema,
)
from tradetape.sinks import queries

AVRO = "application/vnd.apache.avro+json;version=1.9.0"
ASYNCAPI = "3.0.0"


def pages() -> dict[str, str]:
    """File name → content."""
    return {
        "events.md": _lines(_events()),
        "native-types.md": _lines(_native_types()),
        "findings.md": _lines(_findings()),
        "queries.md": _lines(_queries()),
        "asyncapi.json": json.dumps(asyncapi(), ensure_ascii=False) + "\n",
    }


def systems() -> list[str]:
    """The systems that have a mapping table."""
    tables = files("tradetape.producers.adapters").joinpath("tables")
    return sorted(path.name.removesuffix(".toml") for path in tables.iterdir() if path.name.endswith(".toml"))


def asyncapi() -> dict[str, Any]:
    """An AsyncAPI 3 document: a channel per topic, a message per event type and output, with the registered schemas."""
    events = {event_type.name: _message(event_type.name, event_type.schema) for event_type in event_types().values()}
    outputs = {name: _message(name, output_schema(name)) for name in OUTPUTS}
    by_topic = {topics.EVENTS: events, **{f"tradetape.{name}": {name: found} for name, found in outputs.items()}}
    purposes = {topic.name: topic.purpose for topic in topics.CATALOGUE}
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Tradetape",
            "version": version("tradetape"),
            "description": "Topics of the flight recorder. Values are Avro with the Confluent framing: "
            "a zero byte, the schema id as four bytes, the body.",
        },
        "defaultContentType": "application/vnd.apache.avro",
        "channels": {
            name: {
                "address": name,
                "description": purposes[name],
                "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages},
            }
            for name, messages in by_topic.items()
        },
        "operations": {
            f"receive_{name.removeprefix('tradetape.')}": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{name}"},
            }
            for name in by_topic
        },
        "components": {"messages": {**events, **outputs}},
    }


def _message(name: str, schema: Schema) -> dict[str, Any]:
    return {
        "name": name,
        "title": schema["name"],
        "summary": schema.get("doc", ""),
        "payload": {"schemaFormat": AVRO, "schema": schema},
    }


def _events() -> Iterator[str]:
    yield "# Event types"
    yield ""
    yield "Every event has the envelope, then the payload of its type. A key marked ● must be there."
    yield ""
    yield "## Envelope"
    yield ""
    yield from _fields(envelope_schema()["fields"], rules.REQUIRED_KEYS)
    for family, members in _families().items():
        yield ""
        yield f"## {family}"
        for event_type in members:
            yield ""
            yield f"### {event_type.name}"
            yield ""
            yield f"{event_type.schema['doc']} Scope *{event_type.scope}*, kept *{event_type.retention}*."
            if event_type.payload_fields:
                yield ""
                yield from _fields(event_type.payload_fields, event_type.required)
    yield ""
    yield "## Records inside payloads"
    seen: dict[str, Schema] = {}
    for event_type in event_types().values():
        _collect(event_type.payload_fields, seen)
    for name in sorted(seen):
        yield ""
        yield f"### {name}"
        yield ""
        yield from _fields(seen[name]["fields"], ())


def _families() -> dict[str, list[EventType]]:
    families: dict[str, list[EventType]] = {}
    for event_type in event_types().values():
        families.setdefault(event_type.family, []).append(event_type)
    return families


def _fields(fields: Iterable[Schema], required: Sequence[str]) -> Iterator[str]:
    rows = []
    for field in fields:
        allowed = ": " + ", ".join(f"`{value}`" for value in field["enum"]) if "enum" in field else ""
        mark = "●" if field["name"] in required else ""
        rows.append((f"`{field['name']}`", mark, _type_name(field["type"]), field.get("doc", "") + allowed))
    yield from _table(("key", "", "type", "meaning"), rows)


def _type_name(avro_type: Any) -> str:
    core, name = core_type(avro_type), kind(avro_type)
    if logical(avro_type) == "decimal":
        return "decimal"
    if logical(avro_type) == "timestamp-micros":
        return "time"
    if logical(avro_type) == "json":
        return "JSON"
    if name == "array":
        return f"list of {_type_name(core['items'])}"
    if name == "map":
        return f"map of {_type_name(core['values'])}"
    return str(core["name"]) if name == "record" else str(name)


def _collect(fields: Iterable[Schema], seen: dict[str, Schema]) -> None:
    for field in fields:
        core = core_type(field["type"])
        while isinstance(core, dict) and ("items" in core or "values" in core):
            core = core_type(core.get("items", core.get("values")))
        if isinstance(core, dict) and core.get("type") == "record":
            seen[core["name"]] = core
            _collect(core["fields"], seen)


def _native_types() -> Iterator[str]:
    yield "# What native types become"
    for system in systems():
        yield ""
        yield f"## {system}"
        yield ""
        rows = []
        for name, rule in mapping.rules(system).items():
            outcomes: dict[str, list[str]] = {}
            for outcome, event in rule.by_outcome.items():
                outcomes.setdefault(event, []).append(outcome)
            exceptions = "; ".join(f"`{event}` where {', '.join(names)}" for event, names in outcomes.items())
            rows.append((f"`{name}`", f"`{rule.event}`", exceptions, _takes({**rule.envelope, **rule.payload})))
        yield from _table(("native type", "event type", "by outcome", "values"), rows)


def _takes(takes: Mapping[str, mapping.Take]) -> str:
    return "; ".join(f"{name} ← {_take(take)}" for name, take in takes.items())


def _take(take: mapping.Take) -> str:
    parts = [*take.paths, *([f"{take.compute}()"] if take.compute else [])]
    if take.constant is not None:
        parts.append(repr(take.constant))
    if take.assume is not None:
        parts.append(f"else {take.assume!r} (assumed)")
    return ", ".join(parts) + (" (derived)" if take.derived else "")


def _findings() -> Iterator[str]:
    yield "# Findings"
    yield ""
    yield "What an accepted event may show; it is on record either way. Errors and critical ones also become an alert."
    yield ""
    yield "A figure is recomputed to half a unit of its last decimal; trailing zeros do not count (13650.00 is 13650)."
    yield ""
    yield from _table(
        ("code", "severity", "counted by", "meaning", "example", "promise"),
        [
            (f"`{code}`", kind.severity, kind.subject, kind.meaning, kind.example, ", ".join(kind.requirements))
            for code, kind in FINDINGS.items()
        ],
    )
    yield ""
    yield "# Reasons for rejection"
    yield ""
    yield "What breaks the contract; the event is quarantined with its bytes and these codes."
    yield ""
    yield from _table(
        ("code", "meaning", "example", "promise"),
        [
            (f"`{code}`", reason.meaning, reason.example, ", ".join(reason.requirements))
            for code, reason in rules.REASONS.items()
        ],
    )


def _queries() -> Iterator[str]:
    yield "# Named queries"
    yield ""
    yield "`tradetape query NAME --param name=value`; a parameter marked ● must be given, `''` is all. Moments are"
    yield "ISO-8601 in UTC, from `since` on and before `until`. The statements are in `sinks/queries/`."
    for query in queries.listing().values():
        yield ""
        yield f"## {query.name}"
        yield ""
        yield " ".join(part for part in (query.purpose, query.notes) if part)
        if query.params:
            yield ""
            yield from _table(("parameter", "", "type", "default", "values"), map(_parameter, query.params))


def _parameter(param: queries.Param) -> tuple[str, str, str, str, str]:
    default = "" if param.default is None else f"`{param.default}`" if param.default else "`''`"
    values = ", ".join(f"`{value}`" for value in param.choices)
    return f"`{param.name}`", "●" if param.default is None else "", param.type, default, values


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
