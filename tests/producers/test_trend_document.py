"""Trend's document, read as it is: every type and field of it has a typed place (S2-01, S3-10)."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tradetape.producers.adapters import trend
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.events import Event
from tradetape.schemas.catalogue import envelope_schema, event_types

SHARED = Path(os.environ.get("TRADETAPE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
DOCUMENT = SHARED / "seeds" / "002_ba7818f5c2655b3b.txt"
TEXT = DOCUMENT.read_text(encoding="utf-8")

ORIGIN = Origin(source_id="ledger-1", instance_name="trend1", connector_name="binance", producer="trend")
FAMILIES = 13

VALUES: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "symbols": ["BTCUSDT"],
    "timestamp": "2024-01-15T10:00:02.500Z",
    "published": "Mon, 15 Jan 2024 09:00:00 GMT",
    "ohlcv": {"open": 1.5, "high": 2.5, "low": 0.5, "close": 2.25, "volume": 10.75},
    "reasons": ["too many positions"],
    "order_type": "LIMIT",
    "orders": ["stop_1"],
    "old_orders": ["stop_1"],
    "new_orders": ["stop_2"],
    "expected": ["stop_1"],
    "discrepancies": [],
    "candidates": ["BTCUSDT"],
    "selected": ["ETHUSDT"],
    "previously_flagged": True,
    "filtered_count": 7,
}
NUMBERS = ("price", "rate", "qty", "quantity", "score", "fee", "pnl", "leverage", "confidence")


def value_of(field: str, number: int) -> Any:
    if field in VALUES:
        return VALUES[field]
    return number + 0.25 if any(word in field for word in NUMBERS) else f"{field} {number}"


def tables() -> dict[str, list[str]]:
    """Native type → payload fields, from the document's tables of events."""
    found = {}
    for name, cell in re.findall(r"^\| `([A-Z_]+)` \|[^|]*\|([^|]*)\|$", TEXT, re.MULTILINE):
        found[name] = re.findall(r"`(\w+)`", cell)
    return found


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def class_fields(name: str) -> list[str]:
    for block in blocks("python"):
        if f"class {name}" in block:
            (found,) = [node for node in ast.parse(block).body if isinstance(node, ast.ClassDef)]
            return [node.target.id for node in found.body if isinstance(node, ast.AnnAssign)]  # type: ignore[union-attr]
    raise AssertionError(f"the document has no class {name}")


def adapted(event_type: str, payload: dict[str, Any], **more: Any) -> Event:
    record = {
        "event_id": "550e8400-e29b-41d4-a716-446655440000",
        "event_type": event_type,
        "timestamp": "2024-01-15T10:00:00.000Z",
        "sequence_num": 12,
        "payload": payload,
        "metadata": {"source": "module"},
        **more,
    }
    return trend.from_line(ORIGIN, json.dumps(record).encode(), "events.jsonl:1", 1)


TABLES = tables()

OURS = {"CONFIGURATION_RECORDED"}
"""What the document gives to its StateManager, and no event of its own tells (S2-03)."""


@pytest.mark.req("S2-01", "S3-10")
def test_the_document_lists_33_types_of_thirteen_families_and_all_are_mapped() -> None:
    families = re.findall(r"^### (.+) Events\n\n\| Event", TEXT, re.MULTILINE)
    assert len(families) == FAMILIES
    assert len(TABLES) == 33
    assert rules("trend").keys() == TABLES.keys() | OURS
    for rule in rules("trend").values():
        assert rule.event in event_types()


@pytest.mark.req("S2-01", "S3-10")
@pytest.mark.parametrize("name", TABLES)
def test_every_payload_field_has_a_typed_place(name: str) -> None:
    payload = {field: value_of(field, number) for number, field in enumerate(TABLES[name], 1)}
    event = adapted(name, payload)
    assert event["event_type"] == rules("trend")[name].event, event["payload"]
    assert event["native_type"] == name
    assert event["extra"] is None
    for field in TABLES[name]:
        less = adapted(name, {key: value for key, value in payload.items() if key != field})
        assert _said(less) != _said(event), f"{name}: {field} has no place of its own"


def _said(event: Event) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in {"native", "assumed"}}


@pytest.mark.req("S2-01", "S3-10")
@pytest.mark.parametrize("name", TABLES)
def test_every_spelling_is_the_same_type(name: str) -> None:
    payload = {field: value_of(field, number) for number, field in enumerate(TABLES[name], 1)}
    words = name.split("_")
    for spelling in (
        name,
        name.lower(),
        "".join(word.capitalize() for word in words),
        f"EventType.{name}",
        "-".join(words).lower(),
    ):
        event = adapted(spelling, payload)
        assert event["event_type"] == rules("trend")[name].event
        assert event["native_type"] == spelling


@pytest.mark.req("S2-01", "S3-10")
def test_every_field_of_the_documents_event_has_a_place() -> None:
    assert class_fields("Event") == [
        "event_id",
        "event_type",
        "timestamp",
        "sequence_num",
        "payload",
        "metadata",
    ]
    event = adapted("SystemStarted", {"version": "0.1.0"})
    assert event["event_id"] == "550e8400-e29b-41d4-a716-446655440000"
    assert event["native_type"] == "SystemStarted"
    assert event["ts_utc"] == 1_705_312_800_000_000
    assert (event["sequence"], event["run_id"]) == (12, None)
    assert event["payload"] == {"version": "0.1.0"}
    assert event["source"] == "module"


@pytest.mark.req("S2-01", "S3-10")
def test_the_documents_own_lines_run_through_unchanged() -> None:
    lines = [line for block in blocks("json") for line in block.splitlines() if line.strip()]
    assert len(lines) == 2
    events = [trend.from_line(ORIGIN, line.encode(), "events.jsonl:1", n) for n, line in enumerate(lines, 1)]
    assert [event["event_type"] for event in events] == ["system_started", "universe_updated"]
    assert [event["native"].decode() for event in events] == lines
    assert [event["event_id"] for event in events] == [json.loads(line)["event_id"] for line in lines]
    assert events[0]["payload"] == {"version": "0.1.0"}
    assert events[1]["payload"] == {"symbols": ["BTCUSDT", "ETHUSDT"], "filtered_count": None}
    assert events[1]["source"] == "universe_selector"
    assert [event["extra"] for event in events] == [None, None]


@pytest.mark.req("S2-01", "S3-10")
def test_the_documents_published_order_is_an_order_created() -> None:
    (call,) = [block for block in blocks("python") if "EventType.ORDER_PLACED,\n" in block]
    (tree,) = ast.parse(call, mode="exec").body
    assert isinstance(tree, ast.Expr)
    assert isinstance(tree.value, ast.Await)
    assert isinstance(tree.value.value, ast.Call)
    name, payload, metadata = tree.value.value.args
    event = adapted(ast.unparse(name), ast.literal_eval(payload), metadata=ast.literal_eval(metadata))
    assert event["event_type"] == "order_created"
    assert event["trading_pair"] == "BTC-USDT"
    assert event["source"] == "execution_engine"
    payload_of = {key: str(value) for key, value in event["payload"].items() if value is not None}
    assert payload_of == {
        "client_order_id": "entry_123",
        "side": "buy",
        "order_type": "limit",
        "native_order_type": "LIMIT",
        "price": "42000.0",
        "amount_base": "0.001",
        "is_live": "True",
    }


@pytest.mark.req("S2-01", "S2-04")
def test_the_documents_new_type_is_evidence_until_it_is_mapped() -> None:
    (name,) = re.findall(r'MY_NEW_EVENT = "(\w+)"', TEXT)
    event = adapted(name, {"field1": 1, "field2": 2})
    assert event["event_type"] == "unmapped_record"
    assert event["native_type"] == name
    assert name in event["payload"]["error"]


def test_the_metadata_that_the_document_asks_for_goes_to_the_envelope() -> None:
    """Source, user and request: the guideline "add context: User ID, request ID, etc."."""
    assert {"source", "user_id"} <= {declared["name"] for declared in envelope_schema()["fields"]}
    order = {"symbol": "BTCUSDT", "side": "BUY", "quantity": 1, "price": 2, "order_type": "LIMIT"}
    event = adapted(
        "ORDER_PLACED",
        order | {"client_order_id": "entry_1"},
        metadata={"source": "engine", "user_id": 7, "request_id": "r-1", "host": "a"},
    )
    assert (event["source"], event["user_id"]) == ("engine", "7")
    assert event["payload"]["request_id"] == "r-1"
    assert json.loads(event["extra"]) == {"metadata": {"host": "a"}}
