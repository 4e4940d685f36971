"""Building events: every envelope field there, payload typed and checked under the contract rules (S3-01, S3-04)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from tradetape.schemas import envelope_json, numbers, times
from tradetape.schemas.catalogue import EVENT_VERSION, envelope_schema, event_types
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.rules import Violation

Event = dict[str, Any]

TEMPLATE: Mapping[str, Any] = {
    declared["name"]: declared.get("default", "") for declared in envelope_schema()["fields"]
}
"""Every envelope field with its default; empty for those that have none."""

MAX_DEPTH = 64
MAX_INT_BITS = 4096
"""Longer integers cannot be written as decimal text (Python's limit is 4,300 digits)."""


class EventRefused(TradetapeError):
    """The values break contract rules; ``violations`` says which, ``document`` is what was meant."""

    def __init__(self, event_type: str, violations: list[Violation], document: Mapping[str, Any]) -> None:
        found = "; ".join(f"{violation.code}: {violation.detail}" for violation in violations)
        super().__init__(f"{event_type} breaks the contract: {found}")
        self.violations = violations
        self.document = document


def envelope(**fields: Any) -> Event:
    """All envelope fields: ``fields`` over the defaults. Nothing is checked; raises TypeError for unknown names."""
    unknown = fields.keys() - TEMPLATE.keys()
    if unknown:
        raise TypeError(f"no envelope field: {', '.join(sorted(unknown))}")
    return {**TEMPLATE, "event_version": EVENT_VERSION, "precision_rounded": [], **fields}


def new_event(
    event_type: str,
    *,
    ts_utc: datetime | int | str,
    producer: str,
    instance_name: str,
    payload: Mapping[str, Any],
    event_id: str,
    correlation_id: str,
    controller_id: str = "",
    connector_name: str = "",
    trading_pair: str = "",
    ingest_source: str = "sdk",
    native: bytes | None = None,
    **context: Any,
) -> Event:
    """A full event, ready to emit.

    ``ts_utc`` is an aware datetime, microseconds since 1970 or ISO-8601 text. Decimals of ``payload`` are Decimal,
    int or decimal text; digits past 18 decimals are rounded half-even and named in ``precision_rounded``. Payload
    keys that the schema does not know go to ``extra`` (S3-06). ``context`` takes the optional envelope fields;
    without ``environment`` the connector's name says it.

    Raises EventRefused with every broken rule, TradetapeError for a float where a decimal belongs and for values
    that JSON cannot hold.
    """
    document = {
        "event_id": event_id,
        "event_type": event_type,
        "event_version": EVENT_VERSION,
        "ts_utc": _time_text(ts_utc),
        "producer": producer,
        "instance_name": instance_name,
        "controller_id": controller_id,
        "connector_name": connector_name,
        "trading_pair": trading_pair,
        "correlation_id": correlation_id,
        **{name: _plain(value, name) for name, value in context.items() if value is not None},
        "payload": plain_payload(event_type, payload),
    }
    unknown = document.keys() - TEMPLATE.keys() - {"payload"}
    if unknown:
        raise TypeError(f"no envelope field: {', '.join(sorted(unknown))}")
    reading = envelope_json.read_document(document, source_id=context.get("source_id") or producer)
    if not reading.ok:
        raise EventRefused(event_type, reading.violations, document)
    return reading.event | {"ingest_source": ingest_source, "native": native}


def plain_payload(event_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """``payload`` in the values of parsed JSON. Raises TradetapeError for floats in keys that the schema knows."""
    known = event_types().get(event_type)
    keys = known.payload_keys if known else frozenset()
    moments = known.times if known else ()
    plain: dict[str, Any] = {}
    for name, value in payload.items():
        if not isinstance(name, str):
            raise TradetapeError(f"payload key {name!r} is not text")
        if name in moments and isinstance(value, int | datetime) and not isinstance(value, bool):
            plain[name] = _time_text(value)
        else:
            plain[name] = _plain(value, name, floats=name not in keys)
    return plain


def to_json(document: Mapping[str, Any]) -> bytes:
    """``document`` as one line of canonical JSON: decimals and datetimes as text, times of events as they are."""
    return json.dumps(document, default=_json_default, separators=(",", ":")).encode()


def _json_default(value: object) -> str:
    if isinstance(value, Decimal):
        return numbers.text(value) if value.is_finite() and abs(value.adjusted()) < 100 else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _time_text(value: datetime | int | str) -> Any:
    """ISO-8601 text where ``value`` is a time; else ``value`` itself, for the rules to refuse."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool) and times.EARLIEST <= value < times.LATEST:
        return times.text(value)
    return value


def _plain(value: Any, path: str, *, floats: bool = True, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise TradetapeError(f"{path} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float):
        if not floats:
            raise TradetapeError(f"{path} is a float ({value!r})", hint="pass Decimal or str: a float is not exact")
        return Decimal(repr(value)) if math.isfinite(value) else str(value)
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        raise TradetapeError(f"{path} is an integer of {value.bit_length()} bits")
    if value is None or isinstance(value, str | int | Decimal):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{path}.{k}", floats=floats, depth=depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v, f"{path}[{i}]", floats=floats, depth=depth + 1) for i, v in enumerate(value)]
    raise TradetapeError(f"{path} is a {type(value).__name__}", hint="pass text, numbers, lists or dicts")
