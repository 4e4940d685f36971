"""Turtle's document, read as it is: every type, outcome and field of it has a typed place (S0-01 … S0-03, S3-10)."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from tests.producers.turtle_document import BLOCKS, TEXT, blocks, enum_of, flows, printed, tables, whole
from tests.producers.turtle_rows import origin, record, row

from tradetape.producers.adapters import turtle
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.events import Event
from tradetape.producers.simulator.turtle.fleet import DDL
from tradetape.schemas.catalogue import Schema, core_type, event_types, kind

TYPES = 17
LIFTED = {"symbols", "positions", "signals_found", "positions_opened", "positions_checked", "exits", "pyramids"}
"""Context keys of runs that are payload keys of run_started and run_completed."""


def event_of(made: dict[str, Any]) -> Event:
    return turtle.from_record(origin(), record(made), position=1)


def accepted(made: dict[str, Any]) -> Event:
    event = event_of(made)
    assert event["event_type"] != "unmapped_record", event["payload"]
    return event


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from leaves(value[0], f"{path}[]")
    else:
        yield path, value


def typed(schema: Schema, path: str) -> Any:
    """The type at ``path`` below a field; None where there is none."""
    avro_type = core_type(schema["type"])
    for part in path.replace("[]", ".[]").split("."):
        if part == "[]":
            avro_type = core_type(avro_type["items"])
        elif isinstance(avro_type, dict) and "values" in avro_type:
            avro_type = core_type(avro_type["values"])
        else:
            fields = {field["name"]: field for field in avro_type["fields"]}
            if part not in fields:
                return None
            avro_type = core_type(fields[part]["type"])
    return avro_type


CONTEXT = next(field for field in event_types()["order_filled"].payload_fields if field["name"] == "context")


@pytest.mark.req("S0-01", "S3-10")
def test_every_event_type_of_tables_and_code_is_mapped() -> None:
    listed = tables()
    members = enum_of("EventType")
    assert len(listed) == TYPES
    assert set(listed) == members.keys() == rules("turtle").keys()
    for name, value in members.items():
        for spelling in (name, value, value.title().replace("_", ""), value.replace("_", "."), value.replace("_", "-")):
            event = turtle.from_record(origin(), record(row(spelling, "hold", BLOCKS)), position=1)
            assert event["native_type"] == spelling
            assert event["event_type"] in {rules("turtle")[name].event, *rules("turtle")[name].by_outcome.values()}


OUTCOMES = {
    "SIGNAL_DETECTED": ("breakout_20", "breakout_55", "no_breakout"),
    "SIGNAL_EVALUATED": (
        "approved",
        "filtered_s1",
        "filtered_s2_redundant",
        "limit_market",
        "limit_correlated",
        "limit_total",
        "limit_risk_cap",
        "already_in_position",
    ),
    "*_ATTEMPTED": (
        "submitted",
        "insufficient_cash",
        "insufficient_shares",
        "rejected",
        "market_closed",
        "delayed_fast_market",
    ),
    "*_FILLED": ("filled", "filled_at_gap", "partial_fill", "cancelled", "expired"),
    "POSITION_CHECKED": ("hold", "exit_stop_triggered", "exit_breakout_triggered", "pyramid_triggered"),
    "STOP_MODIFIED": ("executed", "failed"),
    "CONNECTION_*": ("reconnected", "reconnect_failed"),
    "ERROR_OCCURRED": ("recovered", "fatal"),
}
BECOMES = {
    "submitted": "order_created",
    "insufficient_cash": "order_failed",
    "insufficient_shares": "order_failed",
    "rejected": "order_failed",
    "market_closed": "order_failed",
    "delayed_fast_market": "order_status",
    "filled": "order_filled",
    "filled_at_gap": "order_filled",
    "partial_fill": "order_filled",
    "cancelled": "order_cancelled",
    "expired": "order_expired",
}


def types_of(pattern: str) -> list[str]:
    return [name for name in rules("turtle") if re.fullmatch(pattern.replace("*", "[A-Z]+"), name)]


@pytest.mark.req("S0-01")
def test_every_outcome_of_the_document_has_its_place() -> None:
    members = enum_of("OutcomeType")
    assert set(members.values()) == {outcome for outcomes in OUTCOMES.values() for outcome in outcomes}
    said = "\n".join(blocks("python")[:4])
    for name, value in re.findall(r'^([A-Z0-9_]+) = "(\w+)"', said, re.MULTILINE):
        assert members[name] == value
    for pattern, outcomes in OUTCOMES.items():
        assert types_of(pattern)
        for native_type in types_of(pattern):
            for outcome in outcomes:
                camel = outcome.title().replace("_", "")
                for spelling in (outcome, outcome.upper(), camel, f"OutcomeType.{outcome.upper()}"):
                    said = {**BLOCKS, "order": {**BLOCKS["order"], "filled_quantity": 3}}
                    event = accepted(row(native_type.lower(), spelling, said, outcome_reason="because"))
                    assert event["outcome"] == outcome
                    assert event["outcome_reason"] == "because"
                    if outcome in BECOMES:
                        assert event["event_type"] == BECOMES[outcome]


@pytest.mark.req("S0-03", "S3-10")
def test_every_field_of_every_context_is_typed_and_keeps_its_value() -> None:
    named = {"market", "position", "account", "order", "signal", "filters", "sizing", "exit", "pyramid"}
    assert named == BLOCKS.keys() - {"run_id", "sequence", "source", "dry_run"}
    event = accepted(row("exit_filled", "filled", BLOCKS, symbol="QQQ"))
    assert event["extra"] is None or json.loads(event["extra"]).keys() <= {"context"}
    kept = {path: value for path, value in leaves(event["payload"]["context"]) if value is not None}
    for path, value in leaves({name: BLOCKS[name] for name in named}):
        assert typed(CONTEXT, path) is not None, f"{path} has no place"
        if value is None:
            continue
        if kind(typed(CONTEXT, path)) == "bytes":
            assert kept[path] == json.loads(json.dumps(value), parse_float=Decimal), path
        elif not path.endswith(("_at", "timestamp")):
            assert str(kept[path]) == str(value), path


@pytest.mark.req("S0-02")
def test_the_common_context_is_in_the_envelope_whether_columns_or_context_say_it() -> None:
    common = {name: BLOCKS[name] for name in ("run_id", "sequence", "source", "dry_run")}
    assert set(common) == set(turtle.COMMON)
    said = row("position_checked", "hold", common, run_id=None, sequence=None, source=None, dry_run=None)
    event = accepted(said)
    assert {name: event[name] for name in common} == common
    assert event["extra"] is None
    contradicting = accepted(row("position_checked", "hold", common))
    assert json.loads(contradicting["extra"])["context"]["run_id"] == "uuid"


@pytest.mark.req("S0-01", "S0-02", "S3-10")
def test_every_column_and_every_attribute_of_the_model_is_read() -> None:
    (ddl,) = [block for block in blocks("sql") if "CREATE TABLE events" in block]
    columns = re.findall(r"^    ([a-z_]+) [A-Z]", ddl, re.MULTILINE)
    (models,) = [block for block in blocks("python") if "class EventType" in block]
    (model,) = [n for n in ast.parse(models).body if isinstance(n, ast.ClassDef) and n.name == "Event"]
    attributes = [n.target.id for n in model.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    assert set(columns) == set(attributes) == {*turtle.COLUMNS, "event_type", "symbol", "context"}
    without = re.sub(r"--.*", "", ddl)
    assert " ".join(without.split()) == " ".join(DDL.split())


@pytest.mark.req("S0-03")
def test_json_paths_of_rules_questions_and_queries_have_a_place() -> None:
    paths = {path.replace("->", ".") for path in re.findall(r"`([a-z]+(?:\.[a-z0-9_]+)+)`", TEXT)}
    for query in blocks("sql"):
        for chain in re.findall(r"context((?:->>?'\w+')+)", query):
            paths.add(".".join(re.findall(r"'(\w+)'", chain)))
    assert {"market.n", "account.drawdown", "order.gap.gap_percent"} <= paths
    for path in sorted(paths - {"daily_run.py"}):
        assert typed(CONTEXT, path) is not None, f"{path} has no place"


@pytest.mark.req("S0-01", "S0-07", "S3-10")
def test_every_step_of_the_printed_flows_runs_through_as_it_is() -> None:
    """Steps that print too little of an order (no size, no price) become evidence, and say what is missing."""
    rejected = {}
    titles = []
    for title, steps in flows():
        titles.append(title)
        for sequence, (native_type, step) in enumerate(steps, 1):
            symbol, outcome, context = printed(step)
            run_id = (context or {}).get("run_id", "abc")
            made = row(native_type, outcome or "executed", context, symbol=symbol, sequence=sequence, run_id=run_id)
            event = event_of(made)
            if event["event_type"] == "unmapped_record":
                rejected[title, native_type] = event["payload"]["error"]
                assert event["sequence"] == sequence
            else:
                assert event["extra"] is None, (title, native_type, event["extra"])
    assert titles == [
        "Successful Entry Flow",
        "Filtered Signal Flow",
        "Stop Hit Exit Flow",
        "Pyramid Flow",
        "Insufficient Cash Flow",
    ]
    assert rejected == {
        ("Successful Entry Flow", "ENTRY_ATTEMPTED"): "missing_payload_key: side; missing_payload_key: amount_base",
        (
            "Successful Entry Flow",
            "ENTRY_FILLED",
        ): "missing_payload_key: fill_qty_base; missing_payload_key: fill_qty_quote",
        (
            "Stop Hit Exit Flow",
            "EXIT_FILLED",
        ): "missing_payload_key: fill_qty_base; missing_payload_key: fill_qty_quote",
        ("Pyramid Flow", "PYRAMID_ATTEMPTED"): "missing_payload_key: side",
        ("Pyramid Flow", "PYRAMID_FILLED"): "missing_payload_key: fill_qty_base; missing_payload_key: fill_qty_quote",
    }


@pytest.mark.req("S0-07")
@pytest.mark.parametrize(("title", "steps"), flows(), ids=[title for title, _ in flows()])
def test_the_printed_flows_with_their_blocks_filled_in_are_accepted(title: str, steps: list[tuple[str, str]]) -> None:
    for sequence, (native_type, step) in enumerate(steps, 1):
        symbol, outcome, context = printed(step)
        full = whole(native_type, context)
        accepted(row(native_type, outcome or "executed", full, symbol=symbol, sequence=sequence))


@pytest.mark.req("S0-03")
def test_the_short_forms_of_the_flows_are_typed_under_their_full_names() -> None:
    context = accepted(
        row(
            "position_checked",
            "hold",
            {
                "position": {"stop": 541.52, "next_pyramid": 52.38},
                "signal": {"direction": "SHORT", "system": "S2", "trigger": 500.00},
                "pyramid": {"fill_price": 52.52, "total_contracts": 483, "old_stop": 50.75, "new_stop": 51.25},
                "exit": {"realized_pnl": -455.00},
                "filters": "all passed",
            },
        )
    )["payload"]["context"]
    said = {
        "position.current_stop": "541.52",
        "position.next_pyramid.trigger_price": "52.38",
        "signal.trigger_price": "500.0",
        "pyramid.fill_price": "52.52",
        "pyramid.contracts_after": "483",
        "pyramid.stop_before": "50.75",
        "pyramid.stop_after": "51.25",
        "exit.realized_pnl": "-455.0",
        "filters.all_passed": "True",
    }
    kept = {path: str(value) for path, value in leaves(context) if value is not None}
    assert said.items() <= kept.items()


@pytest.mark.req("S0-02", "S0-03")
def test_counts_of_runs_are_payload_keys() -> None:
    printed_keys = set()
    for _, steps in flows():
        for native_type, step in steps:
            context = printed(step)[2]
            if native_type.endswith(("STARTED", "COMPLETED")) and context:
                printed_keys |= context.keys()
    assert printed_keys == LIFTED | {"run_id", "duration_sec"}
    started, completed = (event_types()[name].payload_keys for name in ("run_started", "run_completed"))
    assert printed_keys - {"run_id"} <= started | completed
