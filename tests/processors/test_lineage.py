"""Findings over the history of one order: opened when they hold, resolved when a later event mends them (P-04)."""

from __future__ import annotations

import pytest
from tests.folding import Partition, encode, fold, open_findings
from tests.processors.events import START, created, ended, event, filled

from tradetape.processors.lineage import Order


def snapshot(order: str) -> dict:
    return event(
        "order_snapshot",
        {"client_order_id": order, "side": "buy", "amount_base": "10"},
        correlation_id=f"chain-{order}",
    )


HISTORIES = {
    "clean": ([created("a"), filled("a", "4"), filled("a", "6"), ended("a")], {}),
    "cancelled": ([created("a"), ended("a", "order_cancelled")], {}),
    "fill_without_order": ([filled("a", side="buy")], {"fill_without_order": 1}),
    "fill arrives first": ([filled("a"), created("a"), ended("a")], {}),
    "order known by snapshot only": ([filled("a"), ended("a"), snapshot("a")], {}),
    "completed_without_fill": ([created("a"), ended("a")], {"completed_without_fill": 1}),
    "completed before its fill": ([created("a"), ended("a"), filled("a")], {"fill_after_terminal": 1}),
    "completed_underfilled": ([created("a"), filled("a", "9"), ended("a")], {"completed_underfilled": 1}),
    "amount known later": ([filled("a", "9"), ended("a"), snapshot("a")], {"completed_underfilled": 1}),
    "overfill": ([created("a"), filled("a", "11"), ended("a")], {"overfill": 1}),
    "conflicting_terminals": (
        [created("a"), filled("a"), ended("a"), ended("a", "order_cancelled")],
        {"conflicting_terminals": 1},
    ),
    "duplicate_terminal": (
        [created("a"), ended("a", "order_cancelled"), ended("a", "order_cancelled")],
        {"duplicate_terminal": 1},
    ),
    "fill_after_terminal": (
        [created("a"), ended("a", "order_cancelled"), filled("a")],
        {"fill_after_terminal": 1},
    ),
    "out_of_order": (
        [created("a", ts_utc=START + 10), ended("a", "order_cancelled", ts_utc=START + 9)],
        {"out_of_order": 1},
    ),
    "correlation_mismatch": (
        [created("a"), ended("a", "order_expired", correlation_id="other")],
        {"correlation_mismatch": 1},
    ),
    "fill_side_unknown": ([filled("a")], {"fill_without_order": 1, "fill_side_unknown": 1}),
    "two orders": ([filled("a", side="buy"), filled("b", side="buy")], {"fill_without_order": 2}),
}


@pytest.mark.req("P-04")
@pytest.mark.parametrize("name", HISTORIES)
def test_open_findings_at_the_end(name: str) -> None:
    events, expected = HISTORIES[name]
    outputs = fold(events)
    assert [o.audited["disposition"] for o in outputs] == ["accepted"] * len(events)
    assert open_findings(outputs) == expected


@pytest.mark.req("P-04")
def test_a_late_creation_resolves_with_the_event_that_mends_it() -> None:
    early, late = fold([filled("a", side="buy"), created("a")])
    assert [(f["code"], f["status"]) for f in early.audited["findings"]] == [
        ("fill_before_created", "noted"),
        ("fill_without_order", "opened"),
    ]
    assert [(f["code"], f["status"]) for f in late.audited["findings"]] == [("fill_without_order", "resolved")]


@pytest.mark.req("S0-10")
def test_an_error_becomes_an_alert_and_a_warning_does_not() -> None:
    outputs = fold([created("a"), filled("a", "11"), created("b"), filled("b", "9"), ended("b")])
    assert [alert["code"] for output in outputs for alert in output.alerts] == ["overfill"]


def test_orders_of_two_connectors_do_not_meet() -> None:
    outputs = fold([created("1"), filled("1", connector_name="binance", side="buy")])
    assert open_findings(outputs) == {"fill_without_order": 1}


@pytest.mark.req("P-04")
def test_ways_of_ending_are_told_apart_up_to_a_bound() -> None:
    partition = Partition()
    ways = [ended("a", "order_cancelled", native_type=f"T{number}") for number in range(50)]
    partition.take(encode(each) for each in [created("a"), filled("a", "4"), *ways, ended("a")])
    order = partition.state.get(Order, "live", "", "bot1", "kucoin", "a")
    assert order.terminals == {**{f"T{n}": 1 for n in range(8)}, "order_cancelled": 42, "order_completed": 1}
    assert {"conflicting_terminals", "duplicate_terminal", "completed_underfilled"} <= set(order.open_findings)
