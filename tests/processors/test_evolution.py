"""What only a newer writer's schema has comes through as the writer means it, at every depth (P-05)."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from tests.folding import INGEST, SCHEMAS, Partition
from tests.processors.events import created

from tradetape.processors import core
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.schemas import codec
from tradetape.schemas.catalogue import Schema, event_types
from tradetape.schemas.extension import extended

pytestmark = pytest.mark.req("P-05")

NEWER = 901
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
MOMENT = {"type": "long", "logicalType": "timestamp-micros"}
DOCUMENT = {"type": "string", "logicalType": "json"}


def nullable(name: str, kind: Any) -> Schema:
    return {"name": name, "type": ["null", kind], "default": None}


DESK = {
    "type": "record",
    "name": "Desk",
    "fields": [nullable("name", "string"), nullable("since", MOMENT), nullable("limit", DECIMAL)],
}
ADDED = [
    nullable("arrival_price", DECIMAL),
    nullable("decided_at", MOMENT),
    nullable("notes", DOCUMENT),
    nullable("desk", DESK),
]


def with_fields(schema: Any, record: str, added: list[Schema]) -> Any:
    """``schema`` with ``added`` at the end of the record called ``record``."""
    if isinstance(schema, list):
        return [with_fields(each, record, added) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: with_fields(value, record, added) for key, value in schema.items()}
    if made.get("name") == record and "fields" in made:
        made["fields"] = [*made["fields"], *added]
    return made


def judged(newer: Schema, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of the verdict on an order of ``newer``'s writer, by this code."""
    event = created("o1")
    value = codec.Encoder(newer, NEWER).encode({**event, "payload": {**event["payload"], **payload}})
    output = core.process(
        RawRecord(0, 0, INGEST, value), Partition().state, {**SCHEMAS, NEWER: WriterSchema(newer)}.get
    )
    assert output.audited["disposition"] == "accepted", output.audited["reason_detail"]
    found: dict[str, Any] = json.loads(output.audited["payload"])
    return found


def test_new_keys_are_written_as_those_that_are_known() -> None:
    newer = with_fields(event_types()["order_created"].schema, "OrderCreatedPayload", ADDED)
    moment = 1_790_000_000_123_456
    payload = judged(
        newer,
        {
            "arrival_price": Decimal("2.50"),
            "decided_at": moment,
            "notes": '{"why": ["gap", 1]}',
            "desk": {"name": None, "since": moment, "limit": Decimal("7")},
        },
    )
    assert payload["client_order_id"] == "o1"
    assert payload["arrival_price"] == "2.5"
    assert payload["decided_at"] == "2026-09-21T14:13:20.123456Z"
    assert payload["notes"] == {"why": ["gap", 1]}
    assert payload["desk"] == {"since": "2026-09-21T14:13:20.123456Z", "limit": "7"}


def test_new_keys_inside_known_records_are_kept() -> None:
    newer = with_fields(event_types()["order_created"].schema, "SignalContext", ADDED[:2])
    signal = dict.fromkeys(field["name"] for field in _fields(newer, "SignalContext"))
    context = dict.fromkeys(field["name"] for field in _fields(newer, "DecisionContext"))
    signal |= {"system": "S1", "arrival_price": Decimal("1.5"), "decided_at": 1_790_000_000_000_000}
    payload = judged(newer, {"context": {**context, "signal": signal}})
    assert payload["context"] == {
        "signal": {"system": "S1", "arrival_price": "1.5", "decided_at": "2026-09-21T14:13:20.000000Z"}
    }


def _fields(schema: Any, record: str) -> list[Schema]:
    """The fields of the record called ``record`` inside ``schema``."""
    if isinstance(schema, dict) and schema.get("name") == record and "fields" in schema:
        return list(schema["fields"])
    inner = schema if isinstance(schema, list) else list(schema.values()) if isinstance(schema, dict) else []
    return next(filter(None, (_fields(each, record) for each in inner)), [])


def test_an_equal_or_older_writer_changes_nothing() -> None:
    for event_type in event_types().values():
        assert extended(event_type, event_type.schema) is event_type
        older = copy.deepcopy(event_type.schema)
        payload = older["fields"][-1]["type"]
        payload["fields"] = [field for field in payload["fields"] if "default" not in field]
        assert extended(event_type, older) is event_type
