"""A line of canonical JSON → a typed event, or an UnmappedRecord with the line: pure, never raises (S3-01…S3-06)."""

from __future__ import annotations

from dataclasses import dataclass

from tradetape.producers import events, unmapped
from tradetape.producers.events import Event
from tradetape.schemas import envelope_json, identity
from tradetape.schemas.rules import Violation

SYSTEM = "envelope"
ADAPTER = "envelope@1"
STREAM = "lines"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the lines come from: ``ingest_source`` is file or stdin, ``location`` the file's name."""

    source_id: str
    ingest_source: str
    location: str
    legacy: bool = False


def from_line(
    origin: Origin,
    line: bytes,
    number: int,
    *,
    length: int | None = None,
    fragment: str = "",
) -> tuple[Event, list[Violation]]:
    """The event of line ``number`` (from 1), and the rules that it breaks.

    ``length`` is given where ``line`` is only the beginning of a longer one. ``fragment`` says why the bytes are no
    whole line; they go out without a position, because the whole line may come later.
    """
    if length is not None:
        reading = envelope_json.Reading()
        reading.reject("line_too_long", f"{length} bytes; the largest event is {envelope_json.MAX_LINE_BYTES}")
    else:
        reading = envelope_json.read(line, source_id=origin.source_id, legacy=origin.legacy)
    stamps = {
        "source_system": SYSTEM,
        "source_id": origin.source_id,
        "source_stream": STREAM,
        "source_position": None if fragment else number,
        "adapter": ADAPTER,
        "ingest_source": origin.ingest_source,
        "legacy": origin.legacy,
    }
    if reading.ok and not fragment:
        return reading.event | stamps | {"native": line}, []
    fields = reading.event | stamps
    if fragment or not fields.get("event_id"):
        key = (str(number), line.hex()) if fragment else (str(number),)
        fields["event_id"] = identity.derive(origin.source_id, STREAM, *key)
    event = unmapped.unmapped(
        format=envelope_json.FORMAT,
        error=": ".join(part for part in (fragment, unmapped.explain(reading.violations)) if part),
        native=line,
        fields=fields,
        location=origin.location,
        line=number,
        native_bytes=length,
    )
    return event, reading.violations or [Violation("not_json", fragment)]


def ended(
    origin: Origin,
    instance: str,
    *,
    environment: str,
    lines: int,
    counts: dict[str, int],
    ts_utc: int,
) -> Event:
    """The control event that closes ``instance``: its lines and the events they became, from the start."""
    event_id = identity.derive(origin.source_id, "source_ended", instance, str(lines))
    event = events.envelope(
        event_id=event_id,
        event_type="source_ended",
        ts_utc=ts_utc,
        producer=SYSTEM,
        instance_name=instance,
        controller_id="",
        connector_name="",
        trading_pair="",
        correlation_id=event_id,
        source_system=SYSTEM,
        source_id=origin.source_id,
        adapter=ADAPTER,
        environment=environment,
        ingest_source=origin.ingest_source,
    )
    return event | {"payload": {"rows": {STREAM: lines}, "events": dict(counts)}}
