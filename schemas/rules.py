"""Contract rules: pure functions that say what makes an event unacceptable (S3-05).

Producers run them to decide what can be sent as a typed record; the processor runs the same on everything and
alone writes the reason codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from tradetape.schemas import numbers, reasons, times
from tradetape.schemas.catalogue import EVENT_VERSION, EventType
from tradetape.schemas.fields import Field, envelope_fields, nested_fields, payload_fields

REASONS = reasons.read()
"""Every reason code that a rule, an adapter or the processor may write."""

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
    name: frozenset(field.allowed) for name, field in envelope_fields().items() if field.allowed
}


MAX_TEXT = 1_024
"""Characters of a text that identifies something: what is remembered is kept by these, and rewritten with them."""
MAX_PROSE = 65_536
"""Characters of other text in the envelope."""
MAX_FOLDED = 64
"""Items of a list that figures are folded from: the assets that one execution's fees are paid in."""

_PROSE = frozenset({"outcome_reason"})
_DOCUMENTS = frozenset({"extra"})
_IDENTIFYING = frozenset({"asset", "fee_asset", "symbol", "symbols", "correlation_group", "group", "risk_level"})
_IDENTIFYING |= {"account", "instance", "service"}
"""Payload keys, beside those of ids, that something is remembered or reported by."""
_FOLDED = frozenset({"other_fees"})


class Violation(NamedTuple):
    """One broken rule: a code of ``REASONS`` and what was found."""

    code: str
    detail: str


def violations(event: Mapping[str, Any], event_type: EventType) -> Iterator[Violation]:
    """Every rule that the decoded ``event`` breaks; an acceptable event yields nothing.

    ``event`` has the envelope's fields and ``payload``, times in microseconds, decimals as Decimal.
    """
    yield from too_long(event, event_type)
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


def too_long(event: Mapping[str, Any], event_type: EventType) -> Iterator[Violation]:
    """Texts and lists of ``event`` beyond the bounds of what is remembered by them."""
    for name in _TEXTS:
        value = event.get(name)
        if value is not None and len(value) > MAX_TEXT:
            yield from _long_text(value, name, MAX_PROSE if name in _PROSE else MAX_TEXT)
    payload = event.get("payload") or {}
    for field in _bounded_fields(event_type.name):
        value = payload.get(field.name)
        if value:
            yield from _long(value, field, field.name, field.name)


_TEXTS = tuple(name for name, field in envelope_fields().items() if field.what == "string" and name not in _DOCUMENTS)


@cache
def _bounded_fields(event_type: str) -> tuple[Field, ...]:
    """The payload fields that have a bound, or inside which something has."""
    return tuple(field for field in payload_fields(event_type).values() if _is_bounded(field, field.name))


def _is_bounded(field: Field, called: str) -> bool:
    if field.kind == "string" and not field.allowed:
        return called.endswith("_id") or called in _IDENTIFYING
    inside = [*field.fields.values(), *filter(None, [field.inner])]
    return called in _FOLDED or any(_is_bounded(each, each.name or called) for each in inside)


def _long(value: Any, field: Field, path: str, called: str) -> Iterator[Violation]:
    """What is too long at ``path`` and inside; items of a list are called as it is."""
    if isinstance(value, str):
        if _is_bounded(field, called):
            yield from _long_text(value, path, MAX_TEXT)
    elif called in _FOLDED and len(value) > MAX_FOLDED:
        yield Violation("list_too_long", f"{path} has {len(value)} items; at most {MAX_FOLDED}")
    else:
        for inner, declared, name in _inside(value, field, path):
            yield from _long(inner, declared, name, declared.name or called)


def _long_text(value: str, path: str, most: int) -> Iterator[Violation]:
    if len(value) > most:
        yield Violation("text_too_long", f"{path} has {len(value)} characters; at most {most}")


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
    for field in nested_fields(event_type.name):
        value = payload.get(field.name)
        if value:
            yield from _nested_violations(value, field, field.name)
    if event_type.name == "order_created" and payload.get("order_type") in LIMIT_LIKE and payload.get("price") is None:
        yield Violation("price_required", f"order_type {payload['order_type']!r} without price")


def _nested_violations(value: Any, field: Field, path: str) -> Iterator[Violation]:
    """Every rule that values inside a record, an array or a map break; ``path`` leads to ``value``."""
    if isinstance(value, Decimal):
        try:
            numbers.fit(value)
        except numbers.NumberError as error:
            yield Violation(error.code, f"{path}: {error}")
    elif isinstance(value, int) and field.what == "timestamp-micros":
        if not times.EARLIEST <= value < times.LATEST:
            yield Violation("ts_out_of_range", f"{path} {value} µs")
    else:
        for inner, declared, name in _inside(value, field, path):
            if declared.allowed and inner not in declared.allowed:
                yield Violation("not_in_enumeration", f"{name} {str(inner)[:80]!r}")
            if not isinstance(inner, str):
                yield from _nested_violations(inner, declared, name)


def _inside(value: Any, field: Field, path: str) -> Iterator[tuple[Any, Field, str]]:
    """The values in a record, an array or a map, each with its field and its path; none in anything else."""
    if field.inner is not None and isinstance(value, list):
        for index, inner in enumerate(value):
            yield inner, field.inner, f"{path}[{index}]"
    elif field.inner is not None and isinstance(value, dict):
        for key, inner in value.items():
            yield inner, field.inner, f"{path}.{key}"
    elif isinstance(value, dict):
        for name, declared in field.fields.items():
            if value.get(name) is not None:
                yield value[name], declared, f"{path}.{name}"
