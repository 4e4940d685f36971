"""Trades in figures: hold, excursions and efficiency from events, against examples computed by hand (S0-11)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import INGEST
from tests.processors.events import START, created, event, filled
from tests.producers.catalyst_rows import drain
from tests.producers.catalyst_rows import origin as catalyst_origin
from tests.producers.turtle_rows import origin

from tradetape.processors import trade_statistics
from tradetape.processors.findings import Finding
from tradetape.processors.horizons import Horizons
from tradetape.processors.reading import RawRecord
from tradetape.processors.state import PartitionState
from tradetape.processors.trade_statistics import Trade, TradeStatistics, statistics
from tradetape.producers.adapters import turtle
from tradetape.producers.connectors.catalyst.source import open_source
from tradetape.producers.simulator.catalyst import fleet as catalyst
from tradetape.producers.simulator.turtle.bot import Turtle
from tradetape.producers.simulator.turtle.fleet import to_json

pytestmark = pytest.mark.req("S0-11")

D = Decimal
SECOND = 1_000_000
DAY = 86_400 * SECOND
Event = dict[str, Any]


def opened(quantity: str = "10", price: str = "100", side: str = "long", at: int = 0, **fields: Any) -> Event:
    payload = {"side": side, "quantity": quantity, "entry_price": price, "position_id": fields.pop("position_id", None)}
    return event("position_opened", payload, ts_utc=START + at * SECOND, **fields)


def priced(price: str, at: int = 1, **fields: Any) -> Event:
    payload = {"new_price": price, "position_id": fields.pop("position_id", None)}
    return event("position_priced", payload, ts_utc=START + at * SECOND, **fields)


def closed(price: str | None, at: int = 10, **fields: Any) -> Event:
    names = ("position_id", "hold_duration_seconds", "realized_pnl")
    payload = {name: fields.pop(name) for name in names if name in fields}
    return event("position_closed", {"exit_price": price, **payload}, ts_utc=START + at * SECOND, **fields)


def tick(price: str, at: int = 1, **fields: Any) -> Event:
    return event("market_price", {"price": price}, ts_utc=START + at * SECOND, **fields)


def fill(quantity: str, price: str, side: str, at: int = 0, **fields: Any) -> Event:
    """An execution of one order."""
    return filled("o", quantity, price, side, ts_utc=START + at * SECOND, **fields)


def figures(trade: TradeStatistics) -> tuple[Any, ...]:
    best, worst = trade.max_favorable_excursion, trade.max_adverse_excursion
    return trade.hold_seconds, trade.result, best, worst, trade.exit_efficiency


def run(events: Iterable[Event], state: PartitionState | None = None) -> list[Finding]:
    """What is found as ``events`` come."""
    state = state or PartitionState(0, {})
    findings = []
    for offset, made in enumerate(events):
        findings += trade_statistics.observe(RawRecord(0, offset, INGEST, b""), made, state)
    return findings


def told(findings: list[Finding]) -> dict[str, tuple[str, str]]:
    details = [json.loads(found.detail) for found in findings]
    assert {found.code for found in findings} <= {"arithmetic_mismatch"}
    return {detail["figure"]: (detail["expected"], detail["recorded"]) for detail in details}


def test_a_long_position() -> None:
    """10 at 100, worst 95, best 108, out at 106: 60 of 80 captured in 10 s."""
    events = [opened(), priced("95"), priced("108"), closed("106")]
    (trade,) = statistics(events)
    assert figures(trade) == (D(10), D(60), D(80), D(-50), D("0.75"))
    assert (trade.side, trade.quantity, trade.entry_price, trade.exit_price) == ("long", D(10), D(100), D(106))
    assert run(events) == []


def test_a_short_position_that_never_was_in_profit() -> None:
    (trade,) = statistics([opened(side="short"), priced("110"), closed("104")])
    assert figures(trade) == (D(10), D(-40), D(0), D(-100), None)


def test_an_exit_is_a_price_that_was_seen() -> None:
    (trade,) = statistics([opened(), closed("120")])
    assert figures(trade) == (D(10), D(200), D(200), D(0), D(1))


def test_prices_of_the_market_count_while_the_position_is_open_and_on_its_connector() -> None:
    events = [
        tick("500", at=-1),
        opened(),
        tick("111", at=2),
        tick("700", at=3, trading_pair="TWO-USDT"),
        tick("700", at=3, connector_name="binance"),
        closed("110"),
        tick("900", at=11),
    ]
    (trade,) = statistics(events)
    assert figures(trade)[2] == D(110)


def test_of_a_bar_that_may_have_begun_before_the_position_only_the_close_counts() -> None:
    bar = {"interval": "1m", "open": "100", "high": "130", "low": "80", "close": "104"}
    before = {**bar, "open_ts_utc": START - SECOND}
    within = {**bar, "open_ts_utc": START + SECOND, "high": "120", "low": "90"}
    for payload, best, worst in ((bar, 40, 0), (before, 40, 0), (within, 200, -100)):
        candle = event("market_candle", payload, ts_utc=START + 2 * SECOND)
        (trade,) = statistics([opened(), candle, closed("104")])
        assert figures(trade)[2:4] == (D(best), D(worst))


def test_executions_of_a_bot_without_positions_at_average_cost() -> None:
    """10 at 100 and 10 at 110; 10 sold at 115 bring 100; at 95 the other 10 would lose 100; the rest is sold at 120."""
    events = [
        created("o", side="buy"),
        fill("10", "100", "buy", at=0),
        fill("10", "110", "buy", at=1),
        fill("10", "115", "sell", at=2),
        tick("95", at=3),
        fill("10", "120", "sell", at=4),
    ]
    (trade,) = statistics(events)
    assert figures(trade) == (D(4), D(250), D(250), D(0), D(1))
    assert (trade.entry_price, trade.exit_price, trade.quantity) == (D(105), D("117.5"), D(20))


def test_an_execution_takes_its_side_from_its_order_and_beyond_flat_opens_another_trade() -> None:
    events = [created("o", side="sell"), filled("o", "5", "10", None), fill("8", "9", "buy", at=60)]
    short, long = statistics(events)
    assert (short.side, short.result, long.side, long.quantity) == ("short", D(5), "long", D(3))
    assert (long.closed, long.result, long.exit_efficiency) == (None, None, None)


def test_executions_of_positions_that_the_bot_tells_are_not_counted_again() -> None:
    events = [fill("10", "100", "buy"), opened(), fill("10", "106", "sell", at=9), closed("106")]
    (trade,) = statistics(events)
    assert figures(trade)[:2] == (D(10), D(60))


def test_positions_of_one_pair_are_told_apart_by_their_ids() -> None:
    events = [
        opened(position_id="a"),
        opened("1", "100", "short", position_id="b"),
        priced("90", position_id="b"),
        closed("101", position_id="a"),
        closed("95", position_id="b"),
    ]
    assert [figures(trade)[1:3] for trade in statistics(events)] == [(D(10), D(10)), (D(5), D(10))]
    assert [trade.position_id for trade in statistics(events, "b")] == ["b"]


def test_a_closing_without_a_price_has_a_hold_and_no_result() -> None:
    (trade,) = statistics([opened(), priced("105"), closed(None)])
    assert figures(trade) == (D(10), None, D(50), D(0), None)


def test_what_leaves_size_or_price_open_is_said() -> None:
    change = event("position_changed", {"field": "quantity", "new_value": "4"})
    for doubt in (change, priced("0")):
        (trade,) = statistics([opened(), doubt, closed("101")])
        assert not trade.is_sure
    calm = event("position_changed", {"field": "trailing", "new_value": "true"})
    assert statistics([opened(), calm, closed("101")])[0].is_sure


@pytest.mark.parametrize(("recorded", "is_wrong"), [("10", False), ("14.9", False), ("3600", True), ("0", True)])
def test_a_recorded_hold_is_held_against_its_events(recorded: str, is_wrong: bool) -> None:
    ending = closed("101", hold_duration_seconds=recorded)
    findings = run([opened(), ending])
    assert told(findings) == ({"hold_duration_seconds": ("10", recorded)} if is_wrong else {})
    assert all(found.subject == ending["event_id"] for found in findings)


def test_a_hold_is_not_judged_without_its_opening_nor_by_a_wrong_clock() -> None:
    long = closed("101", hold_duration_seconds="3600")
    assert run([long]) == []
    assert run([opened(at=20), long]) == []
    ahead = closed("101", at=60 * 365 * 86_400, hold_duration_seconds="10")
    assert run([opened(), ahead]) == []


def turtle_exit(**more: Any) -> Event:
    """10 contracts at 100 were held 8 days, seen at 90 and at 105."""
    block = {
        "direction": "LONG",
        "contracts": "10",
        "entry_price": "100",
        "hold_duration_days": "8",
        "max_favorable_excursion": "50",
        "max_adverse_excursion": "-100",
        **more,
    }
    return turtle_fill("exit", "sell", "102", 8 * DAY, {"exit": block})


def turtle_fill(purpose: str, side: str, price: str, at: int, context: Any = None) -> Event:
    made = fill("10", price, side)
    payload = {name: value for name, value in made["payload"].items() if value is not None and name != "other_fees"}
    return event("order_filled", {**payload, "purpose": purpose, "context": context}, ts_utc=START + at)


def turtle_trade(**more: Any) -> list[Event]:
    checks = [event("position_checked", {"context": {"market": {"price": price}}}) for price in ("90", "105")]
    return [turtle_fill("entry", "buy", "100", 0), *checks, turtle_exit(**more)]


def test_the_statistics_of_an_exit_are_held_against_what_its_trade_was() -> None:
    events = turtle_trade()
    (trade,) = statistics(events)
    assert figures(trade) == (D(691200), D(20), D(50), D(-100), D("0.4"))
    assert run(events) == []


@pytest.mark.parametrize(
    ("figure", "recorded", "expected"),
    [
        ("max_favorable_excursion", "30", "50"),
        ("max_adverse_excursion", "-60", "-100"),
        ("hold_duration_days", "5", "8"),
    ],
)
def test_a_statistic_that_cannot_be_is_found(figure: str, recorded: str, expected: str) -> None:
    assert told(run(turtle_trade(**{figure: recorded}))) == {figure: (expected, recorded)}


@pytest.mark.parametrize(
    "more",
    [
        {"max_favorable_excursion": "75", "max_adverse_excursion": "-130"},
        {"hold_duration_days": "9"},
        {"contracts": "20", "max_favorable_excursion": "0"},
        {"entry_price": "99", "max_favorable_excursion": "0"},
        {"max_favorable_excursion": None, "max_adverse_excursion": None, "hold_duration_days": None},
    ],
)
def test_what_a_bot_may_have_seen_or_held_beside_the_record_is_no_contradiction(more: dict[str, Any]) -> None:
    assert run(turtle_trade(**more)) == []


def test_an_exit_whose_entry_is_not_on_record_is_not_judged() -> None:
    assert run([turtle_exit()]) == []


def test_a_position_is_one_record_that_lasts_while_its_trade_is_open_and_has_one_entry() -> None:
    state = PartitionState(0, {})
    for _ in range(3):
        run([opened(), priced("105"), closed("101")], state)
    (over,) = [value for key, value in state.changes() if key.startswith(b"0X")]
    assert sum(1 for key, value in state.changes() if key.startswith(b"0d") and value is not None) == 1
    trade = msgspec.msgpack.decode(over, type=Trade)
    assert (trade.lasts(Horizons()), trade.called(), trade.held) == (0, "", 0)
    assert Trade(opened=START).lasts(Horizons()) == Horizons().open_order


PRICES = st.decimals("0.01", "1000", places=2)
SIZES = st.decimals("0.001", "50", places=3)
EXECUTIONS = st.lists(st.tuples(SIZES, PRICES, st.sampled_from(["buy", "sell"])), min_size=1, max_size=12)


@given(EXECUTIONS, st.lists(PRICES, max_size=6))
def test_no_excursion_is_on_the_wrong_side_and_nothing_beyond_the_best_is_captured(
    executions: list[tuple[Decimal, Decimal, str]], prices: list[Decimal]
) -> None:
    events = [fill(str(size), str(price), side, at=number) for number, (size, price, side) in enumerate(executions)]
    for number, price in enumerate(prices):
        events.insert(2 * number, tick(str(price)))
    for trade in statistics(events):
        best, worst = trade.max_favorable_excursion, trade.max_adverse_excursion
        assert worst <= 0 <= best
        if trade.result is not None:
            assert worst <= trade.result <= best
        if trade.exit_efficiency is not None:
            assert trade.exit_efficiency <= 1


@given(st.lists(st.tuples(PRICES, st.lists(PRICES, max_size=3), PRICES), min_size=2, max_size=5), st.randoms())
def test_positions_do_not_depend_on_each_other(
    drawn: list[tuple[Decimal, list[Decimal], Decimal]], random: Random
) -> None:
    lives = []
    for number, (entry, prices, exit_price) in enumerate(drawn):
        name = f"p{number}"
        seen = [priced(str(price), position_id=name) for price in prices]
        lives.append([opened("1", str(entry), position_id=name), *seen, closed(str(exit_price), position_id=name)])
    alone = sorted(trade for life in lives for trade in statistics(life))
    mixed: list[Event] = []
    while any(lives):
        mixed.append(random.choice([life for life in lives if life]).pop(0))
    assert sorted(statistics(mixed)) == alone


def turtles(seed: int, days: int, defects: list[str]) -> list[Event]:
    """Events of a simulated turtle, with the defects of its orders."""
    bot = Turtle(Random(seed), 1)
    bot.begin(datetime(2024, 1, 2, tzinfo=UTC))
    for day in range(days):
        bot.step(defects[day // 9 % len(defects)] if defects and day % 9 == 8 else "")
    made = []
    for position, entry in enumerate((entry for entries in bot.desk.runs for entry in entries), 1):
        row = entry._asdict() | {"id": f"{seed}-{position}", "timestamp": entry.timestamp.isoformat()}
        made.append(turtle.from_record(origin(), to_json(row).encode(), position=position))
    return [each for each in made if each["event_type"] != "unmapped_record"]


@pytest.mark.parametrize("seed", range(3))
def test_simulated_turtles_tell_the_truth_about_their_trades(seed: int) -> None:
    events = turtles(seed, 150, [])
    assert sum(trade.closed is not None for trade in statistics(events)) > 3
    assert run(events) == []


def test_the_defects_of_simulated_turtles_are_not_found_a_second_time_here() -> None:
    defects = ["doubled", "truncated_price", "malformed", "orphaned", "conflicting_terminal", "wrong_arithmetic"]
    assert run(turtles(7, 150, defects)) == []


def test_simulated_positions_of_catalyst_tell_the_truth_about_their_hold(tmp_path: Path) -> None:
    ledger = catalyst.simulate(tmp_path, bots=1, steps=25, seed=5, defects=catalyst.DEFECTS)
    events = drain(open_source(str(ledger.files[0]), catalyst_origin("c1"), None), limit=1000)
    accepted = [made for made in events if made["event_type"] != "unmapped_record"]
    assert sum(trade.closed is not None for trade in statistics(accepted)) > 5
    assert run(accepted) == []
