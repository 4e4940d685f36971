"""Events as a consumer gets them: decoded, with exact numbers, from any topic of the record (S4-05)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from tradetape.producers.consumer.deliveries import Delivery, Record
from tradetape.schemas import times
from tradetape.schemas.catalogue import core_type, event_types, logical
from tradetape.schemas.codec import Decoder, Undecodable, schema_id_of
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
        self._decoders: dict[int, Decoder] = {}

    def read(self, record: Record) -> Message | None:
        """The message in ``record``, None where it is not wanted.

        Raises Unreadable where it is none, TradetapeError where the registry does not answer, and what ``filter``
        raises.
        """
        decoder, fields = self._decode(record.value)
        audited = decoder.record == AUDITED_RECORD
        if audited and fields["disposition"] not in self._dispositions:
            return None
        try:
            message = _message(record, fields, audited)
        except ValueError as error:
            raise Unreadable(f"payload: {error}") from None
        return message if self._filter is None or self._filter(message) else None

    def _decode(self, value: bytes | None) -> tuple[Decoder, dict[str, Any]]:
        if value is None:
            raise Unreadable("the record has no value")
        try:
            schema_id = schema_id_of(value)
            decoder = self._decoders.get(schema_id)
            if decoder is None:
                decoder = self._decoders[schema_id] = Decoder(self._registry.by_id(schema_id))
            if not decoder.record.startswith(NAMESPACE):
                raise Unreadable(f"{decoder.record} is no record of Tradetape")
            return decoder, decoder.decode(value)
        except Undecodable as error:
            raise Unreadable(f"undecodable: {error}") from None
        except UnknownSchemaId as error:
            raise Unreadable(f"no schema to read it by: {error}") from None


def _message(record: Record, fields: dict[str, Any], audited: bool) -> Message:
    event_type = fields.get("event_type") or ""
    if audited:
        payload = _typed_payload(event_type, _parse(fields["payload"]), parsed=True)
    elif "payload" in fields:
        payload = _typed_payload(event_type, _with_extra(fields["payload"], fields.get("extra")), parsed=False)
    else:
        payload = dict(fields)
    return Message(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        event_type=event_type,
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


def _typed_payload(event_type: str, payload: Mapping[str, Any], *, parsed: bool) -> dict[str, Any]:
    known = event_types().get(event_type)
    types = {declared["name"]: declared["type"] for declared in known.payload_fields} if known else {}
    return {
        name: _typed(value, types[name], parsed) if name in types else value
        for name, value in payload.items()
        if value is not None
    }


def _typed(value: Any, avro_type: Any, parsed: bool) -> Any:
    """``value`` as ``avro_type`` says. ``parsed``: it comes out of JSON, where decimals and times are text."""
    core = core_type(avro_type)
    if isinstance(value, str):
        return _typed_text(value, logical(core), parsed)
    if isinstance(value, list) and isinstance(core, dict) and "items" in core:
        return [_typed(inner, core["items"], parsed) for inner in value]
    if isinstance(value, dict) and isinstance(core, dict) and "values" in core:
        return {key: _typed(inner, core["values"], parsed) for key, inner in value.items()}
    if isinstance(value, dict) and isinstance(core, dict) and "fields" in core:
        types = {declared["name"]: declared["type"] for declared in core["fields"]}
        return {
            key: _typed(inner, types[key], parsed) if key in types else inner
            for key, inner in value.items()
            if inner is not None
        }
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
