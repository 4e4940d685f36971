"""Simulated turtles in a real Postgres: deterministic, right to the printed digit, with defects that are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import cache
from typing import Any

import psycopg
import pytest
from tests import folding
from tests.producers.turtle_rows import drain, origin
from tests.stores import Postgres

from tradetape.processors import findings
from tradetape.processors.core import Output
from tradetape.producers.adapters.native import parse_json
from tradetape.producers.connectors.turtle import source as connector
from tradetape.producers.simulator.ledger import Ledger
from tradetape.producers.simulator.turtle import fleet as turtle
from tradetape.schemas import rules

pytestmark = [pytest.mark.integration, pytest.mark.req("S0-01")]

DAYS = 60
LISTED = list(turtle.DEFECTS)


def rows(url: str, number: int = 1) -> list[tuple[Any, ...]]:
    with psycopg.connect(turtle.bot_location(url, number)) as connection:
        return connection.execute("SELECT e.*, xmin FROM events e ORDER BY run_id, sequence").fetchall()


def contexts(url: str, number: int = 1) -> Iterator[tuple[str, str, dict[str, Any]]]:
    with psycopg.connect(turtle.bot_location(url, number)) as connection:
        query = "SELECT event_type, outcome, context::text FROM events ORDER BY timestamp, sequence"
        for event_type, outcome, text in connection.execute(query):
            yield event_type, outcome, parse_json(text)


@cache
def judged(url: str, number: int = 1) -> list[Output]:
    """What the core makes of a bot's table."""
    source = connector.open_source(
        turtle.bot_location(url, number), origin(instance=turtle.instance_name(number)), None
    )
    try:
        return folding.fold([*drain(source), *source.ended()])
    finally:
        source.close()


@pytest.fixture(scope="module")
def sound(postgres: Postgres) -> tuple[str, Ledger]:
    """Two bots without defects."""
    url = postgres.database()
    return url, turtle.simulate(url, bots=2, steps=DAYS, seed=3)


@pytest.fixture(scope="module")
def broken(postgres: Postgres) -> tuple[str, Ledger]:
    """Two bots with every defect."""
    url = postgres.database()
    return url, turtle.simulate(url, bots=2, steps=DAYS, seed=11, defects=LISTED)


def test_the_seed_says_everything(postgres: Postgres, sound: tuple[str, Ledger]) -> None:
    url, ledger = sound
    again = postgres.database()
    assert turtle.simulate(again, bots=2, steps=DAYS, seed=3).rows == ledger.rows
    for number in (1, 2):
        assert [row[:-1] for row in rows(again, number)] == [row[:-1] for row in rows(url, number)]
        assert ledger.rows[turtle.instance_name(number)] == {"events": len(rows(url, number))}
    assert rows(url, 1) != rows(url, 2)


def test_called_again_it_goes_on_where_the_store_ends(postgres: Postgres) -> None:
    url = postgres.database()
    first = turtle.simulate(url, bots=1, steps=8, seed=5, defects=["lost"])
    before = rows(url)
    second = turtle.simulate(url, bots=1, steps=8, seed=5, defects=["doubled"])
    after = rows(url)
    assert all(row in after for row in before)
    assert max(row[1] for row in before) < min(row[1] for row in after if row not in before)
    assert second.rows["turtle_bot_1"]["events"] == len(after) > first.rows["turtle_bot_1"]["events"]
    assert Counter(row[3] for row in after if row[2] == "position_checked")  # the book was remembered
    codes = folding.open_findings(judged(url))
    assert codes == {"sequence_gap": 1, "overfill": 1}


def test_a_sound_bot_has_no_open_finding(sound: tuple[str, Ledger]) -> None:
    url, _ = sound
    for number in (1, 2):
        outputs = judged(url, number)
        assert {output.audited["disposition"] for output in outputs} == {"accepted"}
        assert folding.open_findings(outputs) == {}


def test_bots_live_through_what_the_document_lists(sound: tuple[str, Ledger], broken: tuple[str, Ledger]) -> None:
    seen: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    blocks: set[str] = set()
    for url, _ in (sound, broken):
        for number in (1, 2):
            for event_type, outcome, context in contexts(url, number):
                seen[event_type] += 1
                outcomes[outcome] += 1
                blocks |= set(context)
    assert len(seen) == 17
    assert {
        "approved",
        "filtered_s1",
        "already_in_position",
        "submitted",
        "insufficient_cash",
        "filled",
    } <= outcomes.keys()
    assert {"market", "position", "account", "order", "signal", "filters", "sizing", "exit", "pyramid"} <= blocks


@pytest.mark.parametrize("kind", [kind for kind in LISTED if turtle.DEFECTS[kind][0]])
def test_each_defect_is_caught_by_the_code_that_the_ledger_names(broken: tuple[str, Ledger], kind: str) -> None:
    url, ledger = broken
    for number in (1, 2):
        (injected,) = [
            found for found in ledger.injected if found.kind == kind and found.instance == turtle.instance_name(number)
        ]
        assert injected.expected in findings.CATALOGUE or injected.expected in rules.REASONS
        caught = {
            text
            for output in judged(url, number)
            for code, text in (
                *((f["code"], f"{f['subject']} {output.audited['payload']}") for f in output.audited["findings"]),
                *((reason, output.audited["native"].decode()) for reason in output.audited["reasons"]),
            )
            if code == injected.expected
        }
        if kind == "clock_skewed":
            assert caught
        else:
            assert any(injected.subject in text for text in caught), (injected, caught)


def test_what_nothing_catches_yet_says_why(broken: tuple[str, Ledger]) -> None:
    url, ledger = broken
    unexpected = {found.kind: found.why_not for found in ledger.injected if not found.expected}
    assert unexpected.keys() == {"silent"}
    assert all(unexpected.values())
    assert ledger.rows.keys() == {"turtle_bot_1", "turtle_bot_2"}
    days = {row[1].date() for row in rows(url) if row[9] == "scanner" and row[1].year < 2050}
    assert len(days) == DAYS // 2


def test_unknown_and_too_many_defects_are_refused(postgres: Postgres) -> None:
    with pytest.raises(ValueError, match="no such defect: late; known are lost"):
        turtle.simulate(postgres.url, bots=1, steps=9, seed=1, defects=["late"])
    with pytest.raises(ValueError, match="3 defects do not fit into 2 days"):
        turtle.simulate(postgres.url, bots=1, steps=2, seed=1, defects={"lost": 3})


@pytest.mark.req("S0-03")
def test_every_number_follows_from_those_beside_it(sound: tuple[str, Ledger], broken: tuple[str, Ledger]) -> None:
    for number in (1, 2):
        assert [wrong for _, _, context in contexts(sound[0], number) for wrong in mistakes(context)] == []
        wrong = [
            found
            for _, _, context in contexts(broken[0], number)
            if isinstance(context, dict)
            for found in mistakes(context)
        ]
        assert len(wrong) == 1
        assert wrong[0][0] in ("initial_stop", "breach_amount")


def mistakes(context: Mapping[str, Any]) -> list[tuple[str, Decimal, Decimal]]:
    """What cannot be computed from its inputs to the printed digit: name, printed, computed."""
    found: list[tuple[str, Decimal, Decimal]] = []

    def same(name: str, said: Any, computed: Decimal) -> None:
        printed = Decimal(said)
        exponent = printed.as_tuple().exponent
        assert isinstance(exponent, int)
        if computed.quantize(Decimal(1).scaleb(exponent), ROUND_HALF_EVEN) != printed:
            found.append((name, printed, computed))

    if n := context.get("market", {}).get("n"):
        same("n", n["value"], (19 * n["prev_n"] + n["true_range"]) / 20)
    if p := context.get("position"):
        sign = 1 if p["direction"] == "LONG" else -1
        last, first = p["pyramid_levels"][-1], p["pyramid_levels"][0]
        contracts, average, price = p["contracts"], Decimal(p["average_entry"]), Decimal(p["current_price"])
        same("contracts", contracts, Decimal(sum(level["contracts"] for level in p["pyramid_levels"])))
        total = sum(level["contracts"] * Decimal(level["entry_price"]) for level in p["pyramid_levels"])
        assert abs(average - total / contracts) < Decimal("0.000001")
        same("position_value", p["position_value"], price * contracts)
        same("stop_distance", p["stop_distance"], 2 * Decimal(last["n_at_entry"]))
        same("current_stop", p["current_stop"], Decimal(last["entry_price"]) - sign * p["stop_distance"])
        same("unrealized_pnl", p["unrealized_pnl"], sign * (price - average) * contracts)
        pnl = Decimal(p["unrealized_pnl"])
        same("unrealized_pnl_percent", p["unrealized_pnl_percent"], pnl / (average * contracts) * 100)
        same("pnl_in_n", p["pnl_in_n"], pnl / (Decimal(first["n_at_entry"]) * contracts))
        level = Decimal(last["entry_price"]) + sign * Decimal("0.5") * Decimal(last["n_at_entry"])
        same("trigger_price", p["next_pyramid"]["trigger_price"], level)
        same("distance_to_trigger", p["next_pyramid"]["distance_to_trigger"], sign * (level - price))
    if a := context.get("account"):
        drawdown, equity, peak = a["drawdown"], Decimal(a["equity_actual"]), Decimal(a["equity_high_water"])
        same("current_percent", drawdown["current_percent"], (peak - equity) / peak * 100)
        assert drawdown["triggered"] == ((peak - equity) / peak * 100 >= drawdown["threshold_percent"])
        kept = 100 - drawdown["reduction_percent"] if drawdown["triggered"] else 100
        same("equity_notional", a["equity_notional"], equity * kept / 100)
    if s := context.get("sizing"):
        sign = 1 if s["direction"] == "LONG" else -1
        risk, n, price = Decimal(s["risk_percent"]), Decimal(s["n_value"]), Decimal(s["price"])
        raw = s["equity_notional"] * risk / (n * s["point_value"])
        same("risk_dollars", s["risk_dollars"], s["equity_notional"] * risk)
        same("raw_unit_size", s["raw_unit_size"], raw)
        same("contracts", s["contracts"], raw.to_integral_value(ROUND_FLOOR))
        same("stop_distance", s["stop_distance"], n * s["stop_multiplier"])
        same("position_value", s["position_value"], price * s["contracts"])
        same("initial_stop", s["initial_stop"], price - sign * s["stop_distance"])
    if o := context.get("order"):
        if o.get("fill_price"):
            same("slippage", o["slippage"], Decimal(o["fill_price"]) - o["expected_price"])
        gap = o["gap"]
        same("gap_size", gap["gap_size"], Decimal(gap["open_price"]) - gap["previous_close"])
        same("gap_percent", gap["gap_percent"], gap["gap_size"] / Decimal(gap["previous_close"]) * 100)
    if y := context.get("pyramid"):
        sign = 1 if y["direction"] == "LONG" else -1
        level = Decimal(y["last_entry_price"]) + sign * Decimal(y["pyramid_interval"]) * Decimal(y["n_at_last_entry"])
        same("trigger_price", y["trigger_price"], level)
        same("contracts_after", y["contracts_after"], Decimal(y["contracts_before"] + y["new_contracts"]))
        if "stop_after" in y:
            same("stop_after", y["stop_after"], Decimal(y["new_entry_price"]) - sign * 2 * Decimal(y["n_at_new_entry"]))
            same("stop_moved_by", y["stop_moved_by"], Decimal(y["stop_after"]) - y["stop_before"])
    if x := context.get("exit"):
        sign = 1 if x["direction"] == "LONG" else -1
        same("breach_amount", x["breach_amount"], sign * (Decimal(x["trigger_price"]) - x["current_price"]))
        if g := x.get("pnl"):
            entry, contracts = Decimal(x["entry_price"]), x["contracts"]
            same("slippage", g["slippage"], Decimal(g["fill_price"]) - g["expected_price"])
            same("gross_pnl", g["gross_pnl"], sign * (g["fill_price"] - entry) * contracts)
            same("net_pnl", g["net_pnl"], Decimal(g["gross_pnl"]) - g["commission"])
            same("pnl_percent", g["pnl_percent"], g["net_pnl"] / (entry * contracts) * 100)
    return found
