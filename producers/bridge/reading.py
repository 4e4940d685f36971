"""What the bridge believes of what is on its topics: what the processor accepts, by the same contract (S4-06, P-08)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from tradetape.producers.events import TEMPLATE
from tradetape.schemas import codec, rules, topics
from tradetape.schemas.catalogue import EventType, Schema, by_record, output_schema
from tradetape.schemas.compatibility import misreading
from tradetape.schemas.registry import Registry, UnknownSchemaId

_UNMAPPED = "unmapped_record"
"""Evidence, and never an event."""


class _Written:
    """The records of one writer's schema; ``event_type`` is None where they cannot be read as events."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        known = by_record().get(f"{schema.get('namespace', '')}.{schema.get('name', '')}")
        self.event_type: EventType | None = None
        if known is not None and known.name != _UNMAPPED and not misreading(schema, known.schema):
            self.event_type = known

    @cached_property
    def is_alert(self) -> bool:
        """Whether they are the processor's alerts."""
        alerts = output_schema("alerts")
        same = (self._schema.get("namespace"), self._schema.get("name")) == (alerts["namespace"], alerts["name"])
        return same and not misreading(self._schema, alerts)

    @cached_property
    def decoder(self) -> codec.Decoder:
        return codec.Decoder(self._schema)


class Reader:
    """Reads framed values by the schemas of the registry. Raises TradetapeError where that does not answer."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        alerts = output_schema("alerts")
        # Ahead: the first kill must not wait for a registry that is away.
        self._known = {registry.look_up(topics.ALERTS, alerts): _Written(alerts)}

    def event_type(self, value: bytes) -> str:
        """The event type that the schema of ``value`` says, empty where it is none; nothing is decoded."""
        written = self._written(value)
        return written.event_type.name if written is not None and written.event_type is not None else ""

    def event(self, value: bytes) -> dict[str, Any] | None:
        """The event in ``value`` with every key that this code knows; None where the processor rejects it."""
        written = self._written(value)
        if written is None or written.event_type is None:
            return None
        found = _decoded(written, value)
        if found is None:
            return None
        defaults = {field["name"]: field.get("default") for field in written.event_type.payload_fields}
        event = {**TEMPLATE, **found, "payload": {**defaults, **found["payload"]}}
        return None if any(rules.violations(event, written.event_type)) else event

    def alert(self, value: bytes) -> dict[str, Any] | None:
        """The alert in ``value``, None where it is none."""
        written = self._written(value)
        return _decoded(written, value) if written is not None and written.is_alert else None

    def _written(self, value: bytes) -> _Written | None:
        try:
            schema_id = codec.schema_id_of(value)
            if schema_id not in self._known:
                self._known[schema_id] = _Written(self._registry.by_id(schema_id))
        except (codec.Undecodable, UnknownSchemaId):
            return None
        return self._known[schema_id]


def _decoded(written: _Written, value: bytes) -> dict[str, Any] | None:
    try:
        return written.decoder.decode(value)
    except codec.Undecodable:
        return None
