"""Events as a consumer gets them: decoded, with exact numbers, from any topic of the record (S4-05)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, Protocol

from tradetape.producers.consumer.deliveries import Delivery, Record
from tradetape.schemas import times
from tradetape.schemas.catalogue import EventType, Schema, by_record, core_type, event_types, logical
from tradetape.schemas.codec import Decoder, Undecodable, schema_id_of
from tradetape.schemas.compatibility import misreading, unreadable
from tradetape.schemas.extension import extended
from tradetape.schemas.registry import Registry, UnknownSchemaId

ACCEPTED = "accepted"

AUDITED_RECORD = "tradetape.v1.Audited"
NAMESPACE = "tradetape."


class Unreadable(ValueError):
    """The record is no event: no Avro, or of a schema that the registry does not know. No retry can mend that."""


class Holder(Protocol):
    """Where a message came from, and where its acknowledgement goes."""

    def ack(self, message: Message) -> bool:
        """As ``Message.ack``."""

    def fail(self, message: Message, reason: str) -> bool:
        """As ``Message.fail``."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event, handed out.

    ``payload``: decimals are Decimal, times are microseconds since 1970 UTC, JSON documents are parsed, keys without
    a value are left out; a number that no schema knows is as ingestion kept it, text where it has a point. It is the
    same from ``tradetape.audited`` and from ``tradetape.events``. ``ts_utc`` is in microseconds. ``disposition``,
    ``link`` and ``findings`` are the verdict, and empty on a topic without one. ``fields`` are all fields of the
    record. ``partition`` and ``offset`` are the record's place on ``topic``; of a dead letter that is re-driven, all
    three are those of the original. ``attempt`` counts from 1.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    event_type: str
    event_id: str
    correlation_id: str
    causation_id: str
    instance_name: str
    environment: str
    ts_utc: int
    payload: Mapping[str, Any]
    disposition: str
    link: str
    findings: tuple[Mapping[str, Any], ...]
    fields: Mapping[str, Any] = field(repr=False)
    attempt: int = 1
    delivery: Delivery | None = field(default=None, repr=False, compare=False)
    holder: Holder | None = field(default=None, repr=False, compare=False)

    def ack(self) -> bool:
        """Done with: its offset may be committed.

        False where that no longer counts, because the processing timeout is over or the partition went to another
        member: the message comes again, here or there.
        """
        return self.holder is not None and self.holder.ack(self)

    def fail(self, reason: str) -> bool:
        """Not done: hand it out again after a pause, or write a dead letter with ``reason`` if it was the last try.

        False as for ``ack``.
        """
        return self.holder is not None and self.holder.fail(self, reason)

    def handed_out(self, delivery: Delivery, holder: Holder) -> Message:
        """This message as the content of ``delivery``."""
        return replace(self, attempt=delivery.attempt, delivery=delivery, holder=holder)


Filter = Callable[[Message], bool]


class Reads(Protocol):
    """From a record to a message."""

    def read(self, record: Record) -> Message | None:
        """The message in ``record``, None where it is to be passed over. Raises Unreadable, TradetapeError."""


class _Writer:
    """The records of one writer's schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.decoder = Decoder(schema)

    @cached_property
    def event_type(self) -> EventType | None:
        """The event type as the writer has it, with payload fields that are new here; None where it is none."""
        known = by_record().get(self.decoder.record)
        if known is None or unreadable(self._schema) or misreading(self._schema, known.schema):
            return None
        return extended(known, self._schema)


class EventReader:
    """Decodes by schema id, each schema asked of the registry once.

    ``filter`` says which messages are wanted. Records with a verdict other than ``dispositions`` are passed over.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        filter: Filter | None = None,
        dispositions: Collection[str] = (ACCEPTED,),
    ) -> None:
        self._registry = registry
        self._filter = filter
        self._dispositions = frozenset(dispositions)
        self._writers: dict[int, _Writer] = {}

    def read(self, record: Record) -> Message | None:
        """The message in ``record``, None where it is not wanted.

        Raises Unreadable where it is none, TradetapeError where the registry does not answer, and what ``filter``
        raises.
        """
        audited, schema_id, fields = self._decode(record.value)
        if audited and fields["disposition"] not in self._dispositions:
            return None
        try:
            payload = self._payload(fields, audited, schema_id)
        except ValueError as error:
            raise Unreadable(f"payload: {error}") from None
        message = _message(record, fields, payload)
        return message if self._filter is None or self._filter(message) else None

    def _decode(self, value: bytes | None) -> tuple[bool, int, dict[str, Any]]:
        """Whether it is a verdict, the id of the event's schema, and the fields of the record."""
        if value is None:
            raise Unreadable("the record has no value")
        try:
            schema_id = schema_id_of(value)
            decoder = self._writer(schema_id).decoder
            if not decoder.record.startswith(NAMESPACE):
                raise Unreadable(f"{decoder.record} is no record of Tradetape")
            fields = decoder.decode(value)
        except Undecodable as error:
            raise Unreadable(f"undecodable: {error}") from None
        except UnknownSchemaId as error:
            raise Unreadable(f"no schema to read it by: {error}") from None
        audited = decoder.record == AUDITED_RECORD
        return audited, fields.get("raw_schema_id", -1) if audited else schema_id, fields

    def _writer(self, schema_id: int) -> _Writer:
        writer = self._writers.get(schema_id)
        if writer is None:
            writer = self._writers[schema_id] = _Writer(self._registry.by_id(schema_id))
        return writer

    def _payload(self, fields: dict[str, Any], audited: bool, schema_id: int) -> dict[str, Any]:
        """The typed payload. Raises ValueError where there is none to read, TradetapeError as ``read``."""
        if audited:
            payload = _parse(fields["payload"])
        elif "payload" in fields:
            payload = _with_extra(fields["payload"], fields.get("extra"))
        else:
            return dict(fields)
        known = event_types().get(fields.get("event_type") or "")
        if known is not None and not _is_known(payload, known.payload_fields):
            known = self._as_written(known, schema_id)
        return _typed_record(payload, () if known is None else known.payload_fields, parsed=audited)

    def _as_written(self, known: EventType, schema_id: int) -> EventType:
        """``known`` as the writer of ``schema_id`` has it; itself where the registry has no such writer."""
        try:
            written = self._writer(schema_id).event_type if schema_id >= 0 else None
        except UnknownSchemaId:
            return known
        return written if written is not None and written.name == known.name else known


def _message(record: Record, fields: dict[str, Any], payload: Mapping[str, Any]) -> Message:
    return Message(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        event_type=fields.get("event_type") or "",
        event_id=fields.get("event_id") or "",
        correlation_id=fields.get("correlation_id") or "",
        causation_id=fields.get("causation_id") or "",
        instance_name=fields.get("instance_name") or "",
        environment=fields.get("environment") or "",
        ts_utc=fields.get("ts_utc") or 0,
        payload=payload,
        disposition=fields.get("disposition") or "",
        link=fields.get("link") or "",
        findings=tuple(fields.get("findings") or ()),
        fields=fields,
    )


def _parse(text: str) -> Any:
    """JSON with exact numbers: one with a point is a Decimal. Raises ValueError."""
    try:
        return json.loads(text, parse_float=Decimal)
    except (RecursionError, ArithmeticError) as error:
        raise ValueError(f"{type(error).__name__} in JSON of {len(text)} characters") from None


def _is_known(payload: Mapping[str, Any], fields: Collection[Schema]) -> bool:
    """Whether ``fields`` have every key of ``payload``, at every depth."""
    types = {declared["name"]: declared["type"] for declared in fields}
    return all(name in types and _has_keys_of(value, types[name]) for name, value in payload.items())


def _has_keys_of(value: Any, avro_type: Any) -> bool:
    core = core_type(avro_type)
    if not isinstance(core, dict):
        return True
    if isinstance(value, list) and "items" in core:
        return all(_has_keys_of(inner, core["items"]) for inner in value)
    if isinstance(value, dict) and "values" in core:
        return all(_has_keys_of(inner, core["values"]) for inner in value.values())
    return not isinstance(value, dict) or "fields" not in core or _is_known(value, core["fields"])


def _typed_record(record: Mapping[str, Any], fields: Collection[Schema], parsed: bool) -> dict[str, Any]:
    """``record`` without nulls, its values as ``fields`` say. ``parsed``: it is of JSON, where decimals and times are
    text.
    """
    types = {declared["name"]: declared["type"] for declared in fields}
    return {
        name: _typed(value, types[name], parsed) if name in types else value
        for name, value in record.items()
        if value is not None
    }


def _typed(value: Any, avro_type: Any, parsed: bool) -> Any:
    core = core_type(avro_type)
    if isinstance(value, str):
        return _typed_text(value, logical(core), parsed)
    if isinstance(value, list) and isinstance(core, dict) and "items" in core:
        return [_typed(inner, core["items"], parsed) for inner in value]
    if isinstance(value, dict) and isinstance(core, dict) and "values" in core:
        return {key: _typed(inner, core["values"], parsed) for key, inner in value.items()}
    if isinstance(value, dict) and isinstance(core, dict) and "fields" in core:
        return _typed_record(value, core["fields"], parsed)
    return value


def _typed_text(text: str, kind: str | None, parsed: bool) -> Any:
    """Text that does not read as ``kind`` (a rejected event may hold anything) stays text."""
    try:
        if kind == "decimal":
            return Decimal(text)
        if kind == "timestamp-micros":
            return times.parse(text)
        if kind == "json" and not parsed:
            return _parse(text)
    except (InvalidOperation, ValueError):
        return text
    return text


def _with_extra(payload: dict[str, Any], extra: str | None) -> dict[str, Any]:
    """``payload`` with the keys that its schema does not know; where both have a value, the known one."""
    if not extra:
        return payload
    try:
        unknown = _parse(extra)
    except ValueError:
        unknown = None
    return _joined(unknown, payload) if isinstance(unknown, dict) else {**payload, "extra": extra}


def _joined(unknown: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    joined = {**unknown, **known}
    for key in unknown.keys() & known.keys():
        if isinstance(unknown[key], dict) and isinstance(known[key], dict):
            joined[key] = _joined(unknown[key], known[key])
    return joined
