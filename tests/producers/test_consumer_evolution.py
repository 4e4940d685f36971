"""Consumers read what a newer writer says as it means it, from both topics (P-05, S4-05)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.folding import INGEST, SCHEMAS, Partition
from tests.processors.events import created
from tests.processors.test_evolution import ADDED, NEWER, with_fields
from tests.producers.test_consumer_messages import AUDITED, Schemas

from tradetape.processors import core
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.producers.consumer.deliveries import Record
from tradetape.producers.consumer.messages import EventReader, Message
from tradetape.schemas import topics
from tradetape.schemas.catalogue import Schema, event_types
from tradetape.schemas.codec import Encoder

pytestmark = [pytest.mark.req("P-05", "S4-05")]

MOMENT = 1_790_000_000_123_456
KNOWN: Schema = event_types()["order_created"].schema
SIGNAL = {"system": "S1", "arrival_price": Decimal("1.5"), "decided_at": MOMENT}


def records(schema: Schema, payload: dict[str, Any]) -> tuple[bytes, bytes]:
    """An order with ``payload`` by the writer of ``schema``: its event, and the verdict of this code."""
    event = created("o1")
    raw = Encoder(schema, NEWER).encode({**event, "payload": {**event["payload"], **payload}})
    output = core.process(RawRecord(0, 0, INGEST, raw), Partition().state, {**SCHEMAS, NEWER: WriterSchema(schema)}.get)
    return raw, AUDITED.encode(output.audited)


def read(reader: EventReader, topic: str, value: bytes) -> Message:
    message = reader.read(Record(topic, 0, 0, b"bot", value))
    assert message is not None
    return message


def test_new_keys_have_the_types_of_their_writer_from_both_topics() -> None:
    newer = with_fields(with_fields(KNOWN, "OrderCreatedPayload", ADDED), "SignalContext", ADDED[:2])
    raw, audited = records(
        newer,
        {
            "arrival_price": Decimal("2.5"),
            "decided_at": MOMENT,
            "notes": '{"why": 0.5}',
            "desk": {"name": None, "since": MOMENT, "limit": Decimal("7")},
            "context": _whole(newer, "DecisionContext", signal=_whole(newer, "SignalContext", **SIGNAL)),
        },
    )
    for topic, value in ((topics.EVENTS, raw), (topics.AUDITED, audited)):
        schemas = Schemas()
        schemas._by_id[NEWER] = newer
        payload = read(EventReader(schemas), topic, value).payload
        assert payload["client_order_id"] == "o1"
        assert {key: payload[key] for key in ("arrival_price", "decided_at", "notes", "desk", "context")} == {
            "arrival_price": Decimal("2.5"),
            "decided_at": MOMENT,
            "notes": {"why": Decimal("0.5")},
            "desk": {"since": MOMENT, "limit": Decimal("7")},
            "context": {"signal": SIGNAL},
        }


def _whole(schema: Any, record: str, **given: Any) -> dict[str, Any]:
    """A value of ``record`` inside ``schema``, null but for what is ``given``."""
    if isinstance(schema, dict) and schema.get("name") == record and "fields" in schema:
        return dict.fromkeys(field["name"] for field in schema["fields"]) | given
    inner = schema if isinstance(schema, list) else list(schema.values()) if isinstance(schema, dict) else []
    return next(filter(None, (_whole(each, record, **given) for each in inner)), {})


def test_the_registry_is_asked_for_a_verdict_s_writer_only_where_keys_are_new() -> None:
    schemas = Schemas()
    schemas._by_id[NEWER] = KNOWN
    reader = EventReader(schemas)
    read(reader, topics.AUDITED, records(KNOWN, {})[1])
    assert NEWER not in schemas.asked
    newer = with_fields(KNOWN, "OrderCreatedPayload", ADDED)
    schemas._by_id[NEWER] = newer
    for _ in range(2):
        read(reader, topics.AUDITED, records(newer, {"arrival_price": Decimal("0.10")})[1])
    assert schemas.asked.count(NEWER) == 1


def test_a_writer_that_the_registry_has_lost_leaves_new_keys_as_they_are_written() -> None:
    newer = with_fields(KNOWN, "OrderCreatedPayload", ADDED)
    message = read(EventReader(Schemas()), topics.AUDITED, records(newer, {"arrival_price": Decimal("0.10")})[1])
    assert (message.payload["arrival_price"], message.payload["amount_base"]) == ("0.1", Decimal(10))
