"""The records that an event causes on the output topics (design, Verdict)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from tradetape.processors.correlation import ASSERTED, INFERRED, Resolved
from tradetape.processors.findings import CATALOGUE, Finding
from tradetape.processors.reading import RawRecord, Reading
from tradetape.processors.risk import Figures
from tradetape.processors.version import CORE_VERSION
from tradetape.schemas import identity, rules, times, topics
from tradetape.schemas.catalogue import EVENT_VERSION, EventType, Schema, core_type, logical, output_schema
from tradetape.schemas.numbers import text

END = "tt"
PRODUCER = "tradetape"
"""Producer and way in of what the processor itself writes among the events."""

_TEXTS = tuple(
    f["name"] for f in output_schema("audited")["fields"] if f["doc"].startswith("as in the envelope; empty")
)
_NULLABLE = tuple(f["name"] for f in output_schema("audited")["fields"] if isinstance(f["type"], list))
_NOTHING: dict[str, Any] = dict.fromkeys(_TEXTS, "") | dict.fromkeys(_NULLABLE)


def audited(
    raw: RawRecord,
    reading: Reading,
    *,
    disposition: str,
    reasons: Sequence[str] = (),
    reason_detail: str = "",
    link: str = "",
    linked_by: str = "",
    findings: Sequence[Finding] = (),
) -> dict[str, Any]:
    """The verdict on ``raw``: derived_seq 0 of its offset."""
    event = reading.event
    record: dict[str, Any] = dict(_NOTHING)
    if event is not None:
        for name in _TEXTS:
            record[name] = event[name] or ""
        if reading.violations:
            _shorten(record)
        for name in _NULLABLE:
            record[name] = event[name]
    record.update(
        disposition=disposition,
        raw_partition=raw.partition,
        raw_offset=raw.offset,
        derived_seq=0,
        reasons=reasons,
        reason_detail=reason_detail,
        link=link,
        linked_by=linked_by,
        findings=[item._asdict() for item in findings],
        core_version=CORE_VERSION,
        ingest_ts_utc=raw.timestamp,
        ts_utc=0,
        correlation_id="",
        payload="{}",
        native=b"",
        raw_schema_id=reading.schema_id,
        raw=raw.value,
        _end=END,
    )
    if event is not None and reading.event_type is not None:
        record["ts_utc"] = event["ts_utc"] if disposition == "accepted" else _storable(event["ts_utc"])
        record["correlation_id"] = event["correlation_id"][: rules.MAX_TEXT]
        record["payload"] = reading.payload
        native = event["native"] or b""
        if disposition == "rejected" and len(native) <= room(raw) - len(reading.payload.encode()):
            record["native"] = native
    return record


def room(raw: RawRecord) -> int:
    """Bytes that an audited record has for payload and native beside the original ones."""
    return topics.MAX_AUDITED_BYTES - topics.COLUMNS_BYTES - len(raw.value)


def _shorten(record: dict[str, Any]) -> None:
    """Cut texts of a rejected event to what their columns may have; the original bytes have all of them."""
    for name in _TEXTS:
        record[name] = record[name][: rules.MAX_TEXT]


LINK_RESOLVED = "link_resolved"
"""Type of a derived record: in which chain an earlier event is."""
TRADING_STATE = "trading_state"
"""Type of a derived record: the state of a bot after an event that changed it (S2-03).

Both are in no catalogue, so no producer may emit them."""

_OF_INSTANCE = ("environment", "account", "instance_name", "controller_id", "connector_name", "trading_pair", "ts_utc")


def link_resolved(raw: RawRecord, event: Mapping[str, Any], resolved: Resolved) -> dict[str, Any]:
    """What ``event`` says of the link of an earlier one, which it supersedes: place and time are those of ``event``."""
    payload = {
        "event_id": resolved.event_id,
        "link_before": resolved.link,
        "link_after": INFERRED,
        "correlation_id_before": resolved.correlation_id,
        "linked_by": resolved.linked_by,
    }
    return _derived(
        raw,
        event,
        LINK_RESOLVED,
        event_id=identity.derive(LINK_RESOLVED, resolved.event_id, resolved.chain),
        correlation_id=resolved.chain,
        link=INFERRED,
        linked_by=resolved.linked_by,
        supersedes=resolved.event_id,
        findings=[item._asdict() for item in resolved.findings()],
        payload=orjson.dumps(payload).decode(),
    )


def trading_state(raw: RawRecord, event: Mapping[str, Any], state: str) -> dict[str, Any]:
    """The bot's whole ``state``, as JSON, after ``event``."""
    return _derived(
        raw,
        event,
        TRADING_STATE,
        event_id=identity.derive(TRADING_STATE, event["event_id"]),
        correlation_id=event["correlation_id"],
        link=ASSERTED,
        payload=state,
    )


def _derived(raw: RawRecord, event: Mapping[str, Any], event_type: str, **fields: Any) -> dict[str, Any]:
    """A record that the processor writes among the events, caused by ``event``."""
    record: dict[str, Any] = dict(_NOTHING)
    record.update({name: event[name] for name in _OF_INSTANCE})
    record.update(
        disposition="accepted",
        raw_partition=raw.partition,
        raw_offset=raw.offset,
        derived_seq=0,
        reasons=(),
        reason_detail="",
        linked_by="",
        findings=(),
        core_version=CORE_VERSION,
        ingest_ts_utc=raw.timestamp,
        event_type=event_type,
        event_version=EVENT_VERSION,
        producer=PRODUCER,
        ingest_source=PRODUCER,
        causation_id=event["event_id"],
        native=b"",
        raw_schema_id=-1,
        raw=b"",
        _end=END,
    )
    record.update(fields)
    return record


def _storable(ts_utc: int) -> int:
    """A rejected event's time, 0 where it is none that a column of times can hold."""
    return ts_utc if times.EARLIEST <= ts_utc < times.LATEST else 0


def payload_json(event: Mapping[str, Any], event_type: EventType) -> str:
    """The payload as one JSON object: nulls left out, decimals as text, times as ISO-8601, unknown keys merged in."""
    payload = {key: value for key, value in event["payload"].items() if value is not None}
    for name in event_type.times:
        if name in payload:
            payload[name] = _moment(payload[name])
    for name in event_type.documents:
        if name in payload:
            payload[name] = _document(payload[name])
    for declared in event_type.nested:
        name = declared["name"]
        if name in payload:
            payload[name] = _nested(payload[name], declared["type"])
    known = orjson.dumps(payload, default=_plain)
    return _merge(payload, known, event["extra"]).decode() if event["extra"] else known.decode()


def _moment(micros: int) -> int | str:
    return times.text(micros) if times.EARLIEST <= micros < times.LATEST else micros


def _document(text: str) -> Any:
    """JSON text as it stands, or as a string where a foreign producer wrote none."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.Fragment(text)


def _nested(value: Any, avro_type: Schema) -> Any:
    core = core_type(avro_type)
    if isinstance(value, int) and logical(core) == "timestamp-micros":
        return _moment(value)
    if isinstance(value, list):
        return [_nested(inner, core["items"]) for inner in value]
    if isinstance(value, dict) and "values" in core:
        return {key: _nested(inner, core["values"]) for key, inner in value.items()}
    if isinstance(value, dict):
        fields = core["fields"]
        return {
            field["name"]: _nested(value[field["name"]], field["type"])
            for field in fields
            if value.get(field["name"]) is not None
        }
    return value


def _merge(payload: dict[str, Any], known: bytes, extra: str) -> bytes:
    try:
        unknown = orjson.loads(extra)
    except orjson.JSONDecodeError:
        unknown = None
    if not isinstance(unknown, dict):
        return orjson.dumps({**payload, "extra": extra}, default=_plain)
    if unknown.keys() & payload.keys():
        try:
            return orjson.dumps(_joined(unknown, payload), default=_plain)
        except orjson.JSONEncodeError:  # nested deeper than orjson writes
            return orjson.dumps({**payload, "extra": extra}, default=_plain)
    if len(known) == len(b"{}") or not unknown:
        return known if not unknown else extra.encode()
    # Spliced as text: numbers that no schema knows stay as they were written.
    return known[:-1] + b"," + extra.strip()[1:].encode()


def _joined(unknown: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Both, all the way down; where both have a value, the known one."""
    joined = {**unknown, **known}
    for key in unknown.keys() & known.keys():
        if isinstance(unknown[key], dict) and isinstance(known[key], dict):
            joined[key] = _joined(unknown[key], known[key])
    return joined


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return text(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(type(value).__name__)


def _context(raw: RawRecord, event: Mapping[str, Any]) -> dict[str, Any]:
    """What every output says of its event; its ``derived_seq`` is the core's to give."""
    return {
        "raw_partition": raw.partition,
        "raw_offset": raw.offset,
        "derived_seq": 0,
        "event_id": event["event_id"],
        "event_type": event["event_type"],
        "correlation_id": event["correlation_id"],
        "ts_utc": event["ts_utc"],
        "ingest_ts_utc": raw.timestamp,
        "core_version": CORE_VERSION,
        "environment": event["environment"],
        "account": event["account"],
        "instance_name": event["instance_name"],
        "_end": END,
    }


def risk_figure(raw: RawRecord, event: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    """The figures after ``event``."""
    record = _context(raw, event)
    record.update(figures._asdict())
    record["connector_name"] = event["connector_name"]
    return record


def portfolio_delta(
    raw: RawRecord, event: Mapping[str, Any], quote_asset: str, change: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``event`` changes in one portfolio, in ``quote_asset``."""
    record = _context(raw, event)
    record.update(change, quote_asset=quote_asset)
    return record


def alert(raw: RawRecord, event: Mapping[str, Any], found: Finding) -> dict[str, Any]:
    """A finding that a person should look at now (S0-10)."""
    record = _context(raw, event)
    record.update(
        severity=found.severity,
        code=found.code,
        subject=found.subject,
        message=f"{event['instance_name']}: {CATALOGUE[found.code].meaning} ({found.subject})",
        detail=found.detail,
    )
    return record
