"""Records of other writers: older ones are completed, and what a registry lets through stops no worker (P-05, P-08)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from tests.folding import ENCODERS, INGEST, SCHEMAS, Partition
from tests.processors.events import event, filled

from tradetape.processors import core
from tradetape.processors.core import Output
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.schemas import codec
from tradetape.schemas.catalogue import Schema, event_types

FOREIGN = 900


def without(schema: Any, record: str, field: str) -> Any:
    """``schema`` with ``field`` taken out of ``record``."""
    if isinstance(schema, list):
        return [without(each, record, field) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: without(value, record, field) for key, value in schema.items()}
    if kept.get("name") == record and "fields" in kept:
        kept["fields"] = [each for each in kept["fields"] if each["name"] != field]
    return kept


def purposeful(order: str, side: str, purpose: str, context: Any = None) -> dict[str, Any]:
    fill = filled(order, side=side)
    return {**fill, "payload": {**fill["payload"], "purpose": purpose, "context": context}}


def judged(partition: Partition, value: bytes, writer: WriterSchema) -> Output:
    raw = RawRecord(0, partition.offset, INGEST, value)
    partition.offset += 1
    return core.process(raw, partition.state, {**SCHEMAS, FOREIGN: writer}.get)


@pytest.mark.req("P-05")
@pytest.mark.parametrize(
    "field", ["contracts", "entry_price", "max_favorable_excursion", "max_adverse_excursion", "hold_duration_days"]
)
def test_an_older_writer_s_nested_records_get_their_defaults(field: str) -> None:
    older = without(event_types()["order_filled"].schema, "ExitContext", field)
    told = {"reason": "stop", "contracts": Decimal(10), "entry_price": Decimal(2), "hold_duration_days": Decimal(0)}
    leaving = purposeful("b", "sell", "exit", {"exit": told})
    partition = Partition()
    partition.fold([ENCODERS["order_filled"].encode(purposeful("a", "buy", "entry"))])
    output = judged(partition, codec.Encoder(older, FOREIGN).encode(leaving), WriterSchema(older))
    assert output.audited["disposition"] == "accepted"


@pytest.mark.req("P-05")
def test_records_in_lists_and_maps_are_completed_and_equal_schemas_cost_nothing() -> None:
    def record(name: str, *fields: tuple[str, Any]) -> Schema:
        made = [{"name": called, "type": kind, "default": None} for called, kind in fields]
        return {"type": "record", "name": name, "fields": made}

    def whole(*leaf: tuple[str, Any]) -> Schema:
        inner = record("Leaf", *leaf)
        many = {"type": "array", "items": ["null", inner]}
        return record("R", ("list", ["null", many]), ("map", ["null", {"type": "map", "values": "Leaf"}]))

    text = ["null", "string"]
    older, newer = whole(("a", text)), whole(("a", text), ("b", text))
    value = {"list": [{"a": "1"}, None], "map": {"k": {"a": None}}}
    read = codec.Decoder(older, newer).decode(codec.Encoder(older, 1).encode(value))
    assert read == {"list": [{"a": "1", "b": None}, None], "map": {"k": {"a": None, "b": None}}}
    assert codec.Decoder(newer, newer)._complete is None
    assert all(codec.Decoder(each.schema, each.schema)._complete is None for each in event_types().values())


def test_defaults_are_not_shared_among_events() -> None:
    schema = event_types()["heartbeat"].schema
    older = {**schema, "fields": [field for field in schema["fields"] if field["name"] != "assumed"]}
    decoder = codec.Decoder(older, schema)
    value = codec.Encoder(older, 1).encode(event("heartbeat", {"service": "s"}))
    decoder.decode(value)["assumed"].append("x")
    assert decoder.decode(value)["assumed"] == []


def nested(kind: Any, depth: int) -> Any:
    for _ in range(depth):
        kind = {"type": "array", "items": kind}
    return kind


NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
FULL = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "tradetape.v1.Node"]}]}
EMPTY = {"type": "record", "name": "Empty", "fields": []}
BROKEN: dict[str, tuple[Any, str]] = {
    "unknown name": ("other.Named", "UnknownType"),
    "bad scale": ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 8}, "scale"),
    "symbols twice": ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "unique"),
    "no items": ({"type": "array"}, "KeyError"),
    "inside itself": (NODE, "tradetape.v1.Node contains itself"),
    "inside itself, by its full name": (FULL, "tradetape.v1.Node contains itself"),
    "endless nulls": ({"type": "array", "items": "null"}, "items that take no bytes"),
    "endless empty records": ({"type": "array", "items": EMPTY}, "items that take no bytes"),
    "deep": (nested("string", 300), "nested deeper than"),
    "marked as parsed": ({"type": "string"}, "__fastavro_parsed__"),
}


@pytest.mark.req("P-08")
@pytest.mark.parametrize("name", BROKEN)
def test_a_writer_schema_that_cannot_be_read_by_is_a_reason_and_the_bytes_are_kept(name: str) -> None:
    kind, said = BROKEN[name]
    schema = copy.deepcopy(event_types()["heartbeat"].schema)
    schema["fields"].append({"name": "more", "type": kind})
    if name == "marked as parsed":
        schema["__fastavro_parsed__"] = True
    value = ENCODERS["heartbeat"].encode(event("heartbeat", {"service": "s"}))
    value = value[:1] + FOREIGN.to_bytes(4, "big") + value[5:] + b"\x02" * 200_000 + b"\x00"
    output = judged(Partition(), value, WriterSchema(schema))
    assert (output.audited["disposition"], output.audited["reasons"]) == ("rejected", ["undecodable"])
    assert said in output.audited["reason_detail"]
    assert output.audited["raw"] == value


@pytest.mark.req("P-05")
@pytest.mark.parametrize(
    "make",
    [
        lambda schema: schema,
        lambda schema: {**schema, "fields": [*schema["fields"], {"name": "more", "type": nested("string", 5)}]},
        lambda schema: {**schema, "fields": [*schema["fields"], {"name": "more", "type": EMPTY}]},
    ],
)
def test_schemas_that_are_sound_have_no_problem(make: Callable[[Schema], Schema]) -> None:
    assert {WriterSchema(make(each.schema)).problem.code for each in event_types().values()} == {""}
