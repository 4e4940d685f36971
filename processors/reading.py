"""From the bytes of a raw record to an event, or to the reasons why it is none (S3-05, P-08)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tradetape.schemas import codec, envelope_json, rules
from tradetape.schemas.catalogue import EventType, Schema, by_record
from tradetape.schemas.compatibility import misreading, unreadable
from tradetape.schemas.extension import extended
from tradetape.schemas.rules import Violation


class RawRecord(NamedTuple):
    """A record of ``tradetape.events`` as Kafka holds it; ``timestamp`` is LogAppendTime in microseconds."""

    partition: int
    offset: int
    timestamp: int
    value: bytes


@dataclass(slots=True)
class Reading:
    """What a raw record says; ``payload`` as JSON. ``event`` is None where the bytes could not be read at all; where
    there are violations beside it, nothing may be remembered by what it says. ``written`` is the event type as the
    writer has it: with payload fields that this code does not know.
    """

    schema_id: int = -1
    event: dict[str, Any] | None = None
    event_type: EventType | None = None
    written: EventType | None = None
    payload: str = "{}"
    violations: list[Violation] = field(default_factory=list)


class WriterSchema:
    """How to read the records of one writer schema: newer ones keep their additional keys, older ones get defaults.

    ``problem`` says why they cannot be read as events, and is empty where they can; ``written`` as in Reading.
    """

    def __init__(self, schema: Schema) -> None:
        self.event_type = by_record().get(f"{schema.get('namespace', '')}.{schema.get('name', '')}")
        self.written = self.event_type
        self.problem = Violation("", "")
        if self.event_type is None:
            self.problem = Violation("unknown_event_type", str(schema.get("name", "")))
            return
        broken = unreadable(schema)
        if broken:
            self.problem = Violation("undecodable", f"writer schema of {self.event_type.record}: {broken}")
            return
        wrong = misreading(schema, self.event_type.schema)
        if wrong:
            self.problem = Violation("type_mismatch", f"writer schema of {self.event_type.record}: {wrong}")
            return
        self.written = extended(self.event_type, schema)
        self._decoder = codec.Decoder(schema, self.event_type.schema)

    def decode(self, value: bytes) -> dict[str, Any]:
        """The event in ``value`` with every key that this code knows. Raises codec.Undecodable."""
        return self._decoder.decode(value)


SchemaById = Callable[[int], WriterSchema | None]
"""The writer schema of an id, None where the registry knows no such id."""


def read(raw: RawRecord, schema_by_id: SchemaById) -> Reading:
    """Decode ``raw``; never raises on what anyone may have written to the topic."""
    reading = Reading()
    try:
        reading.schema_id = codec.schema_id_of(raw.value)
        schema = schema_by_id(reading.schema_id)
        if schema is None:
            reading.violations.append(Violation("unknown_schema_id", f"schema id {reading.schema_id}"))
            return reading
        if schema.problem.code:
            reading.violations.append(schema.problem)
            return reading
        reading.event = schema.decode(raw.value)
        reading.event_type, reading.written = schema.event_type, schema.written
        if reading.event_type is not None and len(raw.value) > rules.MAX_TEXT:  # else no text in it is too long
            reading.violations += rules.too_long(reading.event, reading.event_type)
    except codec.Undecodable as error:
        reading.violations.append(Violation("undecodable", str(error)))
    return reading


def judge(event: dict[str, Any], event_type: EventType) -> list[Violation]:
    """The contract rules that a decoded event breaks, an UnmappedRecord always at least one. How long its texts are was
    asked when it was read.
    """
    if event_type.name != "unmapped_record":
        return [*rules.envelope_violations(event, event_type), *rules.payload_violations(event["payload"], event_type)]
    payload = event["payload"]
    native = event["native"] or b""
    if payload["format"] == envelope_json.FORMAT and payload["native_bytes"] in (None, len(native)):
        again = envelope_json.read(native, source_id=event["source_id"] or "", legacy=event["legacy"])
        if again.violations:
            return again.violations
    elif payload["format"] == envelope_json.FORMAT:
        return [Violation("line_too_long", f"{payload['native_bytes']} bytes")]
    return [Violation("unmapped", payload["error"])]
