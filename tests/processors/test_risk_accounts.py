"""P&L, exposure, equity, drawdown, the day and losses in a row of an instance (P-02)."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import INGEST, Partition, encode, fold
from tests.processors.events import START, created, ended, event, filled

from tradetape.processors.core import Output
from tradetape.processors.risk.figures import QUOTES, Instance

SECOND, DAY = 1_000_000, 86_400_000_000
MIDNIGHT = START // DAY * DAY + DAY
ROUNDING = Fraction(1, 10**15)


def price(value: str, at: int, pair: str = "ONE-USDT", **fields: Any) -> dict[str, Any]:
    return event("market_price", {"price": value}, ts_utc=at, trading_pair=pair, **fields)


def trade(side: str, quantity: str, value: str, at: int, pair: str = "ONE-USDT", **fields: Any) -> dict[str, Any]:
    return filled(f"{pair}{at}", quantity, value, side, ts_utc=at, trading_pair=pair, **fields)


def snapshot(equity: str, at: int, pair: str = "", **fields: Any) -> dict[str, Any]:
    return event("portfolio_snapshot", {"equity": equity}, ts_utc=at, trading_pair=pair, **fields)


def figures(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    return [output.risk for output in outputs if output.risk is not None]


def last(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return figures(fold(events))[-1]


def codes(outputs: Sequence[Output]) -> list[str]:
    return [found["code"] for output in outputs for found in output.audited["findings"]]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["buy", "sell"]), st.integers(0, 2), st.integers(5, 9), st.integers(1, 9)),
        st.tuples(st.just("mark"), st.integers(0, 2), st.integers(5, 9), st.just(0)),
        st.tuples(st.just("equity"), st.just(0), st.integers(1, 9_000), st.just(0)),
        st.tuples(st.just("funding"), st.just(0), st.integers(-9, 9), st.just(0)),
        st.tuples(st.just("night"), st.just(0), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=30,
)


def events(steps: Sequence[tuple[str, int, int, int]], **fields: Any) -> list[dict[str, Any]]:
    found, at = [], START
    for kind, pair, value, quantity in steps:
        at += SECOND
        market = f"A{pair}-USDT"
        if kind == "night":
            at += DAY
        elif kind == "mark":
            found.append(price(str(value), at, market, **fields))
        elif kind == "equity":
            found.append(snapshot(str(value), at, market, **fields))
        elif kind == "funding":
            found.append(event("funding_paid", {"amount": str(value), "asset": "USDT"}, ts_utc=at, **fields))
        else:
            found.append(trade(kind, str(quantity), str(value), at, market, fee="0.25", **fields))
    return found


@pytest.mark.req("P-02")
@given(STEPS)
def test_the_account_equals_an_independent_computation_in_fractions(steps: list[tuple[str, int, int, int]]) -> None:
    outputs = fold(events(steps))
    cash, net, marks = Fraction(0), dict.fromkeys(range(3), Fraction(0)), dict.fromkeys(range(3), Fraction(0))
    recorded = at_recorded = peak = None
    today = at_day = Fraction(0)
    day_of = START // DAY
    at, number = START, 0
    for kind, pair, value, quantity in steps:
        at += SECOND
        if kind == "night":
            at += DAY
            continue
        output = outputs[number]
        number += 1
        before = cash + sum(net[each] * marks[each] for each in net)
        if kind in ("buy", "sell"):
            signed = Fraction(quantity) * (1 if kind == "buy" else -1)
            cash -= signed * value + Fraction(1, 4)
            net[pair] += signed
        if kind == "funding":
            cash += value
        if kind in ("buy", "sell", "mark"):
            marks[pair] = Fraction(value)
        if (kind != "mark" or output.risk is not None) and at // DAY > day_of:
            at_day, day_of = before, at // DAY
        pnl = cash + sum(net[each] * marks[each] for each in net)
        today = pnl - at_day
        if kind == "equity":
            recorded, at_recorded = Fraction(value), pnl
        figure = output.risk
        if figure is None:
            continue
        known = [figure[name] for name in ("account_realised", "account_funding", "account_unrealised")]
        assert abs(sum(map(Fraction, known)) - Fraction(figure["account_fees"]) - pnl) < ROUNDING
        values = [net[each] * marks[each] for each in net]
        assert Fraction(figure["exposure_net"]) == sum(values)
        gross = sum(map(abs, values))
        assert Fraction(figure["exposure_gross"]) == gross
        if gross:
            assert abs(Fraction(figure["concentration"]) - max(map(abs, values)) / gross) < ROUNDING
        else:
            assert figure["concentration"] is None
        assert abs(Fraction(figure["daily_pnl"]) - today) < ROUNDING
        if recorded is None or at_recorded is None:
            assert (figure["equity"], figure["peak_equity"], figure["drawdown_pct"]) == (None, None, None)
            continue
        equity = recorded + pnl - at_recorded
        peak = equity if peak is None else max(peak, equity)
        assert abs(Fraction(figure["equity"]) - equity) < ROUNDING
        assert figure["peak_equity"] >= figure["equity"]
        assert abs(Fraction(figure["peak_equity"]) - peak) < ROUNDING
        assert abs(Fraction(figure["drawdown_quote"]) - (peak - equity)) < ROUNDING


@pytest.mark.req("P-02", "P-06")
@given(STEPS, STEPS, st.randoms(use_true_random=False))
def test_independent_instances_commute(
    one: list[tuple[str, int, int, int]], two: list[tuple[str, int, int, int]], shuffler: Any
) -> None:
    here = events(one, instance_name="here")
    others = [
        events(two, instance_name="there"),
        events(two, instance_name="here", environment="paper"),
        events(two, instance_name="here", account="second"),
    ]
    mixed = list(here)
    for other in others:
        for each in other:
            mixed.insert(shuffler.randint(0, len(mixed)), each)
    own = {id(each) for each in here}
    order = [each for each in mixed if id(each) in own]
    outputs = fold(mixed)
    alone = figures(fold(order))
    among = [output.risk for each, output in zip(mixed, outputs, strict=True) if id(each) in own and output.risk]
    assert [_values(figure) for figure in among] == [_values(figure) for figure in alone]


def _values(figure: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figure.items() if name != "raw_offset"}


@pytest.mark.req("S1-11", "P-02")
@given(STEPS, st.integers(0, 30), st.integers(0, 30))
def test_replaying_any_stretch_changes_nothing(steps: list[tuple[str, int, int, int]], start: int, length: int) -> None:
    stream = [
        {**each, "source_id": "s", "source_stream": "x", "source_position": n} for n, each in enumerate(events(steps))
    ]
    partition = Partition()
    partition.take(map(encode, stream))
    before = dict(partition.store)
    outputs = partition.take(map(encode, stream[start : start + length]))
    assert figures(outputs) == []
    changed = {key for key in partition.store if partition.store[key] != before.get(key)}
    assert changed <= {b"0a"}


@pytest.mark.req("P-06", "P-02")
@given(STEPS)
def test_state_that_was_written_is_state_that_was_kept(steps: list[tuple[str, int, int, int]]) -> None:
    values = [encode(each) for each in events(steps)]
    kept, restarted = Partition(), Partition()
    expected = kept.take(values)
    outputs = []
    for value in values:
        outputs += restarted.take([value])
        restarted.restart()
    assert outputs == expected
    assert {key: restarted.store.get(key) for key in kept.store if key != b"0a"} == {
        key: value for key, value in kept.store.items() if key != b"0a"
    }


@pytest.mark.req("P-02")
def test_a_mark_moves_figures_only_where_a_position_is_open() -> None:
    flat, opened, same, moved, other = fold(
        [
            price("2", START + 1),
            trade("buy", "10", "2", START + 2),
            price("2", START + 3),
            price("3", START + 4),
            price("9", START + 5, "TWO-USDT"),
        ]
    )
    assert (flat.risk, same.risk, other.risk) == (None, None, None)
    assert opened.risk is not None and opened.risk["unrealised_quote"] == 0
    assert moved.risk is not None
    assert (moved.risk["mark_price"], moved.risk["unrealised_quote"], moved.risk["exposure_gross"]) == (3, 10, 30)


@pytest.mark.req("P-02")
@pytest.mark.parametrize("bad", ["0", "-5", "2000", "0.0002"])
def test_one_bad_tick_moves_no_figure(bad: str) -> None:
    start = [snapshot("100", START), trade("buy", "10", "2", START + 1)]
    outputs = fold([*start, price(bad, START + 2), price("2.1", START + 3)])
    assert outputs[2].risk is None
    figure = outputs[3].risk
    assert figure is not None
    assert (figure["equity"], figure["peak_equity"], figure["drawdown_pct"]) == (101, 101, 0)


@pytest.mark.req("P-02")
def test_a_price_that_really_jumped_counts_once_a_second_agrees() -> None:
    outputs = fold([trade("buy", "10", "2", START + 1), price("20", START + 2), price("21", START + 3)])
    assert outputs[1].risk is None
    assert outputs[2].risk is not None and outputs[2].risk["mark_price"] == 21


@pytest.mark.req("P-02")
def test_of_two_marks_the_later_counts_and_a_wild_clock_holds_none() -> None:
    opened = trade("buy", "10", "2", START + 5 * SECOND)
    assert figures(fold([opened, price("3", START + 4 * SECOND)]))[-1]["mark_price"] == 2
    wild = price("3", INGEST + 10 * 365 * DAY)
    figure = last([opened, wild, price("4", INGEST + 6 * 60 * SECOND)])
    assert (figure["mark_price"], figure["day"]) == (4, "2026-09-21")


@pytest.mark.req("P-02")
def test_without_a_mark_what_needs_one_is_unknown() -> None:
    figure = last([snapshot("100", START), trade("buy", "10", "0", START + 1)])
    unknown = ("mark_price", "unrealised_quote", "account_unrealised", "exposure_gross", "exposure_net")
    assert [figure[name] for name in (*unknown, "concentration", "daily_pnl", "equity")] == [None] * 8
    assert figure["net_base"] == 10


@pytest.mark.req("P-02")
def test_fees_in_quote_lower_the_account_and_those_in_a_third_asset_stand_apart() -> None:
    paid = trade("buy", "10", "2", START)
    paid["payload"]["other_fees"] = [{"asset": "KCS", "amount": Decimal("0.7")}]
    paid["payload"]["fee_amount"] = Decimal("0.2")
    figure = last([paid])
    assert figure["fees"] == {"USDT": Decimal("0.2"), "KCS": Decimal("0.7")}
    assert (figure["account_fees"], figure["daily_pnl"]) == (Decimal("0.2"), Decimal("-0.2"))


@pytest.mark.req("P-02")
def test_the_day_begins_at_midnight_utc_of_the_event() -> None:
    yesterday = [snapshot("100", MIDNIGHT - 5 * SECOND), trade("buy", "10", "2", MIDNIGHT - 4 * SECOND)]
    sold = trade("sell", "10", "1.5", MIDNIGHT + SECOND)
    figure = last([*yesterday, price("3", MIDNIGHT - SECOND), sold])
    assert (figure["daily_pnl"], round(figure["daily_pnl_pct"], 6)) == (-15, Decimal("-13.636364"))
    assert (figure["day_equity"], figure["equity"], figure["peak_equity"]) == (110, 95, 110)
    assert (figure["drawdown_quote"], round(figure["drawdown_pct"], 6)) == (15, Decimal("13.636364"))
    assert figure["day"] == "2023-11-15"


@pytest.mark.req("P-02")
def test_what_comes_late_counts_for_the_day_it_happened_on() -> None:
    today = trade("buy", "1", "2", MIDNIGHT + SECOND, "TWO-USDT")
    late = [
        trade("buy", "10", "2", MIDNIGHT - 9 * SECOND),
        trade("sell", "10", "1", MIDNIGHT - 8 * SECOND),
    ]
    figure = last([today, *late])
    assert (figure["account_realised"], figure["daily_pnl"], figure["day"]) == (-10, 0, "2023-11-15")


@pytest.mark.req("P-02")
def test_a_recorded_equity_contains_what_happened_before_it() -> None:
    late = [trade("buy", "10", "2", START + 1), trade("sell", "10", "1", START + 2)]
    assert last([snapshot("90", START + 5), *late])["equity"] == 90
    assert last([*late, snapshot("90", START + 5)])["equity"] == 90


@pytest.mark.req("P-02", "S2-03")
@pytest.mark.parametrize(
    ("recorded", "equity"),
    [
        (event("state_snapshot", {"state": "running", "equity_quote": "70.5"}), "70.5"),
        (event("portfolio_snapshot", {"equity": "70.5"}), "70.5"),
        (event("position_checked", {"context": {"account": {"equity_actual": "70.5"}}}), "70.5"),
        (event("account_setting_updated", {"setting": "initial_equity", "value": "70.5"}), "70.5"),
        (event("account_setting_updated", {"setting": "equity", "value": 70}), "70"),
        (event("system_started", {"version": "1"}) | {"extra": '{"initial_equity": 70.1}'}, "70.1"),
        (event("entity_snapshot", {"state": {"equity": 70}}, aggregate_type="portfolio"), "70"),
    ],
    ids=["state", "portfolio", "context", "setting", "setting as number", "start", "entity"],
)
def test_equity_is_what_the_bot_last_recorded(recorded: dict[str, Any], equity: str) -> None:
    figure = last([recorded, trade("buy", "1", "2", recorded["ts_utc"] + 1, fee="0.5")])
    assert (figure["equity"], figure["equity_asset"]) == (Decimal(equity) - Decimal("0.5"), "USDT")


@pytest.mark.req("P-02")
@pytest.mark.parametrize(
    "nonsense",
    [
        event("state_snapshot", {"state": "running", "equity_quote": "0"}),
        event("account_setting_updated", {"setting": "equity", "value": {"a": [1]}}),
        event("account_setting_updated", {"setting": "leverage", "value": 5}),
        event("account_setting_updated", {"setting": "cooldown_until", "value": "soon"}),
        event("entity_snapshot", {"state": {"equity": 5}}, aggregate_type="order"),
        event("system_started", {"version": "1"}) | {"extra": "[1]"},
    ],
    ids=["zero", "no number", "another setting", "no time", "another entity", "no object"],
)
def test_what_is_no_equity_records_none(nonsense: dict[str, Any]) -> None:
    figure = last([nonsense, trade("buy", "1", "2", nonsense["ts_utc"] + 1)])
    assert (figure["equity"], figure["cooldown_until"]) == (None, None)


@pytest.mark.req("P-02", "S2-03")
def test_a_cooldown_is_what_the_bot_records() -> None:
    stopped = event("circuit_breaker_triggered", {"reason": "losses"})
    figure = last([stopped | {"extra": '{"cooldown_until": "2024-05-01T12:00:00Z"}'}])
    assert figure["cooldown_until"] == 1_714_564_800_000_000


@pytest.mark.req("P-02", "S2-03")
def test_losses_in_a_row_are_those_of_round_trips_over_all_pairs() -> None:
    trips = [("A-USDT", "3"), ("B-USDT", "1"), ("A-USDT", "1"), ("C-USDT", "1"), ("B-USDT", "2")]
    stream = []
    for n, (pair, end) in enumerate(trips):
        stream += [trade("buy", "1", "2", START + 2 * n, pair), trade("sell", "1", end, START + 2 * n + 1, pair)]
    losses = [figure["consecutive_losses"] for figure in figures(fold(stream))]
    assert losses == [0, 0, 0, 1, 1, 2, 2, 3, 3, 0]
    fees = [trade("buy", "1", "2", START, fee="0.1"), trade("sell", "1", "2", START + 1, fee="0.1")]
    assert last(fees)["consecutive_losses"] == 1
    turned = [trade("buy", "1", "2", START), trade("sell", "2", "1", START + 1), trade("buy", "1", "3", START + 2)]
    assert last(turned)["consecutive_losses"] == 2


@pytest.mark.req("P-02")
def test_a_late_execution_changes_the_row_of_losses_too() -> None:
    win = [trade("buy", "1", "1", START + 2), trade("sell", "1", "2", START + 4)]
    loss = [trade("buy", "1", "2", START + 6, "B-USDT"), trade("sell", "1", "1", START + 8, "B-USDT")]
    assert last([*win, *loss])["consecutive_losses"] == 1
    bought_dear = trade("buy", "1", "9", START + 1)
    assert last([*win, *loss, bought_dear])["consecutive_losses"] == 1
    sold_cheap = trade("sell", "1", "0.5", START + 3)
    assert last([*win, *loss, bought_dear, sold_cheap])["consecutive_losses"] == 2


@pytest.mark.req("P-02")
def test_long_rows_of_losses_outlast_what_is_kept() -> None:
    stream = []
    for n in range(50):
        stream += [trade("buy", "1", "2", START + 2 * n), trade("sell", "1", "1", START + 2 * n + 1)]
    assert last(stream)["consecutive_losses"] == 50


@pytest.mark.req("P-02")
def test_quote_assets_are_converted_by_a_recorded_mark_or_not_at_all() -> None:
    start = [snapshot("100", START, "ONE-USDT"), trade("buy", "1", "0.5", START + 1, "ALGO-BTC")]
    sold = trade("sell", "1", "0.75", START + 3, "ALGO-BTC")
    outputs = fold([*start, sold, trade("buy", "1", "2", START + 4), trade("buy", "1", "2", START + 5)])
    assert [output.risk["equity"] for output in outputs[2:] if output.risk] == [None] * 3
    assert codes(outputs).count("no_conversion") == 1
    figure = last([*start, price("1000", START + 2, "BTC-USDT"), sold])
    assert (figure["equity"], figure["equity_asset"], figure["quote_asset"]) == (350, "USDT", "BTC")
    assert (figure["account_realised"], figure["daily_pnl"]) == (Decimal("0.25"), Decimal("0.25"))
    inverse = last([*start, price("0.001", START + 2, "USDT-BTC"), sold])
    assert inverse["equity"] == 350


@pytest.mark.req("P-02")
def test_concentration_is_the_largest_share() -> None:
    stream = [
        trade("buy", "1", "60", START + 1, "A-USDT"),
        trade("sell", "1", "30", START + 2, "B-USDT"),
        trade("buy", "1", "10", START + 3, "C-USDT"),
        price("30", START + 4, "A-USDT"),
        price("20", START + 5, "B-USDT"),
        trade("sell", "1", "40", START + 6, "A-USDT"),
        trade("sell", "1", "20", START + 7, "C-USDT"),
    ]
    shares = [figure["concentration"] for figure in figures(fold(stream))]
    assert [None if share is None else round(share, 4) for share in shares] == [
        1,
        Decimal("0.6667"),
        Decimal("0.6"),
        Decimal("0.4286"),
        Decimal("0.5"),
        Decimal("0.6667"),
        1,
    ]


@pytest.mark.req("P-02")
def test_figures_beyond_the_contract_are_unknown_and_stop_nothing() -> None:
    outputs = fold([trade("buy", "1e19", "1", START), price("1.5e20", START + 1), price("1.5e20", START + 2)])
    figure = outputs[2].risk
    assert figure is not None
    assert (figure["unrealised_quote"], figure["exposure_gross"], figure["daily_pnl"]) == (None, None, None)
    assert figure["net_base"] == Decimal("1e19")


@pytest.mark.req("P-02")
def test_open_orders_and_windows_of_an_instance() -> None:
    stream = [
        created("a", ts_utc=START),
        created("b", ts_utc=START + 30 * SECOND),
        ended("a", "order_cancelled", ts_utc=START + 40 * SECOND),
        ended("b", "order_failed", ts_utc=START + 50 * SECOND),
        created("c", ts_utc=START + 90 * SECOND),
        created("d", ts_utc=START + 2 * 3600 * SECOND),
    ]
    names = ("open_orders", "orders_1m", "cancels_1m", "rejects_1m", "orders_1h", "cancels_1h", "rejects_1h")
    assert [tuple(figure[name] for name in names) for figure in figures(fold(stream))] == [
        (1, 1, 0, 0, 1, 0, 0),
        (2, 2, 0, 0, 2, 0, 0),
        (1, 2, 1, 0, 2, 1, 0),
        (0, 2, 1, 1, 2, 1, 1),
        (1, 1, 1, 1, 3, 1, 1),
        (2, 1, 0, 0, 1, 0, 0),
    ]


def paid(asset: str, amount: str = "-5", **fields: Any) -> dict[str, Any]:
    return event("funding_paid", {"amount": amount, "asset": asset}, **fields)


def test_funding_in_another_asset_than_the_quote_shows_in_the_figure_of_its_account() -> None:
    held = [created("a"), filled("a", "1", "2")]
    figure = last([*held, paid("USDC")])
    assert (figure["quote_asset"], figure["account_funding"], figure["daily_pnl"]) == ("USDC", -5, -5)
    assert (figure["trading_pair"], figure["net_base"], figure["cost_quote"], figure["mark_price"]) == ("", 0, 0, None)
    figure = last([*held, paid("USDC"), paid("USDT")])
    assert (figure["quote_asset"], figure["account_funding"], figure["trading_pair"]) == ("USDT", -5, "ONE-USDT")


def test_an_instance_is_looked_up_by_a_bounded_number_of_quote_assets() -> None:
    partition = Partition()
    more = [paid(f"A{number}") for number in range(QUOTES + 5)]
    outputs = partition.take(encode(each) for each in [created("a"), snapshot("100", START, "ONE-USDT"), *more])
    assert len(partition.state.get(Instance, "live", "", "bot1").quotes) == QUOTES
    alone = [found for found in outputs[-1].audited["findings"] if found["code"] == "no_conversion"]
    assert [found["detail"] for found in alone] == [f'{{"asset":"A{QUOTES + 4}","into":"USDT"}}']
    assert figures(outputs)[-1]["account_funding"] == -5
