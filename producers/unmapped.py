"""UnmappedRecord: what could not become a typed event still travels, with its bytes (design, Contract)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tradetape.producers import events
from tradetape.producers.emitter import Emits, EventTooLarge
from tradetape.producers.events import Event
from tradetape.schemas import envelope_json
from tradetape.schemas.catalogue import EVENT_VERSION
from tradetape.schemas.rules import Violation

TYPE = "unmapped_record"

MAX_NATIVE_BYTES = envelope_json.MAX_LINE_BYTES
"""Native bytes of one record that fit an event together with its envelope."""

MAX_FIELD_BYTES = 1024
"""Longest envelope text kept: 27 of them, the error and the location stay under the 64 KiB left for them."""

MAX_ERROR = 2000

_OWN = frozenset({"native", "extra", "precision_rounded", "event_type", "event_version"})


def unmapped(
    *,
    format: str,
    error: str,
    native: bytes,
    fields: Mapping[str, Any],
    location: str = "",
    line: int | None = None,
    native_bytes: int | None = None,
) -> Event:
    """The UnmappedRecord of ``native``.

    ``fields`` are the envelope fields that parsed (typed); those that are not there become empty, ``ts_utc`` 0.
    ``native`` longer than MAX_NATIVE_BYTES is cut; ``native_bytes`` then tells the original length (pass it where
    the caller cut already).
    """
    if native_bytes is None and len(native) > MAX_NATIVE_BYTES:
        native_bytes = len(native)
    kept = {
        name: value
        for name, value in fields.items()
        if name in events.TEMPLATE and name not in _OWN and value is not None and _fits(value)
    }
    event = events.envelope(**kept)
    for name in ("event_id", "producer", "instance_name", "controller_id", "connector_name", "trading_pair"):
        event[name] = event[name] or ""
    event["correlation_id"] = event["correlation_id"] or ""
    event["ts_utc"] = event["ts_utc"] or 0
    said = fields.get("event_type")
    if event["native_type"] is None and isinstance(said, str) and said and _fits(said):
        event["native_type"] = said
    event |= {
        "event_type": TYPE,
        "event_version": EVENT_VERSION,
        "native": native[:MAX_NATIVE_BYTES],
        "payload": {
            "format": format,
            "error": _writable(error)[:MAX_ERROR],
            "location": _writable(location)[-MAX_FIELD_BYTES // 4 :],
            "line": line,
            "native_bytes": native_bytes,
        },
    }
    return event


def explain(violations: Iterable[Violation]) -> str:
    """Broken rules as one line: codes with what was found."""
    return "; ".join(f"{violation.code}: {violation.detail}" for violation in violations)


def send(emitter: Emits, event: Event) -> str:
    """Emit ``event`` and return the type it went out as.

    An event that is too large goes without its native bytes, whose content its fields hold; one that is too
    large even so goes as an UnmappedRecord. Raises what ``emitter.emit`` raises otherwise.
    """
    name: str = event["event_type"]
    try:
        emitter.emit(event, name)
        return name
    except EventTooLarge as error:
        if event["native"] is not None and name != TYPE:
            try:
                emitter.emit({**event, "native": None}, name)
                return name
            except EventTooLarge:
                native = event["native"]
        elif name != TYPE:
            native = events.to_json(event)
        else:
            raise
        emitter.emit(unmapped(format=envelope_json.FORMAT, error=error.message, native=native, fields=event), TYPE)
        return TYPE


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _fits(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    try:
        return len(value.encode()) <= MAX_FIELD_BYTES
    except UnicodeEncodeError:
        return False
