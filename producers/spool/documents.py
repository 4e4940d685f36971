"""Envelope documents into a spool and out of it as events (S3-01, P-07).

The writing side runs in the bot's own thread: it refuses at once what is no event at all, and leaves typing, the
contract rules and Avro to the reading side.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

import orjson

from tradetape.producers import events, unmapped
from tradetape.producers.events import Event
from tradetape.schemas import envelope_json, identity, numbers, times
from tradetape.schemas.catalogue import EVENT_VERSION, event_types, kind
from tradetape.schemas.errors import TradetapeError

ToEvent = Callable[[bytes], Event]
"""What becomes of the JSON of one accepted document: a typed event or an UnmappedRecord. Pure; must not raise."""

ToJson = Callable[[Mapping[str, Any]], bytes]
"""Writes a document as one line of JSON; raises TradetapeError for what JSON cannot hold."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_LARGEST_INT = 2**63 - 1
_STAMPS = frozenset({"native", "ingest_source"})


def write(document: Mapping[str, Any]) -> bytes:
    """``document`` as one line of JSON. Decimals become decimal text, exactly.

    Its values are those of parsed JSON: text, int, bool, None, Decimal, float, list, dict. Raises TradetapeError for
    anything else.
    """
    try:
        body = orjson.dumps(document, default=_default)
    except TypeError:
        return _write_odd(document)
    if b"null" in body and _has_non_finite(document):
        return _write_odd(document)  # orjson writes them as null
    return body


def write_drafted(document: Mapping[str, Any]) -> bytes:
    """``write`` for the documents of ``draft``: they hold no float, and their ``ts_utc`` may be a UTC datetime."""
    try:
        return orjson.dumps(document, default=_default)
    except TypeError:
        return _write_odd(document)


def _write_odd(document: Mapping[str, Any]) -> bytes:
    """What orjson refuses and JSON can hold: integers of any length, text with lone surrogates."""
    try:
        return events.to_json(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise TradetapeError(
            f"the event holds what JSON cannot ({error})", hint="pass text, numbers, lists or dicts"
        ) from None


def _default(value: object) -> str:
    if isinstance(value, Decimal):
        return _decimal_text(value)
    raise TypeError(type(value).__name__)


def _decimal_text(value: Decimal) -> str:
    text = str(value)
    if "E" not in text and text[-1] not in "0yN":  # plain already, and no trailing zero, Infinity or NaN
        return text
    return numbers.text(value) if value.is_finite() and abs(value.adjusted()) < 100 else str(value)


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(_has_non_finite(inner) for inner in value.values())
    return isinstance(value, list | tuple) and any(_has_non_finite(inner) for inner in value)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Payload keys of a type, those that need more than a look apart."""

    known: frozenset[str]
    times: frozenset[str]
    integers: frozenset[str]


@cache
def _keys(event_type: str) -> _Keys:
    of = event_types()[event_type]
    integers = (field["name"] for field in of.payload_fields if kind(field["type"]) in ("int", "long"))
    moments = frozenset(of.times)
    return _Keys(of.payload_keys, moments, frozenset(integers) - moments)


def draft(event_type: str, fields: Event, context: Mapping[str, Any], payload: Mapping[str, Any]) -> Event:
    """``fields`` made the document of an event of a bot, for ``write_drafted``, without checking the contract rules.

    ``fields`` are the envelope fields, in JSON values but for ``ts_utc``; ``context`` those that the bot gave. Raises
    TradetapeError for floats in keys that the schema knows and for values that JSON cannot hold, TypeError for unknown
    envelope fields.
    """
    fields["event_type"] = event_type
    fields["event_version"] = EVENT_VERSION
    if context:
        fields |= _context(context)
    fields["ts_utc"] = _time_text(fields["ts_utc"])
    fields["payload"] = _payload(event_type, payload)
    return fields


def event_id_of(document: Mapping[str, Any]) -> str:
    """The id under which the event of ``document`` is on record (S3-01)."""
    native: str = document["event_id"]
    if _UUID.fullmatch(native):
        return native
    return identity.canonical(native) or identity.derive(_source_id(document), "envelope", native)


def _source_id(document: Mapping[str, Any]) -> str:
    found = document.get("source_id") or document.get("producer")
    return found if isinstance(found, str) else ""


def _time_text(value: Any) -> Any:
    if type(value) is datetime and value.tzinfo is UTC:
        return value  # orjson writes the same text in a third of the time
    if isinstance(value, datetime):
        return value.isoformat()
    if type(value) is int and times.EARLIEST <= value < times.LATEST:
        return times.text(value)
    return value


def _context(context: Mapping[str, Any]) -> dict[str, Any]:
    unknown = context.keys() - events.TEMPLATE.keys()
    if unknown:
        raise TypeError(f"no envelope field: {', '.join(sorted(unknown))}")
    if stamps := _STAMPS & context.keys():
        raise TradetapeError(
            f"{', '.join(sorted(stamps))} cannot be given to a recorder with a spool",
            hint="leave it out: the spool writes it",
        )
    return {name: value for name, value in events.plain_payload("", context).items() if value is not None}


def _payload(event_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    keys = _keys(event_type)
    plain: dict[str, Any] = {}
    for name, value in payload.items():
        of = type(value)
        if type(name) is not str:
            return _odd_payload(event_type, payload, keys)
        if of is str or of is bool:
            plain[name] = value
        elif value is None:
            if name not in keys.known:
                plain[name] = None
        elif of is int and name not in keys.times and -_LARGEST_INT <= value <= _LARGEST_INT:
            plain[name] = value
        elif of is Decimal and name not in keys.integers:
            plain[name] = _decimal_text(value)
        else:
            return _odd_payload(event_type, payload, keys)
    return plain


def _odd_payload(event_type: str, payload: Mapping[str, Any], keys: _Keys) -> dict[str, Any]:
    plain = events.plain_payload(event_type, payload)
    for name in keys.integers & plain.keys():
        value = plain[name]
        if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 20 and value == int(value):
            plain[name] = int(value)
    return plain


def to_event(body: bytes, *, ingest_source: str = "sdk", keep_native: bool = False, control: bool = False) -> Event:
    """The event of a document's JSON: typed where it keeps the contract, else an UnmappedRecord with ``body``.

    ``keep_native`` keeps ``body`` with a typed event too. Control types are for Tradetape's own documents.
    """
    try:
        document = json.loads(body, parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError, InvalidOperation) as error:
        return _unmapped(body, f"not_json: {str(error)[:200]}", {}, ingest_source)
    if not isinstance(document, dict):
        return _unmapped(body, f"not_an_object: a JSON {type(document).__name__}", {}, ingest_source)
    reading = envelope_json.read_document(document, source_id=_source_id(document))
    if not reading.ok:
        return _unmapped(body, unmapped.explain(reading.violations), reading.event, ingest_source)
    if reading.event_type is not None and reading.event_type.control and not control:
        return _unmapped(body, f"{reading.event_type.name} is Tradetape's own to write", reading.event, ingest_source)
    return reading.event | {"ingest_source": ingest_source, "native": body if keep_native else None}


def _unmapped(body: bytes, error: str, fields: Mapping[str, Any], ingest_source: str) -> Event:
    return unmapped.unmapped(
        format=envelope_json.FORMAT,
        error=error,
        native=body,
        fields={**fields, "ingest_source": ingest_source},
        location=ingest_source,
    )
