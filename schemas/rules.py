"""Contract rules: pure functions that say what makes an event unacceptable (S3-05).

Producers run them to decide what can be sent as a typed record; the processor runs the same on everything and
alone writes the reason codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from tradetape.schemas import numbers, times
from tradetape.schemas.catalogue import EVENT_VERSION, EventType, Schema, core_type, envelope_schema, logical

REASONS: dict[str, str] = {
    "undecodable": "the bytes are not an Avro record of the schema they name",
    "unknown_schema_id": "the registry does not know the schema id in the bytes",
    "type_mismatch": "event_type and the Avro record's name differ",
    "unmapped": "the adapter could not map the native record",
    "not_json": "the line is not JSON",
    "not_an_object": "the line is JSON, but not an object",
    "line_too_long": "the line is longer than the largest event",
    "missing_field": "an envelope key is missing",
    "empty_field": "an envelope field is empty that this event type's scope needs",
    "wrong_type": "a value has another type than the contract says",
    "unknown_event_type": "the catalogue has no such event_type",
    "unsupported_event_version": "event_version is none that this Tradetape knows",
    "missing_correlation_id": "correlation_id is missing and the source is not marked legacy",
    "ts_unparseable": "a time is not an ISO-8601 timestamp",
    "ts_not_utc": "a time carries no UTC offset, or another one",
    "ts_out_of_range": "a time is not between 2000 and 2100",
    "missing_payload_key": "a payload key that the event type requires is missing or null",
    "not_in_enumeration": "a value is not one of the allowed ones",
    "price_required": "a limit-like order has no price",
    "number_invalid": "a number is not finite, or no number at all",
    "number_out_of_range": "a number is not within ±1.7e20",
    "text_invalid": "text holds a lone surrogate and cannot be written as UTF-8",
}

LIMIT_LIKE = frozenset({"limit", "limit_maker"})

_NAMED = ("event_id", "event_type", "event_version", "producer")
SCOPES: dict[str, tuple[str, ...]] = {
    "order": (*_NAMED, "instance_name", "connector_name", "trading_pair"),
    "instrument": (*_NAMED, "instance_name", "trading_pair"),
    "instance": (*_NAMED, "instance_name"),
    "portfolio": _NAMED,
    "system": _NAMED,
    "none": ("event_type",),
}
"""Envelope fields that must not be empty, by scope. The key itself must always exist."""

REQUIRED_KEYS = (
    "event_id",
    "event_type",
    "event_version",
    "ts_utc",
    "producer",
    "instance_name",
    "controller_id",
    "connector_name",
    "trading_pair",
    "correlation_id",
    "payload",
)
"""The envelope of S3-01."""

ENVELOPE_ENUMERATIONS: dict[str, frozenset[str]] = {
    field["name"]: frozenset(field["enum"]) for field in envelope_schema()["fields"] if "enum" in field
}


class Violation(NamedTuple):
    """One broken rule: a code of ``REASONS`` and what was found."""

    code: str
    detail: str


def violations(event: Mapping[str, Any], event_type: EventType) -> Iterator[Violation]:
    """Every rule that the decoded ``event`` breaks; an acceptable event yields nothing.

    ``event`` has the envelope's fields and ``payload``, times in microseconds, decimals as Decimal.
    """
    yield from envelope_violations(event, event_type)
    yield from payload_violations(event["payload"], event_type)


def envelope_violations(event: Mapping[str, Any], event_type: EventType) -> Iterator[Violation]:
    """Every rule that the envelope of ``event`` breaks; a key that is not there breaks none here."""
    if event.get("event_type", event_type.name) != event_type.name:
        yield Violation("type_mismatch", f"event_type {event['event_type']!r} in a {event_type.record}")
    version = event.get("event_version")
    if version and version != EVENT_VERSION:
        yield Violation("unsupported_event_version", f"event_version {version[:80]!r}")
    for name in SCOPES[event_type.scope]:
        if event.get(name) == "":
            yield Violation("empty_field", name)
    if not event.get("correlation_id") and not event.get("legacy"):
        yield Violation("missing_correlation_id", "correlation_id")
    ts_utc = event.get("ts_utc")
    if ts_utc is not None and not times.EARLIEST <= ts_utc < times.LATEST:
        yield Violation("ts_out_of_range", f"ts_utc {ts_utc} µs")
    for name, allowed in ENVELOPE_ENUMERATIONS.items():
        if name in event and event[name] not in allowed:
            yield Violation("not_in_enumeration", f"{name} {str(event[name])[:80]!r}")


def payload_violations(payload: Mapping[str, Any], event_type: EventType) -> Iterator[Violation]:
    """Every rule that the decoded ``payload`` breaks."""
    for name in event_type.required:
        value = payload.get(name)
        if value is None or (value == "" and name == "client_order_id"):
            yield Violation("missing_payload_key", name)
    for name, allowed in event_type.enumerations.items():
        value = payload.get(name)
        if value is not None and value not in allowed:
            yield Violation("not_in_enumeration", f"{name} {str(value)[:80]!r}")
    for name in event_type.decimals:
        value = payload.get(name)
        if isinstance(value, Decimal):
            try:
                numbers.fit(value)
            except numbers.NumberError as error:
                yield Violation(error.code, f"{name}: {error}")
    for name in event_type.times:
        value = payload.get(name)
        if value is not None and not times.EARLIEST <= value < times.LATEST:
            yield Violation("ts_out_of_range", f"{name} {value} µs")
    for declared in event_type.nested:
        value = payload.get(declared["name"])
        if value:
            yield from _nested_violations(value, declared["type"], declared["name"])
    if event_type.name == "order_created" and payload.get("order_type") in LIMIT_LIKE and payload.get("price") is None:
        yield Violation("price_required", f"order_type {payload['order_type']!r} without price")


def _nested_violations(value: Any, avro_type: Schema, path: str) -> Iterator[Violation]:
    """Every rule that values inside a record, an array or a map break."""
    core = core_type(avro_type)
    if isinstance(value, Decimal):
        try:
            numbers.fit(value)
        except numbers.NumberError as error:
            yield Violation(error.code, f"{path}: {error}")
    elif isinstance(value, int) and logical(core) == "timestamp-micros":
        if not times.EARLIEST <= value < times.LATEST:
            yield Violation("ts_out_of_range", f"{path} {value} µs")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nested_violations(inner, core["items"], f"{path}[{index}]")
    elif isinstance(value, dict) and "values" in core:
        for key, inner in value.items():
            yield from _nested_violations(inner, core["values"], f"{path}.{key}")
    elif isinstance(value, dict):
        for declared in core["fields"]:
            inner, name = value.get(declared["name"]), f"{path}.{declared['name']}"
            if inner is None:
                continue
            if "enum" in declared and inner not in declared["enum"]:
                yield Violation("not_in_enumeration", f"{name} {str(inner)[:80]!r}")
            yield from _nested_violations(inner, declared["type"], name)
