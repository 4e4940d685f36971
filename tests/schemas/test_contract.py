"""The catalogue, the codec and the compatibility check."""

from __future__ import annotations

import copy
import re
from typing import Any

import fastavro
import pytest

from tradetape.schemas import codec, rules, topics
from tradetape.schemas.catalogue import OUTPUTS, EventType, by_record, envelope_schema, event_types, output_schema
from tradetape.schemas.compatibility import logical_changes
from tradetape.schemas.registry import subject_name, subjects

TYPES = list(event_types().values())
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


@pytest.mark.req("S3-01")
def test_the_envelope_has_the_documents_fields_first() -> None:
    names = [field["name"] for field in envelope_schema()["fields"]]
    assert [*names[:10], "payload"] == list(rules.REQUIRED_KEYS)


@pytest.mark.parametrize("event_type", TYPES, ids=lambda event_type: event_type.name)
def test_catalogue_and_schema_agree(event_type: EventType) -> None:
    fastavro.parse_schema(copy.deepcopy(event_type.schema))
    words = re.findall("[A-Z][a-z]+", event_type.record.rpartition(".")[2])
    assert "_".join(words).lower() == event_type.name
    assert event_type.scope in rules.SCOPES
    assert all("doc" in field for field in event_type.payload_fields)
    assert by_record()[event_type.record] is event_type
    for field in [*envelope_schema()["fields"], *event_type.payload_fields]:
        nullable = isinstance(field["type"], list)
        assert not nullable or (field["type"][0] == "null" and field["default"] is None)


def test_subjects_are_named_by_topic_and_record() -> None:
    names = [subject.name for subject in subjects()]
    assert len(set(names)) == len(names) == len(TYPES) + len(OUTPUTS)
    created = event_types()["order_created"].schema
    assert subject_name(topics.EVENTS, created) == "tradetape.events-tradetape.v1.OrderCreated"
    assert all(output_schema(name)["fields"][-1]["name"] == "_end" for name in ("audited", "risk", "alerts"))


def test_framing() -> None:
    assert codec.schema_id_of(b"\x00\x00\x00\x01\x02body") == 258
    for value in (b"", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00\x01x"):
        with pytest.raises(codec.Undecodable):
            codec.schema_id_of(value)


@pytest.mark.req("P-08")
def test_bytes_too_many_and_too_few_do_not_decode() -> None:
    schema = {"type": "record", "name": "R", "namespace": "n", "fields": [{"name": "t", "type": MICROS}]}
    value = codec.Encoder(schema, 1).encode({"t": 1_714_564_800_000_001})
    decoder = codec.Decoder(schema)
    assert decoder.decode(value) == {"t": 1_714_564_800_000_001}
    for spoilt in (value + b"x", value[:-1], value[:5]):
        with pytest.raises(codec.Undecodable):
            decoder.decode(spoilt)


@pytest.mark.req("P-08")
def test_why_bytes_do_not_decode_reads_the_same_in_every_process() -> None:
    schema = record(t="string", b="boolean")
    value = codec.Encoder(schema, 1).encode({"t": "x", "b": True})
    with pytest.raises(codec.Undecodable, match="EOFError") as told:
        codec.Decoder(schema).decode(value[:-1])
    assert "0x" not in str(told.value)


def record(**fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (record(a=DECIMAL), record(a={**DECIMAL, "scale": 8}), 1),
        (record(a=["null", DECIMAL]), record(a=["null", {**DECIMAL, "precision": 20}]), 1),
        (record(a=MICROS), record(a={**MICROS, "logicalType": "timestamp-millis"}), 1),
        (record(a=MICROS), record(a="long"), 1),
        (record(a="bytes"), record(a=DECIMAL), 1),
        (
            record(a={"type": "array", "items": DECIMAL}),
            record(a={"type": "array", "items": {**DECIMAL, "scale": 2}}),
            1,
        ),
        (record(a={"type": "map", "values": MICROS}), record(a={"type": "map", "values": "long"}), 1),
        (record(a=record(b=DECIMAL)), record(a=record(b={**DECIMAL, "scale": 2})), 1),
        (record(a=DECIMAL), record(a=DECIMAL), 0),
        (record(a=DECIMAL), record(a=["null", DECIMAL]), 0),
        (record(a=DECIMAL), record(b=MICROS), 0),
        (record(a="string"), record(a="long"), 0),
    ],
)
def test_logical_changes_are_found(before: dict[str, Any], after: dict[str, Any], changes: int) -> None:
    assert len(list(logical_changes(before, after))) == changes
