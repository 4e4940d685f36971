"""The Five Questions are asked of what sizes, enters or adds a unit, and of nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.folding import fold
from tests.processors.events import created, event
from tests.producers.turtle_document import BLOCKS, flows, printed, whole
from tests.producers.turtle_rows import origin, record, row

from tradetape.producers.adapters import turtle

pytestmark = pytest.mark.req("S0-04")

NAMES = ("market", "account", "order", "sizing")
ATTEMPT = {name: BLOCKS[name] for name in NAMES}
EVERY = ["price", "volatility", "equity", "system", "risk"]


def asked(event_type: str, outcome: str, context: Any) -> dict[str, list[str]]:
    """What is unanswered in a row of Turtle."""
    made = turtle.from_record(origin(), record(row(event_type, outcome, context)), position=1)
    assert made["event_type"] != "unmapped_record", made["payload"]
    return unanswered(made)


def unanswered(made: dict[str, Any]) -> dict[str, list[str]]:
    (output,) = fold([made])
    found = [f for f in output.audited["findings"] if f["code"] == "question_unanswered"]
    if not found:
        return {}
    assert [(f["subject"], f["status"], f["severity"]) for f in found] == [(made["event_id"], "opened", "warning")]
    detail: dict[str, list[str]] = json.loads(found[0]["detail"])
    return detail


def without(*paths: str) -> dict[str, Any]:
    context: dict[str, Any] = json.loads(json.dumps(ATTEMPT))
    for path in paths:
        *above, key = path.split(".")
        inner = context
        for part in above:
            inner = inner[part]
        del inner[key]
    return context


@pytest.mark.parametrize("what", ["ENTRY_ATTEMPTED", "PYRAMID_ATTEMPTED"])
@pytest.mark.parametrize("outcome", ["submitted", "insufficient_cash", "market_closed", "delayed_fast_market"])
def test_an_attempt_with_the_documents_contexts_answers_all(what: str, outcome: str) -> None:
    assert asked(what, outcome, ATTEMPT) == {}
    assert asked(what, outcome, {"order": BLOCKS["order"]})["unanswered"] == [
        question for question in EVERY if question != "price"
    ]


@pytest.mark.parametrize(
    ("paths", "question", "missing"),
    [
        (("sizing.price", "market.price", "order.fill_price"), "price", "price"),
        (("sizing.n_value", "market.n.value"), "volatility", "n"),
        (("sizing.atr_period", "market.n.period"), "volatility", "n_period"),
        (("sizing.equity_actual", "account.equity_actual"), "equity", "equity_actual"),
        (("sizing.equity_notional", "account.equity_notional"), "equity", "equity_notional"),
        (("sizing.system",), "system", "system"),
        (("sizing.risk_percent",), "risk", "risk_percent"),
    ],
)
def test_a_question_without_answer_is_named(paths: tuple[str, ...], question: str, missing: str) -> None:
    assert asked("ENTRY_ATTEMPTED", "submitted", without(*paths)) == {"unanswered": [question], "missing": [missing]}
    for path in paths if len(paths) > 1 else ():
        assert asked("ENTRY_ATTEMPTED", "submitted", without(path)) == {}


def test_a_fill_is_asked_what_the_documents_flow_answers() -> None:
    answers = {name: BLOCKS[name] for name in ("market", "order", "position")}
    assert asked("ENTRY_FILLED", "filled", answers) == {}
    assert asked("PYRAMID_FILLED", "partial_fill", answers | {"order": {**BLOCKS["order"], "filled_quantity": 3}}) == {}
    del answers["position"], answers["market"]
    assert asked("ENTRY_FILLED", "filled_at_gap", answers)["unanswered"] == ["volatility", "system"]


def test_what_enters_nothing_is_not_asked() -> None:
    order = {"order": BLOCKS["order"]}
    for what, outcome in (
        ("ENTRY_FILLED", "cancelled"),
        ("PYRAMID_FILLED", "expired"),
        ("EXIT_ATTEMPTED", "submitted"),
        ("EXIT_FILLED", "filled"),
        ("POSITION_CHECKED", "hold"),
    ):
        assert asked(what, outcome, order) == {}
    assert asked("POSITION_CHECKED", "hold", {"sizing": {"price": 5}})["unanswered"] == EVERY[1:]


def test_a_bot_without_contexts_is_not_asked() -> None:
    made = created("a")
    made["payload"]["purpose"] = "entry"
    assert unanswered(made) == {}
    assert unanswered(made | {"source_system": "turtle"})["unanswered"] == EVERY
    assert unanswered(event("heartbeat", {"service": "x"}, source_system="turtle")) == {}


@pytest.mark.req("S0-07")
@pytest.mark.parametrize(("title", "steps"), flows(), ids=[title for title, _ in flows()])
def test_the_documents_flows_leave_nothing_open(title: str, steps: list[tuple[str, str]]) -> None:
    for native_type, step in steps:
        _, outcome, context = printed(step)
        if native_type.endswith(("_ATTEMPTED", "_FILLED")):
            assert asked(native_type, outcome or "executed", whole(native_type, context)) == {}
