"""Envelope v1 as a JSON line (S3), read under the contract rules.

One reading serves both sides: the producer sends what reads without a violation as a typed record and everything
else as an UnmappedRecord with the original bytes; the processor reads those bytes again and writes the reasons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from typing import Any

from tradetape.schemas import environments, identity, numbers, rules, times
from tradetape.schemas.catalogue import EventType, event_types
from tradetape.schemas.fields import Field, envelope_fields, payload_fields
from tradetape.schemas.rules import Violation
from tradetape.schemas.topics import MAX_EVENT_BYTES

FORMAT = "envelope_json"
MAX_LINE_BYTES = MAX_EVENT_BYTES - 64 * 1024
"""Room for the envelope of the UnmappedRecord that a bad line travels in."""

MAX_NESTING = 200
"""Arrays and objects inside one another. Python's parser gives up at 1,000 less what is on the stack: a verdict must
not depend on that.
"""
TOO_DEEP = f"nested deeper than {MAX_NESTING}"

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")

_STAMPED = frozenset({"native", "extra", "precision_rounded", "legacy", "ingest_source", "native_event_id"})
"""Envelope fields that ingestion writes; the same keys in a line are the producer's own and stay in native."""
_REQUIRED = frozenset(rules.REQUIRED_KEYS)


@dataclass(slots=True)
class Reading:
    """What a line says. ``event`` is complete only where ``violations`` is empty."""

    event: dict[str, Any] = field(default_factory=dict)
    event_type: EventType | None = None
    violations: list[Violation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violations

    def reject(self, code: str, detail: str) -> None:
        self.violations.append(Violation(code, detail))


def read(line: bytes, *, source_id: str, legacy: bool = False) -> Reading:
    """Read one JSON line; never raises. ``source_id`` names the source that non-UUID ids are derived under."""
    reading = Reading()
    if len(line) > MAX_LINE_BYTES:
        reading.reject("line_too_long", f"{len(line)} bytes; the largest event is {MAX_LINE_BYTES}")
        return reading
    try:
        text = line.decode(json.detect_encoding(line), "surrogatepass")
        if is_deep(text):
            reading.reject("not_json", TOO_DEEP)
            return reading
        document = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        reading.reject("not_json", f"at line {error.lineno}, column {error.colno}")
        return reading
    except UnicodeDecodeError as error:
        reading.reject("not_json", f"byte {error.start} is not {error.encoding}")
        return reading
    except (ValueError, InvalidOperation):
        reading.reject("not_json", "a number that cannot be read")
        return reading
    if not isinstance(document, dict):
        reading.reject("not_an_object", f"a JSON {type(document).__name__}")
        return reading
    _read_document(document, reading, source_id, legacy)
    return reading


def read_document(document: Mapping[str, Any], *, source_id: str, legacy: bool = False) -> Reading:
    """Read one envelope that is already in memory, under the same rules as ``read``.

    Its values are those of a parsed line: text, int, bool, None, Decimal, list, dict; times as ISO-8601 text.
    """
    reading = Reading()
    _read_document(document, reading, source_id, legacy)
    return reading


def is_deep(text: str) -> bool:
    """Whether arrays and objects in JSON ``text`` are nested deeper than MAX_NESTING. What is no JSON may seem so."""
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return False
    steps = (1 if bracket in "[{" else -1 for bracket in _BRACKET.findall(_STRING.sub("", text)))
    return any(depth > MAX_NESTING for depth in accumulate(steps))


def _refuse_constant(token: str) -> Decimal:
    return Decimal(token)


def _read_document(document: Mapping[str, Any], reading: Reading, source_id: str, legacy: bool) -> None:
    event = reading.event
    for name in rules.REQUIRED_KEYS:
        if name not in document and name != "correlation_id":
            reading.reject("missing_field", name)
    _read_envelope(document, reading)
    event["legacy"] = legacy
    if "environment" not in document and isinstance(event.get("connector_name"), str):
        assumed = environments.of_connector(event["connector_name"])
        event["environment"] = environments.of_dry_run(assumed, event.get("dry_run"))
    native_id = event.get("event_id", "")
    if native_id:
        event["event_id"] = identity.canonical(native_id) or identity.derive(source_id, "envelope", native_id)
        if event["event_id"] != native_id:
            event["native_event_id"] = native_id
    name = event.get("event_type", "")
    event_type = event_types().get(name)
    if event_type is None or event_type.name == "unmapped_record":
        if name:
            reading.reject("unknown_event_type", name[:200])
        elif "event_type" in document:
            reading.reject("empty_field", "event_type")
        return
    reading.event_type = event_type
    reading.violations += rules.envelope_violations(event, event_type)
    if "payload" in document:
        _read_payload(document["payload"], event_type, reading)
    reading.violations += rules.too_long(event, event_type)


def _read_envelope(document: Mapping[str, Any], reading: Reading) -> None:
    event = reading.event
    for name, declared in envelope_fields().items():
        if name not in document or name in _STAMPED:
            if name not in _REQUIRED:
                event[name] = declared.new_default()
            elif name == "correlation_id":
                event[name] = ""
        elif name == "ts_utc":
            try:
                event[name] = times.parse(document[name])
            except times.TimeError as error:
                reading.reject(error.code, f"ts_utc: {error}")
        else:
            value = document[name]
            if value is None:
                value = "" if name in _REQUIRED else declared.new_default()
            try:
                event[name] = _convert(value, declared, name, [], {})
            except _ValueRefused as error:
                reading.violations.append(error.violation)


def _read_payload(payload: Any, event_type: EventType, reading: Reading) -> None:
    if not isinstance(payload, dict):
        reading.reject("wrong_type", f"payload is a JSON {type(payload).__name__}, not an object")
        return
    rounded: list[str] = []
    extra: dict[str, Any] = {}
    typed: dict[str, Any] = {}
    refused: set[str] = set()
    for name, declared in payload_fields(event_type.name).items():
        if payload.get(name) is None:
            if name not in event_type.required:
                typed[name] = declared.new_default()
            continue
        try:
            typed[name] = _convert(payload[name], declared, name, rounded, extra)
        except _ValueRefused as error:
            reading.violations.append(error.violation)
            refused.add(name)
    reading.violations += [
        violation
        for violation in rules.payload_violations(typed, event_type)
        if not (violation.code == "missing_payload_key" and violation.detail in refused)
        and not (violation.code == "price_required" and "price" in refused)
    ]
    extra |= {key: value for key, value in payload.items() if key not in event_type.payload_keys}
    reading.event["precision_rounded"] = rounded
    if extra:
        try:
            reading.event["extra"] = _json(extra)
            reading.event["extra"].encode()
        except UnicodeEncodeError:
            reading.reject("text_invalid", "an additional payload key")
        except _TooDeep:
            reading.reject("not_json", f"an additional payload key is {TOO_DEEP}")
    reading.event["payload"] = typed


class _TooDeep(Exception):
    """A value is nested deeper than MAX_NESTING."""


def _json(value: Any, **form: Any) -> str:
    """``value`` as JSON text. Raises _TooDeep."""
    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False, **form)
    except RecursionError:
        raise _TooDeep from None
    if is_deep(text):
        raise _TooDeep
    return text


def _plain(value: Any) -> str:
    """A Decimal that no schema knows, as text: finite ones plain, others as written."""
    return numbers.text(value) if value.is_finite() and abs(value.adjusted()) < 100 else str(value)


class _ValueRefused(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.violation = Violation(code, detail)


def _convert(value: Any, declared: Field, path: str, rounded: list[str], extra: dict[str, Any]) -> Any:
    """``value`` as fastavro writes it as ``declared``; unknown keys of records go to ``extra``."""
    if value is None and declared.nullable:
        return None
    what = declared.what
    if what == "string" and isinstance(value, str):
        return _text(value, path)
    if what == "decimal":
        return _decimal(value, path, rounded)
    if what == "timestamp-micros":
        try:
            return times.parse(value)
        except times.TimeError as error:
            raise _ValueRefused(error.code, f"{path}: {error}") from None
    if what == "json":
        return _document(value, path)
    if what == "record" and isinstance(value, dict):
        return _record(value, declared, path, rounded, extra)
    if what == "array" and isinstance(value, list):
        return _array(value, declared, path, rounded, extra)
    if what == "map" and isinstance(value, dict):
        return _map(value, declared, path, rounded, extra)
    if what == "boolean" and isinstance(value, bool):
        return value
    if what in ("int", "long") and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _integer(value, what, path)
    raise _ValueRefused("wrong_type", f"{path} is a JSON {type(value).__name__}, expected {what}")


def _record(value: dict[str, Any], declared: Field, path: str, rounded: list[str], extra: dict[str, Any]) -> Any:
    typed: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, inside in declared.fields.items():
        if value.get(name) is not None:
            typed[name] = _convert(value[name], inside, f"{path}.{name}", rounded, unknown)
        elif inside.nullable or inside.has_default:
            typed[name] = inside.new_default()
        else:
            raise _ValueRefused("missing_payload_key", f"{path}.{name}")
    unknown |= {key: inner for key, inner in value.items() if key not in declared.fields}
    if unknown:
        extra[_last(path)] = unknown
    return typed


def _array(value: list[Any], declared: Field, path: str, rounded: list[str], extra: dict[str, Any]) -> list[Any]:
    assert declared.inner is not None
    typed = []
    unknown: list[Any] = []
    for number, item in enumerate(value):
        left: dict[str, Any] = {}
        typed.append(_convert(item, declared.inner, f"{path}[{number}]", rounded, left))
        unknown.append(left.get(f"{_last(path)}[{number}]", {}))
    if any(unknown):
        extra[_last(path)] = unknown
    return typed


def _map(
    value: dict[str, Any], declared: Field, path: str, rounded: list[str], extra: dict[str, Any]
) -> dict[str, Any]:
    assert declared.inner is not None
    typed = {}
    unknown: dict[str, Any] = {}
    for key, item in value.items():
        left: dict[str, Any] = {}
        typed[_text(key, path)] = _convert(item, declared.inner, f"{path}.{key}", rounded, left)
        if left:
            unknown[key] = left.popitem()[1]
    if unknown:
        extra[_last(path)] = unknown
    return typed


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _document(value: Any, path: str) -> str:
    """JSON of any shape, as text."""
    try:
        return _text(_json(value, separators=(",", ":")), path)
    except _TooDeep:
        raise _ValueRefused("not_json", f"{path} is {TOO_DEEP}") from None


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _ValueRefused("text_invalid", path) from None
    return value


def _decimal(value: Any, path: str, rounded: list[str]) -> Decimal:
    try:
        number, was_rounded = numbers.read(value)
    except numbers.NumberError as error:
        raise _ValueRefused(error.code, f"{path}: {error}") from None
    if was_rounded:
        rounded.append(path)
    return number


def _integer(value: int | Decimal, kind: str, path: str) -> int:
    limit = 2**31 if kind == "int" else 2**63
    if isinstance(value, Decimal) and (not value.is_finite() or value.adjusted() > 20 or value != int(value)):
        raise _ValueRefused("wrong_type", f"{path} is not a whole number")
    if not -limit <= value < limit:
        raise _ValueRefused("number_out_of_range", f"{path} does not fit an Avro {kind}")
    return int(value)
