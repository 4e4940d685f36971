"""Turtle's contexts: what the builders compute is what the rules say, to the printed digit."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers import events
from tradetape.producers.sdk import contexts
from tradetape.producers.sdk.contexts import Unit
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.errors import TradetapeError

D = Decimal
PRICES = st.decimals("0.01", "9999", places=2)
NS = st.decimals("0.01", "99", places=2)
DIRECTIONS = st.sampled_from(["LONG", "SHORT"])


def test_n_is_wilders() -> None:
    n = contexts.n_context(true_range=9.32, prev_n="8.48", date="2026-02-12")
    assert n == {
        "value": D("8.52"),
        "period": 20,
        "smoothing": "wilders",
        "prev_n": D("8.48"),
        "true_range": D("9.32"),
        "calculation": "((19 × 8.48) + 9.32) / 20 = 8.52",
        "date": "2026-02-12",
    }


@pytest.mark.req("S0-03")
def test_a_short_position() -> None:
    position = contexts.position_context(
        "QQQ", "SHORT", "S2", [Unit(525, "8.26", 26, "2026-02-04")], current_price=523.45, days_held=8
    )
    expected: dict[str, Any] = {
        "contracts": 26,
        "average_entry": D("525.00"),
        "position_value": D("13609.70"),
        "current_stop": D("541.52"),
        "stop_distance": D("16.52"),
        "stop_calculation": "525 + (2 × 8.26) = 541.52",
        "unrealized_pnl": D("40.30"),
        "unrealized_pnl_percent": D("0.3"),
        "pnl_in_n": D("0.19"),
        "can_pyramid": True,
        "days_held": 8,
    }
    assert {name: position[name] for name in expected} == expected
    assert position["next_pyramid"] == {
        "level": 2,
        "trigger_price": D("520.87"),
        "trigger_calculation": "525 - (0.5 × 8.26) = 520.87",
        "distance_to_trigger": D("2.58"),
    }


@pytest.mark.req("S0-03")
def test_a_full_position_has_no_next_unit_and_stops_by_its_latest() -> None:
    units = [Unit(100 + level, 2, 10) for level in range(4)]
    position = contexts.position_context("XLE", "LONG", "S1", units, current_price=104)
    assert (position["units"], position["can_pyramid"], "next_pyramid" in position) == (4, False, False)
    assert (position["average_entry"], position["current_stop"]) == (D("101.50"), D("99.00"))


@pytest.mark.req("S0-03")
def test_a_unit_is_sized_down() -> None:
    sizing = contexts.sizing_context(
        price=523.45,
        n_value=8.52,
        equity_actual=50000,
        equity_notional=50000,
        system="S2",
        direction="SHORT",
        risk_percent=0.005,
    )
    results = ("risk_dollars", "raw_unit_size", "contracts", "position_value", "initial_stop", "risk_per_contract")
    assert [sizing[name] for name in results] == [D(x) for x in ("250", "29.34", "29", "15180.05", "540.49", "17.04")]
    assert sizing["calculation"] == "floor((50000 × 0.005) / (8.52 × 1)) = 29"


@pytest.mark.req("S0-03")
def test_an_exit_and_its_result() -> None:
    ended = contexts.exit_context(
        reason="stop_hit",
        trigger_type="stop",
        trigger_price=541.52,
        current_price=542,
        direction="SHORT",
        contracts=26,
        entry_price=525,
        n=8.26,
        fill_price=542.1,
        commission=0.65,
        rule="Rule 10: 2N stop",
    )
    assert ended["breach_amount"] == D("0.48")
    pnl = ended["pnl"]
    assert [pnl[name] for name in ("slippage", "gross_pnl", "net_pnl", "pnl_percent", "pnl_in_n")] == [
        D(x) for x in ("0.58", "-444.60", "-445.25", "-3.3", "-2.07")
    ]
    open_exit = contexts.exit_context(
        reason="stop_hit", trigger_type="stop", trigger_price=9, current_price=8, direction="LONG", contracts=1, n=1,
        entry_price=10,
    )  # fmt: skip
    assert "pnl" not in open_exit
    assert open_exit["breach_amount"] == 1


@pytest.mark.req("S0-03")
def test_a_pyramid_moves_the_stop() -> None:
    given_: dict[str, Any] = {
        "level": 2,
        "direction": "LONG",
        "last_entry_price": 50.25,
        "n_at_last_entry": 1.24,
        "current_price": 50.9,
        "n_current": 1.26,
        "equity_notional": 50000,
        "risk_percent": 0.005,
        "contracts_before": 243,
        "stop_before": 47.77,
    }
    attempted = contexts.pyramid_context(**given_)
    filled = contexts.pyramid_context(**given_, fill_price=50.9)
    assert (attempted["trigger_price"], attempted["new_contracts"], attempted["contracts_after"]) == (
        D("50.87"),
        198,
        441,
    )
    assert "stop_after" not in attempted
    assert (filled["stop_after"], filled["stop_moved_by"]) == (D("48.38"), D("0.61"))


@pytest.mark.req("S0-03")
@pytest.mark.parametrize(
    ("actual", "triggered", "notional"),
    [("49501", False, "49501"), ("49500", True, "39600"), ("55000", False, "55000")],
)
def test_the_drawdown_rule(actual: str, triggered: bool, notional: str) -> None:
    account = contexts.account_context(actual, 55000)
    assert (account["drawdown"]["triggered"], account["equity_notional"]) == (triggered, D(notional))


@pytest.mark.req("S0-03")
def test_filters_name_the_first_that_blocked() -> None:
    passed, failed = {"passed": True}, {"passed": False}
    blocked = contexts.filter_context({"s1_filter": failed, "limit_market": passed, "limit_total": failed})
    assert (blocked["all_passed"], blocked["blocking_filter"]) == (False, "s1_filter")
    assert blocked["evaluation_order"] == ["s1_filter", "limit_market", "limit_total"]
    assert contexts.filter_context({"limit_market": passed})["all_passed"]


@pytest.mark.req("S0-03")
def test_gaps_and_fast_markets() -> None:
    gap = contexts.gap_context(previous_close=521, open_price=523.5, signal_price=522, executed_at_open=True)
    assert (gap["gap_direction"], gap["gap_size"], gap["gap_percent"]) == ("up", D("2.5"), D("0.48"))
    assert gap["is_gap_open"] is gap["gapped_through"] is True
    fast = contexts.fast_market_context(bid=523.4, ask=523.5, spread_threshold=0.05)
    assert (fast["detected"], fast["spread_at_signal"]) == (True, D("0.1"))


@pytest.mark.req("S0-03")
@pytest.mark.parametrize(
    ("opened", "level", "direction"),
    [
        ("523.5", "522", "up"),
        ("519", "520", "down"),
        ("523.5", "524", None),
        ("523.5", "520", None),
        ("519", "522", None),
        ("523.5", "521", None),
        ("523.5", "523.5", None),
        ("521", "521", None),
    ],
)
def test_a_market_gaps_where_it_goes_through_the_level(opened: str, level: str, direction: str | None) -> None:
    gap = contexts.gap_context(previous_close="521", open_price=opened, signal_price=level, executed_at_open=False)
    assert (gap["is_gap_open"], gap["gapped_through"]) == (direction is not None, direction is not None)
    assert gap["gap_direction"] == direction
    assert gap["gap_size"] == D(opened) - 521


@pytest.mark.req("S0-03")
@given(DIRECTIONS, PRICES, NS, st.decimals("0", "200000", places=2), st.decimals("0", "0.05", places=4))
def test_sizing_keeps_its_identities(direction: str, price: D, n: D, equity: D, risk: D) -> None:
    sizing = contexts.sizing_context(
        price=price, n_value=n, equity_actual=equity, equity_notional=equity, system="S1", direction=direction,
        risk_percent=risk,
    )  # fmt: skip
    assert sizing["contracts"] == (equity * risk / n).to_integral_value(ROUND_FLOOR)
    assert sizing["contracts"] * n <= equity * risk
    assert abs(sizing["initial_stop"] - price) == 2 * n
    assert (sizing["initial_stop"] > price) == (direction == "SHORT")


@pytest.mark.req("S0-03")
@given(DIRECTIONS, st.lists(st.tuples(PRICES, NS, st.integers(1, 500)), min_size=1, max_size=4), PRICES)
def test_every_context_is_typed_by_the_schema(direction: str, units: list[tuple[D, D, int]], price: D) -> None:
    position = contexts.position_context("QQQ", direction, "S2", [Unit(*unit) for unit in units], current_price=price)
    event = events.new_event(
        "position_checked",
        ts_utc="2024-05-01T12:00:00Z",
        producer="monitor",
        instance_name="turtle",
        event_id="e",
        correlation_id="e",
        payload={"context": {"position": position, "market": contexts.market_context("QQQ", price)}},
    )
    assert event["extra"] is None
    assert event["payload"]["context"]["position"]["contracts"] == sum(amount for _, _, amount in units)


@pytest.mark.req("S0-03")
def test_every_key_of_a_builder_has_a_typed_place() -> None:
    (context,) = (f for f in event_types()["position_checked"].payload_fields if f["name"] == "context")
    records = {f["name"]: {g["name"] for g in f["type"][1]["fields"]} for f in context["type"][1]["fields"][:-1]}
    channel = (2, 1)
    built = {
        "market": contexts.market_context(
            "QQQ", 1, n=contexts.n_context(true_range=1, prev_n=1),
            donchian=contexts.donchian_context(dc10=channel, dc20=channel, dc55=channel),
        ),
        "account": contexts.account_context(
            1, 1, limits=contexts.limits_context(mode="risk_cap", units_by_market={"QQQ": 1}, units_by_group={})
        ),
        "order": contexts.order_context(action="BUY", quantity=1, fill_price=1, expected_price=1, order_id="1"),
        "signal": contexts.signal_context(
            direction="LONG", system="S1", trigger_price=1, signal_price=1, channel_period=20
        ),
        "filters": contexts.filter_context({"limit_total": {"passed": True}}),
    }  # fmt: skip
    for name, keys in built.items():
        assert keys.keys() <= records[name]


@pytest.mark.parametrize(
    "call",
    [
        lambda: contexts.sizing_context(
            price=1, n_value=0, equity_actual=1, equity_notional=1, system="S1", direction="LONG", risk_percent=1
        ),
        lambda: contexts.position_context("QQQ", "UP", "S1", [Unit(1, 1, 1)], current_price=1),
        lambda: contexts.position_context("QQQ", "LONG", "S1", [], current_price=1),
        lambda: contexts.market_context("QQQ", "dear"),
        lambda: contexts.market_context("QQQ", float("nan")),
    ],
)
def test_what_cannot_be_computed_is_refused(call: Any) -> None:
    with pytest.raises(TradetapeError):
        call()
