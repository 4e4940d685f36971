"""Turtle's unit limits, risk cap and drawdown rule, from the contexts on record (S0)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.folding import fold
from tests.processors.events import event
from tests.producers import turtle_document

from tradetape.processors.core import Output

CODES = {"unit_limit_exceeded", "risk_cap_exceeded", "drawdown_rule_ignored"}


def found(outputs: list[Output]) -> list[tuple[str, str, Any]]:
    return [
        (each["code"], each["subject"], json.loads(each["detail"])["exceeded"])
        for output in outputs
        for each in output.audited["findings"]
        if each["code"] in CODES
    ]


def breach(limit: str, of: str, expected: str, recorded: str) -> dict[str, str]:
    return {"limit": limit, "of": of, "expected": expected, "recorded": recorded}


def attempt(purpose: str = "entry", market: str = "QQQ-USD", **context: Any) -> dict[str, Any]:
    payload = {
        "client_order_id": f"{purpose}{market}",
        "side": "buy",
        "order_type": "market",
        "amount_base": "10",
        "is_live": True,
        "purpose": purpose,
        "context": context,
    }
    return event("order_created", payload, trading_pair=market)


def fill(units: int, purpose: str = "entry", market: str = "QQQ-USD", group: str = "", **more: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"position": {"units": units}}
    if group:
        context["signal"] = {"correlation_group": group}
    payload = {
        "client_order_id": f"{purpose}{market}{units}",
        "side": "sell" if purpose == "exit" else "buy",
        "fill_price": "2",
        "fill_qty_base": "1",
        "fill_qty_quote": "2",
        "fee_asset": "USD",
        "fee_amount": "0",
        "liquidity_side": "unknown",
        "purpose": purpose,
        "context": context,
    }
    return event("order_filled", payload, trading_pair=market, **more)


def evaluated(approved: bool = True, **filters: Any) -> dict[str, Any]:
    return event("signal_evaluated", {"approved": approved, "context": {"filters": filters}}, trading_pair="QQQ-USD")


def account(actual: str, high_water: str, notional: str) -> dict[str, Any]:
    return {"equity_actual": actual, "equity_high_water": high_water, "equity_notional": notional}


@pytest.mark.req("S0-05", "S0-06")
def test_units_are_counted_over_the_positions_on_record() -> None:
    stream = [fill(1, group="index"), fill(2, "pyramid"), fill(3, "pyramid"), fill(4, "pyramid")]
    stream += [fill(1, market="SPY-USD", group="index"), fill(2, "pyramid", "SPY-USD"), fill(3, "pyramid", "SPY-USD")]
    outputs = fold([*stream, fill(5, "pyramid")])
    assert found(outputs) == [
        ("unit_limit_exceeded", stream[-1]["event_id"], [breach("group", "index", "6", "7")]),
        (
            "unit_limit_exceeded",
            outputs[-1].audited["event_id"],
            [breach("market", "QQQ-USD", "4", "5"), breach("group", "index", "6", "8")],
        ),
    ]
    assert [alert["code"] for output in outputs for alert in output.alerts].count("unit_limit_exceeded") == 2


@pytest.mark.req("S0-06")
def test_an_exit_gives_its_units_back_and_a_partial_one_does_not() -> None:
    start = [fill(4, group="index"), fill(2, market="SPY-USD", group="index")]
    more = fill(1, market="IWM-USD", group="index")
    assert len(found(fold([*start, more]))) == 1
    assert len(found(fold([*start, fill(4, "exit", outcome="partial_fill"), more]))) == 1
    assert found(fold([*start, fill(4, "exit", outcome="filled"), more])) == []


@pytest.mark.req("S0-06")
def test_two_parts_of_one_unit_are_judged_once() -> None:
    assert len(found(fold([fill(5, outcome="partial_fill"), fill(5, outcome="filled")]))) == 1


@pytest.mark.req("S0-05", "S0-06")
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"limit_market": {"symbol": "QQQ", "current": 4}}, breach("market", "QQQ", "4", "5")),
        ({"limit_correlated": {"group": "index", "current": 6}}, breach("group", "index", "6", "7")),
        ({"limit_total": {"mode": "unit_count", "current_units": 12}}, breach("total", "", "12", "13")),
        ({"limit_total": {"mode": "risk_cap", "current_risk_percent": "20.1"}}, breach("risk", "", "20", "20.1")),
        ({"limit_market": {"symbol": "QQQ", "current": 3}, "limit_correlated": {"current": 5}}, None),
        ({"limit_total": {"mode": "risk_cap", "current_units": 13, "current_risk_percent": "19.5"}}, None),
    ],
    ids=["market", "group", "total", "risk", "just within", "no total under a risk cap"],
)
def test_an_approved_signal_over_a_limit(filters: dict[str, Any], expected: dict[str, str] | None) -> None:
    signal = evaluated(**filters)
    code = "risk_cap_exceeded" if expected and expected["limit"] == "risk" else "unit_limit_exceeded"
    assert found(fold([signal])) == ([(code, signal["event_id"], [expected])] if expected else [])
    assert found(fold([evaluated(approved=False, **filters)])) == []


@pytest.mark.req("S0-06")
def test_the_risk_of_all_units_and_the_next() -> None:
    limits = {"mode": "risk_cap", "units_total": 40}
    sizing = {"risk_percent": "0.005"}
    order = attempt(account={"limits": limits}, sizing=sizing)
    assert found(fold([order])) == [("risk_cap_exceeded", order["event_id"], [breach("risk", "", "20", "20.5")])]
    assert found(fold([attempt(account={"limits": {**limits, "units_total": 39}}, sizing=sizing)])) == []


@pytest.mark.req("S0-06")
def test_a_fifth_unit_of_a_pyramid() -> None:
    order = attempt("pyramid", pyramid={"units_after": 5})
    expected = [("unit_limit_exceeded", order["event_id"], [breach("market", "QQQ-USD", "4", "5")])]
    assert found(fold([order])) == expected
    assert found(fold([attempt("exit", pyramid={"units_after": 5})])) == []


@pytest.mark.req("S0-05", "S0-06")
@pytest.mark.parametrize(
    ("actual", "high_water", "notional", "ignored"),
    [
        ("50000", "55000", "50000", False),
        ("45000", "50000", "45000", True),
        ("45000", "50000", "36000", False),
        ("45000.01", "50000", "45000.01", False),
        ("44999.99", "50000", "35999.99", False),
        ("40000", "50000", "38000", True),
    ],
    ids=["9.1 %", "10 %", "reduced", "just above", "printed rounded", "reduced too little"],
)
def test_sizing_from_equity_in_a_drawdown(actual: str, high_water: str, notional: str, ignored: bool) -> None:
    order = attempt(account=account(actual, high_water, actual), sizing={"equity_notional": notional})
    assert [code for code, _, _ in found(fold([order]))] == ["drawdown_rule_ignored"] * ignored


@pytest.mark.req("S0-06")
def test_the_detail_shows_both_numbers() -> None:
    order = attempt(account=account("45000", "50000", "45000"))
    assert found(fold([order]))[0][2] == [breach("notional", "", "36000", "45000")]


def test_a_context_without_numbers_is_no_breach() -> None:
    empty = [attempt(account={"limits": {}}, pyramid={}, sizing={}), evaluated(limit_market={}, limit_total={})]
    assert found(fold(empty)) == []


@pytest.mark.req("S0-05", "S0-06")
@pytest.mark.parametrize("kind", ["order_created", "order_filled", "signal_evaluated"])
def test_the_documents_own_examples_break_no_rule(kind: str) -> None:
    blocks = ("market", "position", "account", "signal", "filters", "sizing", "pyramid")
    document = {name: block for name, block in turtle_document.contexts().items() if name in blocks}
    context = json.loads(json.dumps(document), parse_float=str)
    made = {"order_created": attempt(), "order_filled": fill(1), "signal_evaluated": evaluated()}[kind]
    payload = {**made["payload"], "context": context}
    example = event(kind, payload, trading_pair="QQQ-USD")
    assert set(example["payload"]["context"]) >= set(blocks)
    assert found(fold([example])) == []
