"""Catalyst's own document: every type, field and value in it has a place, and its own code writes what we read."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import os
import re
import sqlite3
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.folding import fold, open_findings
from tests.producers.catalyst_rows import START, drain, origin, row, uuid

from tradetape.producers.adapters import catalyst
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.connectors.catalyst.source import open_source
from tradetape.producers.events import TEMPLATE, Event

SHARED = Path(os.environ.get("TRADETAPE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
(DOCUMENT,) = (SHARED / "seeds").glob("001_*.txt")
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)]

SAMPLES: dict[str, Any] = {
    **dict.fromkeys(("side",), "buy"),
    **dict.fromkeys(("rejected_at", "fill_time"), "2025-12-01T14:30:00"),
    **dict.fromkeys(("score", "confidence", "min_score_threshold"), 0.8),
    **dict.fromkeys(("quantity", "qty", "filled_quantity", "limit_price", "stop_price", "filled_price"), 100.5),
    **dict.fromkeys(("slippage", "entry_price", "exit_price", "stop_loss", "take_profit", "cost_basis"), 1.25),
    **dict.fromkeys(("stop_loss_price", "take_profit_price", "old_price", "new_price", "trigger_price"), 2.5),
    **dict.fromkeys(("old_unrealized_pnl", "new_unrealized_pnl", "unrealized_pnl", "realized_pnl"), -3.75),
    **dict.fromkeys(("return_pct", "hold_duration", "hold_duration_seconds", "current", "trigger", "old", "new"), 60),
    "price": 100,
    "order_type": "limit",
    "extended_hours": False,
    "liquidity": "maker",
    "decision": "trade",
    "keywords_matched": ["fda", "approval"],
    "override_flags": ["manual"],
    "sentiment_sources": ["vader", "reddit"],
}
"""A value of a field's kind; of one that is not here, its name."""

COMPLETE: dict[str, dict[str, Any]] = {
    "POSITION_OPENED": {"side": "long", "quantity": 1, "entry_price": 1},
    "ORDER_SUBMITTED": {"order_id": "o", "side": "buy", "quantity": 1, "order_type": "market"},
    "ORDER_FILLED": {"order_id": "o", "filled_price": 1, "filled_quantity": 1},
    "POSITION_PRICE_UPDATED": {"new_price": 1},
}
"""What a drawing leaves out of a type's payload."""


def types() -> set[str]:
    """Every name in capitals with an underscore: in the document they are event types all."""
    return set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", TEXT))


def classes() -> dict[str, tuple[str, str]]:
    """Event type and aggregate type by the name of the document's class."""
    found = re.findall(
        r'class (\w+)\(BaseEvent\):\s+event_type: Literal\["(\w+)"\].*?\s+aggregate_type: Literal\["(\w+)"\]', TEXT
    )
    return {name: (event_type, aggregate) for name, event_type, aggregate in found}


def listed() -> Iterator[tuple[str, list[str]]]:
    """Types and the payload keys listed under their classes."""
    for event_type, keys in re.findall(r'Literal\["([A-Z_]+)"\].*?# payload: ([^\n]+)', TEXT, re.DOTALL):
        yield event_type, [key.partition("(")[0].strip() for key in keys.split(",")]


def emitted() -> Iterator[tuple[str, list[str]]]:
    """Types and the payload keys of the document's calls."""
    for block in BLOCKS:
        for call in calls(block):
            payload = next(keyword.value for keyword in call.keywords if keyword.arg == "payload")
            assert isinstance(payload, ast.Dict) and isinstance(call.func, ast.Name)
            yield classes()[call.func.id][0], [ast.literal_eval(key) for key in payload.keys if key]


def calls(block: str) -> list[ast.Call]:
    found = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    return [call for call in found if isinstance(call.func, ast.Name) and call.func.id in classes()]


def drawn() -> Iterator[tuple[str, list[str]]]:
    """Types and keys in the document's drawings."""
    for event_type, keys in re.findall(r"\d+\. ([A-Z_]+) +\{ ([^}]+) \}", TEXT):
        yield event_type, [key.partition(":")[0].strip() for key in keys.split(",")]
    boxes: list[list[str]] = []
    for line in TEXT.splitlines():
        cells = re.findall(r"│([^│]*)│", line)
        if cells and boxes and len(boxes[-1]) == len(cells):
            boxes[-1] = [f"{one}{two.strip()} ".replace("_ ", "_") for one, two in zip(boxes[-1], cells, strict=True)]
        else:
            boxes.append([f"{cell.strip()} ".replace("_ ", "_") for cell in cells])
    for box in itertools.chain.from_iterable(boxes):
        for event_type, keys in re.findall(r"([A-Z]+(?:_[A-Z]+)+)[^{]*\{([^}]*)\}", box):
            named = (key.partition(":")[0].strip() for key in keys.split(","))
            yield event_type, [key for key in named if key != "..."]


def read(event_type: str, payload: dict[str, Any], **columns: Any) -> Event:
    related = {"ticker": "AAPL", "side": "buy"} if "ticker" not in payload else {}
    return catalyst.from_row(origin(), row(event_type, payload, **columns), 1, related)


@pytest.mark.req("S1-01", "S3-10")
def test_every_event_type_of_the_document_has_a_canonical_one() -> None:
    named = types()
    assert len(named) >= 37
    assert named - rules("catalyst").keys() == set()
    tabled = re.findall(r"^\| \*\*\w+\*\* \| ([A-Z_, ]+) \| P\d \|$", TEXT, re.MULTILINE)
    assert len(tabled) == 5
    enumerated = re.findall(r'^    ([A-Z_]+) = "\1"$', TEXT, re.MULTILINE)
    assert len(enumerated) == 31
    assert {name.strip() for names in tabled for name in names.split(",")} | set(enumerated) <= named


@pytest.mark.req("S1-01", "S3-10")
@pytest.mark.parametrize(
    ("event_type", "keys"),
    [*listed(), *emitted(), *drawn()],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_every_payload_field_of_the_document_has_a_typed_place(event_type: str, keys: list[str]) -> None:
    payload = {key: SAMPLES.get(key, key) for key in keys}
    if payload.get("side") and event_type.startswith("POSITION"):
        payload["side"] = "long"
    whole = {key: value for key, value in COMPLETE.get(event_type, {}).items() if key not in payload}
    if "price" in payload or "qty" in payload:
        whole = {key: value for key, value in whole.items() if key not in ("entry_price", "quantity")} | (
            {} if "qty" in payload else {"quantity": 1}
        )
    found = read(event_type, payload | whole)
    assert found["event_type"] == rules("catalyst")[event_type].event, found["payload"]
    assert found["extra"] is None
    typed = {json.dumps(plain(value)) for value in (*found["payload"].values(), found["trading_pair"])}
    for key, value in payload.items():
        expected = f"{value}-USD" if key == "ticker" else value
        assert typed & {json.dumps(plain(form)) for form in forms(expected)}, f"{key} is nowhere"


def forms(value: Any) -> list[Any]:
    """The forms that a value of the document may take."""
    if isinstance(value, str) and value.startswith("2025-12-01T"):
        return [1_764_599_400_000_000]
    if isinstance(value, str):
        return [value, value.upper()]
    return [json.dumps(value, separators=(",", ":")), value, str(value)]


def plain(value: Any) -> Any:
    return str(value) if not isinstance(value, str | int | list | dict | None) else value


@pytest.mark.req("S1-01")
def test_every_value_that_the_document_names_is_accepted() -> None:
    (decisions,) = re.findall(r"decision \(([\w/]+)\)", TEXT)
    for decision in decisions.split("/"):
        assert read("ALERT_DECISION_MADE", {"decision": decision})["payload"]["decision"] == decision
    (liquidity,) = re.findall(r"# (\w+/\w+) if available", TEXT)
    for side in liquidity.split("/"):
        filled = COMPLETE["ORDER_FILLED"] | {"liquidity": side}
        assert read("ORDER_FILLED", filled)["payload"]["liquidity_side"] == side
    (reasons,) = re.findall(r"exit_reason,\s+# ([\w, ]+)", TEXT)
    for reason in reasons.split(", "):
        assert read("POSITION_CLOSED", {"exit_reason": reason})["payload"]["exit_reason"] == reason
    read_by_rebuilder = set(re.findall(r'payload(?:\.get\(|\[)"(\w+)"', TEXT))
    known = {key for _, keys in (*listed(), *emitted()) for key in keys}
    assert read_by_rebuilder <= known


@pytest.mark.req("S1-03")
def test_every_field_of_the_metadata_has_a_place_in_the_envelope() -> None:
    (body,) = re.findall(r"class EventMetadata\(BaseModel\):(.*?)\nclass", TEXT, re.DOTALL)
    names = re.findall(r"^    (\w+): ", body, re.MULTILINE)
    assert len(names) == 5
    metadata = {name: f"the {name}" for name in names}
    found = read("ALERT_RECEIVED", {}, metadata=json.dumps(metadata))
    assert found["extra"] is None
    assert set(metadata.values()) <= {
        value for name, value in found.items() if isinstance(value, str) and name in TEMPLATE
    }


@pytest.mark.req("S1-02", "S1-07")
@pytest.mark.parametrize("table", ["event_log", "event_snapshots"])
def test_every_column_of_the_document_has_a_typed_place(table: str) -> None:
    ddl = re.findall(rf'"""\n(\s+CREATE TABLE IF NOT EXISTS {table} \(.*?\n\s+\))\n', TEXT, re.DOTALL)
    assert len(ddl) == (2 if table == "event_log" else 1)
    for statement in ddl:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(statement)
            columns = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
        values: dict[str, Any] = {column: f"the {column}" for column in columns} | {"created_at": START}
        values |= {name: 12 for name in columns if name.endswith("sequence_number")}
        values |= {"event_type": "ALERT_SKIPPED", "event_id": uuid(1), "payload": '{"reason": "the payload"}'}
        values["metadata"] = '{"source": "the metadata"}'
        made = catalyst.from_row(origin(), values, 1) if table == "event_log" else None
        found = made or catalyst.from_snapshot(origin(), {name: values[name] for name in columns})
        assert found["extra"] is None
        typed = {str(value) for value in (*found.values(), *found["payload"].values())}
        for column in columns:
            value = f'"{values[column]}"' if column == "state" else values[column]
            assert typed & {str(value), str(START * 1000) if column == "created_at" else str(value)} or (
                column in ("payload", "metadata") and f"the {column}" in typed
            ), column


@pytest.fixture
def bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The document's own package ``events``: its schemas, its store, its emitter."""
    package = tmp_path / "catalyst_document"
    package.mkdir()
    files = re.findall(r"\*\*New File:\*\* `src/catalyst_bot/events/(\w+\.py)`\s+```python\n(.*?)```", TEXT, re.DOTALL)
    assert {name for name, _ in files} >= {"event_types.py", "event_schemas.py", "event_store.py", "event_emitter.py"}
    for name, code in files:
        (package / name).write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("catalyst_document.event_schemas")
    for name in [name for name in sys.modules if name.startswith("catalyst_document")]:
        del sys.modules[name]


@pytest.mark.req("S1-01", "S1-02", "S1-03", "S3-10")
def test_what_the_documents_own_code_writes_is_read_unchanged_and_accepted(bot: ModuleType, tmp_path: Path) -> None:
    """Its unit tests' events, its emit calls and one event of every type, through its own EventStore."""
    store = importlib.import_module("catalyst_document.event_store").EventStore(tmp_path / "data" / "events.db")
    examples = next(block for block in BLOCKS if block.startswith("# tests/events/test_event_store.py"))
    written = []
    for index in range(5):
        for call in calls(examples):
            written.append(eval(compile(ast.Expression(call), "document", "eval"), vars(bot) | {"i": index}))
    names = (name for name, (_, aggregate) in classes().items() if aggregate)
    for name in sorted(names):
        event_type, aggregate = classes()[name]
        keys = dict.fromkeys(key for found, keys in (*listed(), *emitted()) if found == event_type for key in keys)
        payload = {key: SAMPLES.get(key, key) for key in keys} | ({"side": "long"} if aggregate == "position" else {})
        metadata = bot.EventMetadata(source="order_executor", correlation_id="sig_123")
        written.append(getattr(bot, name)(aggregate_id=f"{aggregate}_1", metadata=metadata, payload=payload))
    # Submitted and opened first, as the bot does, so that what follows finds its instrument.
    written.sort(key=lambda event: event.event_type not in ("ORDER_SUBMITTED", "POSITION_OPENED"))
    for event in written:
        store.append(event)
    found = drain(open_source(str(tmp_path / "data" / "events.db"), origin(), None))
    assert [event["native_type"] for event in found] == [event.event_type for event in written]
    assert [event["event_id"] for event in found] == [event.event_id for event in written]
    assert {event["event_type"] for event in found} == {
        rules("catalyst")[event_type].event for event_type, _ in classes().values()
    }
    assert {event["correlation_id"] for event in found} == {"", "sig_123"}
    outputs = fold(found)
    assert [output.audited["disposition"] for output in outputs] == ["accepted"] * len(found)
    assert "sequence_gap" not in open_findings(outputs)
    opened = [event for event in found if event["aggregate_id"] == "pos_123"]
    assert {event["trading_pair"] for event in opened} == {"AAPL-USD"}
    assert [event["aggregate_sequence"] for event in opened] == list(range(1, len(opened) + 1))
