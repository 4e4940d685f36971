"""Turtle's adapter: what each record becomes; never raises, never drops, always the same (S0-01 … S0-03, S3-10)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import folding
from tests.producers.turtle_rows import RUN, origin, record, row

from tradetape.producers.adapters import turtle
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.events import Event
from tradetape.producers.unmapped import TYPE as UNMAPPED
from tradetape.schemas.catalogue import event_types

pytestmark = pytest.mark.req("S3-10")

ORDER = {"order_id": "12345", "order_type": "MARKET", "action": "SELL", "quantity": 26}
SHORT = {"direction": "SHORT", "contracts": 26}


def event_of(event_type: str, outcome: str, context: Any = None, **columns: Any) -> Event:
    made = row(event_type, outcome, context, **columns)
    return turtle.from_record(origin(), record(made), position=made["sequence"])


@pytest.mark.req("S0-01")
def test_an_attempt_and_its_fill_meet_under_the_brokers_id() -> None:
    created = event_of("entry_attempted", "submitted", {"order": ORDER})
    filled = event_of(
        "entry_filled",
        "filled",
        {"order": {**ORDER, "fill_price": 523.45, "commission": 0.65, "slippage": 0.05}},
        sequence=2,
    )
    assert created["event_type"] == "order_created"
    assert created["payload"] | {"context": None} == {
        **dict.fromkeys(event_types()["order_created"].payload_keys),
        "client_order_id": "12345",
        "side": "sell",
        "order_type": "market",
        "amount_base": Decimal(26),
        "is_live": True,
        "purpose": "entry",
    }
    assert created["assumed"] == ["is_live"]
    payload = filled["payload"]
    assert (payload["fill_price"], payload["fill_qty_base"]) == (Decimal("523.45"), Decimal(26))
    assert payload["fill_qty_quote"] == Decimal("13609.70")
    assert (payload["fee_asset"], payload["fee_amount"], payload["liquidity_side"]) == (
        "USD",
        Decimal("0.65"),
        "unknown",
    )
    assert payload["slippage"] == Decimal("0.05")
    assert {"fill_qty_quote", "fee_asset", "liquidity_side"} <= set(filled["assumed"])
    assert {"client_order_id", "side", "fee_amount"}.isdisjoint(filled["assumed"])
    assert (filled["trading_pair"], filled["connector_name"]) == ("QQQ-USD", "ibkr")
    outputs = folding.fold([created, filled])
    assert [output.audited["disposition"] for output in outputs] == ["accepted", "accepted"]
    assert folding.open_findings(outputs).keys() <= {"question_unanswered"}


@pytest.mark.req("S0-01")
@pytest.mark.parametrize(
    ("purpose", "direction", "attempt", "fill"),
    [
        ("entry", "SHORT", {"sizing": SHORT}, {"order": {"fill_price": 1}, "position": SHORT}),
        (
            "exit",
            "LONG",
            {"exit": {"direction": "LONG", "contracts": 5}},
            {"exit": {"pnl": {"fill_price": 2}, "contracts": 5}},
        ),
        (
            "pyramid",
            "LONG",
            {"pyramid": {"level": 2, "direction": "LONG", "new_contracts": 240}},
            {"pyramid": {"fill_price": 52.52, "contracts_before": 243, "total_contracts": 483}},
        ),
    ],
)
def test_without_an_id_they_meet_under_run_symbol_and_purpose(
    purpose: str, direction: str, attempt: dict[str, Any], fill: dict[str, Any]
) -> None:
    created = event_of(f"{purpose}_attempted", "submitted", attempt)
    filled = event_of(f"{purpose}_filled", "filled", fill, sequence=2)
    key = f"{RUN}:QQQ:{purpose}"
    assert created["payload"]["client_order_id"] == filled["payload"]["client_order_id"] == key
    assert "client_order_id" in created["assumed"]
    assert "client_order_id" in filled["assumed"]
    assert created["payload"]["side"] == ("sell" if (direction == "SHORT") != (purpose == "exit") else "buy")
    assert {"side", "order_type"} <= set(created["assumed"])
    assert created["payload"]["amount_base"] == filled["payload"]["fill_qty_base"]
    assert created["payload"]["purpose"] == filled["payload"]["purpose"] == purpose
    assert folding.open_findings(folding.fold([created, filled])).keys() <= {"question_unanswered"}


@pytest.mark.req("S0-01")
def test_a_refused_order_says_why() -> None:
    reason = "Buying power $2,000 < required $12,500"
    context = {"account": {"buying_power": 2000.0}, "sizing": {"position_value": 12500.0}, "reason": reason}
    for columns, message in (({}, reason), ({"outcome_reason": "no cash"}, "no cash")):
        event = event_of("PYRAMID_ATTEMPTED", "INSUFFICIENT_CASH", context, **columns)
        assert event["event_type"] == "order_failed"
        assert event["payload"]["error_code"] == "insufficient_cash"
        assert event["payload"]["error_message"] == message
        assert event["payload"]["failure_stage"] == "create"
        assert event["payload"]["context"]["reason"] == reason
    assert event_of("entry_attempted", "rejected")["payload"]["error_message"] == "rejected"


@pytest.mark.parametrize("event_type", ["entry_attempted", "exit_filled"])
def test_an_outcome_nobody_knows_is_a_status_of_the_order(event_type: str) -> None:
    event = event_of(event_type, "routed_elsewhere", {"order": ORDER}, outcome_reason="venue moved")
    assert (event["event_type"], event["payload"]["status"]) == ("order_status", "routed_elsewhere")
    assert event["payload"]["reason"] == "venue moved"


@pytest.mark.req("S0-01")
def test_a_partial_fill_counts_what_was_filled_and_is_evidence_where_nobody_counted() -> None:
    order = {**ORDER, "fill_price": 10, "filled_quantity": 6}
    told = event_of("entry_filled", "partial_fill", {"order": order})
    assert (told["payload"]["fill_qty_base"], told["payload"]["fill_qty_quote"]) == (Decimal(6), Decimal(60))
    assert "fill_qty_base" not in told["assumed"]
    whole = event_of("entry_filled", "filled", {"order": {**ORDER, "fill_price": 10}})
    assert whole["payload"]["fill_qty_base"] == Decimal(26)
    assert "fill_qty_base" in whole["assumed"]
    part = event_of("entry_filled", "partial_fill", {"order": {**ORDER, "fill_price": 10}})
    assert part["event_type"] == UNMAPPED
    assert "fill_qty_base" in part["payload"]["error"]
    none = event_of("entry_filled", "partial_fill", {"order": {**order, "filled_quantity": 0}})
    assert (none["payload"]["fill_qty_base"], none["payload"]["fill_qty_quote"]) == (Decimal(0), Decimal(0))


def test_an_order_without_size_or_direction_is_evidence() -> None:
    event = event_of("entry_attempted", "submitted", {"order": {"order_id": "9"}})
    assert event["event_type"] == UNMAPPED
    assert event["payload"]["error"] == "missing_payload_key: side; missing_payload_key: amount_base"
    assert (event["native_type"], event["run_id"], event["sequence"]) == ("entry_attempted", RUN, 1)
    (output,) = folding.fold([event])
    assert (output.audited["disposition"], list(output.audited["reasons"])) == ("rejected", ["unmapped"])


@pytest.mark.req("S0-02")
def test_a_dry_run_is_said_and_nothing_live() -> None:
    event = event_of("entry_attempted", "submitted", {"order": ORDER}, dry_run=True)
    assert (event["dry_run"], event["environment"], event["payload"]["is_live"]) == (True, "paper", False)
    assert "environment" in event["assumed"]
    assert event_of("entry_attempted", "submitted", {"order": ORDER}, dry_run=None)["payload"]["is_live"] is True


@pytest.mark.req("S0-02", "P-02")
def test_a_dry_run_changes_no_live_figure() -> None:
    for dry_run, environment in ((True, "paper"), (False, "live")):
        context = {"order": {**ORDER, "fill_price": 10}}
        events = [
            event_of("entry_attempted", "submitted", context, dry_run=dry_run, sequence=1),
            event_of("entry_filled", "filled", context, dry_run=dry_run, sequence=2),
        ]
        figures = [output.risk for output in folding.fold(events) if output.risk]
        assert {figure["environment"] for figure in figures} == {environment}


@pytest.mark.req("S0-01")
def test_signals_say_where_they_point() -> None:
    assert (
        event_of("signal_detected", "breakout_55", {"signal": {"direction": "SHORT"}})["payload"]["direction"]
        == "short"
    )
    assert event_of("signal_detected", "no_breakout")["payload"]["direction"] == "none"
    assert event_of("signal_evaluated", "APPROVED")["payload"]["approved"] is True
    assert event_of("signal_evaluated", "filtered_s1")["payload"]["approved"] is False


@pytest.mark.req("S0-01")
def test_system_events_say_what_happened() -> None:
    fatal = event_of("error_occurred", "fatal", symbol=None, outcome_reason="disk full")
    assert fatal["payload"] == {"error": "disk full", "fatal": True, "context": None}
    assert fatal["trading_pair"] == ""
    lost = event_of("connection_lost", "reconnect_failed", {"reason": "socket closed"}, symbol=None)
    assert lost["payload"]["reason"] == "socket closed"


@pytest.mark.req("S0-03")
def test_a_stop_that_moved_is_a_pair_of_prices() -> None:
    event = event_of("STOP_MODIFIED", "EXECUTED", {"pyramid": {"old_stop": 50.75, "new_stop": 51.25}})
    assert (event["payload"]["old_stop"], event["payload"]["new_stop"]) == (Decimal("50.75"), Decimal("51.25"))


@pytest.mark.req("S0-03")
def test_what_a_context_says_in_the_wrong_kind_is_kept_and_rejects_nothing() -> None:
    context = {
        "market": {"price": "about 500", "bid": "523.40", "volume": [1], "n": 8.5, "source_timestamp": "yesterday"},
        "position": {"units": 1e30, "pyramid_levels": [{"level": 1, "note": "first"}, {"level": 2}], "days_held": 1.5},
        "account": {"limits": {"units_by_market": {"QQQ": 1, "XLE": "two"}}},
        "signal": "SHORT",
        "order": {"action": "HOLD"},
        "mood": {"calm": True, "level": 0.5},
    }
    event = event_of("position_checked", "hold", context)
    typed = event["payload"]["context"]
    assert typed["market"]["bid"] == Decimal("523.40")
    assert [level["level"] for level in typed["position"]["pyramid_levels"]] == [1, 2]
    assert typed["account"]["limits"]["units_by_market"] == {"QQQ": Decimal(1)}
    assert json.loads(event["extra"]) == {
        "context": {
            "market": {"price": "about 500", "volume": [1], "n": "8.5", "source_timestamp": "yesterday"},
            "position": {
                "units": "1000000000000000000000000000000",
                "pyramid_levels": [{"note": "first"}, {}],
                "days_held": "1.5",
            },
            "account": {"limits": {"units_by_market": {"XLE": "two"}}},
            "signal": "SHORT",
            "order": {"action": "HOLD"},
            "mood": {"calm": True, "level": "0.5"},
        }
    }
    (output,) = folding.fold([event])
    assert output.audited["disposition"] == "accepted"
    stored = json.loads(output.audited["payload"])
    assert stored["context"]["market"] == {"bid": "523.4", **json.loads(event["extra"])["context"]["market"]}


def test_unknown_columns_are_kept() -> None:
    event = event_of("position_checked", "hold", desk="alpha", position_size=3)
    assert json.loads(event["extra"]) == {"desk": "alpha", "position_size": 3}


def test_a_short_name_never_hides_a_full_one() -> None:
    event = event_of("position_checked", "hold", {"position": {"stop": 1, "current_stop": 2}})
    assert event["payload"]["context"]["position"]["current_stop"] == Decimal(2)
    assert json.loads(event["extra"]) == {"context": {"position": {"stop": 1}}}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats()
    | st.text(alphabet=st.characters(codec=None), max_size=8)
    | st.sampled_from(["\ud800", "NaN", "", "1e999999", "2026-02-30", "LONG", "-0", "9" * 500]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "market",
        "position",
        "account",
        "order",
        "signal",
        "filters",
        "sizing",
        "exit",
        "pyramid",
        "reason",
        "symbols",
        "run_id",
    ]
)
INNER = st.sampled_from(
    [
        "price",
        "stop",
        "next_pyramid",
        "order_id",
        "action",
        "quantity",
        "fill_price",
        "direction",
        "contracts",
        "n",
        "gap",
    ]
)
CONTEXTS = st.dictionaries(KEYS | st.text(max_size=4), st.dictionaries(INNER, VALUES, max_size=4) | VALUES, max_size=5)
COLUMNS = st.sampled_from([*turtle.COLUMNS, "event_type", "symbol", "desk", "side", "payload"])
TYPES = st.sampled_from(list(rules("turtle")))
SPELLINGS = st.sampled_from(["submitted", "filled", "PARTIAL_FILL", "cancelled", "rejected", "no_breakout", "odd"])


@settings(max_examples=400)
@given(TYPES, SPELLINGS, CONTEXTS, st.dictionaries(COLUMNS, VALUES, max_size=4))
def test_no_record_raises_and_none_is_dropped(
    event_type: str, outcome: str, context: dict[str, Any], columns: dict[str, Any]
) -> None:
    made = record({**row(event_type, outcome, context), **columns})
    event = turtle.from_record(origin(), made, position=3)
    assert event["native"] == made
    assert event == turtle.from_record(origin(), made, position=3)
    assert event["source_position"] == 3
    (output,) = folding.fold([event])
    if event["event_type"] == UNMAPPED:
        assert output.audited["disposition"] == "rejected"
        return
    assert output.audited["disposition"] == "accepted"
    extra = json.loads(event["extra"]) if event["extra"] else {}
    stored = json.loads(output.audited["payload"])
    for key in columns.keys() - {*turtle.COLUMNS, "event_type", "symbol"}:
        assert key in extra or key in stored or columns[key] is None
    renamed = {"run_id", "all passed", "stop"}
    for key, value in context.items():
        if value in (None, {}, []) or key in renamed:
            continue
        assert key in stored.get("context", {}) or key in stored or key in extra.get("context", {}), key
        if isinstance(value, dict) and isinstance(stored.get("context", {}).get(key), dict):
            missing = {k for k, v in value.items() if v is not None and k not in renamed} - stored["context"][
                key
            ].keys()
            assert not missing, (key, missing)


@settings(max_examples=200)
@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise(content: bytes) -> None:
    event = turtle.from_record(origin(), content, position=9)
    assert event["native"] == content
    folding.encode(event)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event_type": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"sequence": ' + b"9" * 5000 + b"}",
        b'{"context": {"a": ' + b"[" * 900 + b"]" * 900 + b'}, "event_type": "error_occurred"}',
        b'{"context": "\\ud800", "event_type": "error_occurred"}',
        b'{"event_type": "error_occurred", "timestamp": 1e999999999}',
        b'{"event_type": "error_occurred", "context": {"run_id": [[[[]]]], "\\ud800": 1}}',
    ],
    ids=range(9),
)
def test_hostile_bytes_become_evidence_or_an_event(content: bytes) -> None:
    event = turtle.from_record(origin(), content, position=1)
    assert event["native"] == content
    folding.encode(event)


def test_the_same_record_makes_the_same_event_in_every_process() -> None:
    made = record(row("position_checked", "hold", {"account": {"limits": {"units_by_market": {"A": "x", "B": "y"}}}}))
    script = (
        "import sys; from tests.producers.turtle_rows import origin; from tradetape.producers.adapters import turtle; "
        "print(sorted(turtle.from_record(origin(), sys.argv[1].encode(), position=1).items()))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script, made.decode()],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
