"""Figures are recomputed from the inputs beside them: the document's examples, the SDK's builders, results of bots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import Partition, encode, fold
from tests.processors.events import event, filled
from tests.producers.turtle_document import BLOCKS, flows, printed
from tests.producers.turtle_rows import origin, record, row

from tradetape.processors.core import Output
from tradetape.processors.semantics import arithmetic, context_rules
from tradetape.processors.semantics.arithmetic import half_unit
from tradetape.producers.adapters import turtle
from tradetape.producers.sdk import contexts
from tradetape.producers.sdk.contexts import Unit

D = Decimal
PRICES = st.decimals("0.50", "9999", places=2)
NS = st.decimals("0.05", "99", places=2)
DIRECTIONS = st.sampled_from(["LONG", "SHORT"])
CONTRACTS = st.integers(1, 5000)


def mismatches(output: Output) -> dict[str, tuple[str, str]]:
    """Figure → (expected, recorded) of the findings on one event."""
    details = [json.loads(f["detail"]) for f in output.audited["findings"] if f["code"] == "arithmetic_mismatch"]
    return {detail["figure"]: (detail["expected"], detail["recorded"]) for detail in details}


def decided(context: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What is found in a position check with ``context``."""
    return mismatches(fold([event("position_checked", {"context": context})])[0])


def changed(name: str, path: str, value: Any) -> dict[str, Any]:
    """One of the document's blocks with one value of it changed."""
    block = json.loads(json.dumps(BLOCKS[name]))
    *above, key = path.split(".")
    inner = block
    for part in above:
        inner = inner[part]
    assert key in inner
    inner[key] = value
    return {name: json.loads(json.dumps(block), parse_float=Decimal)}


@pytest.mark.req("S0-05")
def test_the_documents_position_and_exit_fail_where_its_arithmetic_is_wrong_and_nowhere_else() -> None:
    made = turtle.from_record(origin(), record(row("EXIT_FILLED", "filled", BLOCKS)), position=1)
    assert made["event_type"] == "order_filled"
    (output,) = fold([made])
    assert mismatches(output) == {
        "position.position_value": ("13609.7", "13650"),
        "exit.pnl.pnl_percent": ("-3.261904761904761905", "-3.4"),
    }
    assert {alert["code"] for alert in output.alerts} >= {"arithmetic_mismatch"}
    subjects = {f["subject"] for f in output.audited["findings"] if f["code"] == "arithmetic_mismatch"}
    assert subjects == {made["event_id"]}


@pytest.mark.req("S0-05")
@pytest.mark.parametrize("name", sorted(context_rules.RULES.keys() - {"position", "exit"}))
def test_every_other_example_of_the_document_adds_up(name: str) -> None:
    block = json.loads(json.dumps({name: BLOCKS[name]}), parse_float=Decimal)
    assert decided(block) == {}


@pytest.mark.req("S0-05", "S0-07")
@pytest.mark.parametrize(("title", "steps"), flows(), ids=[title for title, _ in flows()])
def test_the_flows_as_printed_add_up(title: str, steps: list[tuple[str, str]]) -> None:
    for number, (native_type, step) in enumerate(steps, 1):
        symbol, outcome, context = printed(step)
        told = row(native_type, outcome or "executed", context, symbol=symbol, sequence=number)
        assert mismatches(fold([turtle.from_record(origin(), record(told), position=number)])[0]) == {}, title


WRONG = [
    ("market", "n.value", "8.54", "8.522"),
    ("account", "drawdown.current_percent", "9.3", "9.090909090909090909"),
    ("account", "equity_notional", "40000.01", "50000"),
    ("account", "limits.units_total", "4", "3"),
    ("sizing", "risk_dollars", "250.01", "250"),
    ("sizing", "dollar_volatility", "8.53", "8.52"),
    ("sizing", "raw_unit_size", "29.36", "29.342723004694835681"),
    ("sizing", "contracts", "30", "29"),
    ("sizing", "stop_distance", "17.05", "17.04"),
    ("sizing", "position_value", "15180.06", "15180.05"),
    ("sizing", "initial_stop", "506.41", "540.49"),
    ("sizing", "risk_per_contract", "17.03", "17.04"),
    ("position", "stop_distance", "16.53", "16.52"),
    ("position", "current_stop", "541.53", "541.52"),
    ("position", "unrealized_pnl", "-40.30", "40.3"),
    ("position", "unrealized_pnl_percent", "0.4", "0.295238095238095238"),
    ("position", "pnl_in_n", "0.21", "0.187651331719128329"),
    ("position", "average_entry", "525.01", "525"),
    ("position", "units", "2", "1"),
    ("position", "contracts", "27", "26"),
    ("position", "next_pyramid.trigger_price", "520.88", "520.87"),
    ("position", "next_pyramid.distance_to_trigger", "2.57", "2.58"),
    ("order", "slippage", "-0.05", "0.05"),
    ("order", "gap.gap_size", "-2.51", "2.5"),
    ("order", "gap.gap_percent", "0.49", "0.479846449136276392"),
    ("order", "fast_market.spread_percent", "0.03", "0.00955201069825198"),
    ("exit", "breach_amount", "-0.48", "0.48"),
    ("exit", "pnl.slippage", "0.57", "0.58"),
    ("exit", "pnl.gross_pnl", "444.61", "-444.6"),
    ("exit", "pnl.net_pnl", "-443.95", "-445.25"),
    ("pyramid", "trigger_price", "49.63", "50.87"),
    ("pyramid", "new_contracts", "199", "198"),
    ("pyramid", "contracts_after", "442", "441"),
    ("pyramid", "stop_after", "53.42", "48.38"),
    ("pyramid", "stop_moved_by", "-0.61", "0.61"),
]


@pytest.mark.req("S0-05", "S0-06")
@pytest.mark.parametrize(("name", "path", "wrong", "expected"), WRONG, ids=[f"{w[0]}.{w[1]}" for w in WRONG])
def test_a_wrong_figure_is_found_with_both_numbers(name: str, path: str, wrong: str, expected: str) -> None:
    found = decided(changed(name, path, float(wrong)))
    recorded = found[f"{name}.{path}"]
    assert D(recorded[1]) == D(wrong)
    assert abs(D(recorded[0]) - D(expected)) < D("1e-6") or name == "order"


def test_every_rule_of_the_table_is_tried() -> None:
    tried = {f"{name}.{path}" for name, path, *_ in WRONG}
    figures = {figure for rules in context_rules.RULES.values() for figure, _ in rules}
    elsewhere = {"position.position_value", "exit.pnl.pnl_percent", "exit.pnl.pnl_in_n", "exit.realized_pnl"}
    assert figures == tried | elsewhere


@pytest.mark.req("S0-05")
def test_results_of_an_exit_in_n_and_standing_alone() -> None:
    held = {"initial_n": "8.26"}
    told = {"direction": "SHORT", "contracts": 26, "entry_price": "525", "realized_pnl": "-455.00"}
    order = {"fill_price": "542.10", "commission": "0.65"}
    assert decided({"exit": told, "order": order}) == {"exit.realized_pnl": ("-444.6", "-455")}
    assert decided({"exit": told | {"realized_pnl": "-445.25"}, "order": order}) == {}
    in_n = {**BLOCKS["exit"]["pnl"], "pnl_in_n": -2.17, "pnl_percent": -3.3}
    context = json.loads(json.dumps({"exit": {**BLOCKS["exit"], "pnl": in_n}, "position": held}), parse_float=Decimal)
    ((figure, (expected, recorded)),) = decided(context).items()
    assert (figure, recorded) == ("exit.pnl.pnl_in_n", "-2.17")
    assert expected.startswith("-2.07324")


@pytest.mark.req("S0-05")
def test_equity_is_reduced_where_rule_5_holds() -> None:
    drawdown = {"triggered": True, "reduction_percent": "20.0"}
    account = {"equity_actual": "45000", "equity_notional": "36000", "drawdown": drawdown}
    assert decided({"account": account}) == {}
    assert decided({"account": account | {"equity_notional": "45000"}}) == {
        "account.equity_notional": ("36000", "45000")
    }


def test_what_lacks_its_inputs_or_divides_by_zero_is_not_judged() -> None:
    assert decided({"sizing": {"contracts": 3, "initial_stop": "1", "position_value": "9"}}) == {}
    assert (
        decided({"account": {"equity_high_water": "0", "equity_actual": "0", "drawdown": {"current_percent": 5}}}) == {}
    )
    n = {"value": "9", "period": 20, "prev_n": "8", "true_range": "8"}
    assert decided({"market": {"n": {**n, "smoothing": "sma"}}}) == {}
    assert set(decided({"market": {"n": {**n, "smoothing": "Wilder's"}}})) == {"market.n.value"}
    units = {"units": 2, "initial_entry_price": "10", "initial_n": "1", "direction": "LONG", "current_stop": "7"}
    assert decided({"position": units}) == {}
    assert decided({"position": units | {"units": 1}}) == {"position.current_stop": ("8", "7")}


@pytest.mark.parametrize(
    ("number", "allowed"),
    [("13650.00", "0.5"), ("1500", "0.5"), ("0", "0.5"), ("-3.4", "0.05"), ("541.520", "0.005"), ("1E+3", "0.5")],
)
def test_the_last_decimal_is_that_before_the_trailing_zeros(number: str, allowed: str) -> None:
    assert half_unit(D(number)) == D(allowed)


@pytest.mark.req("S0-05")
@pytest.mark.parametrize(("said", "wrong"), [("8.5", False), ("8.55", True), ("8.53", True), ("8.522", False)])
def test_half_a_unit_of_the_recorded_number_is_allowed(said: str, wrong: bool) -> None:
    n = {"value": said, "period": 20, "prev_n": "8.48", "true_range": "9.32"}
    assert bool(decided({"market": {"n": n}})) is wrong


def test_the_error_of_binary_floats_is_no_mismatch() -> None:
    assert 523.45 - 523.40 != 0.05
    order = {"fill_price": "523.45", "expected_price": "523.40", "slippage": repr(523.45 - 523.40)}
    assert decided({"order": order}) == {}
    assert set(decided({"order": order | {"slippage": "0.0500001"}})) == {"order.slippage"}


@pytest.mark.req("S0-03", "S0-05")
@given(
    direction=DIRECTIONS,
    units=st.lists(st.tuples(PRICES, NS, CONTRACTS), min_size=1, max_size=4),
    price=PRICES,
    fill=PRICES,
    places=st.integers(2, 5),
)
def test_what_the_builders_compute_is_never_a_mismatch(
    direction: str, units: list[tuple[Decimal, Decimal, int]], price: Decimal, fill: Decimal, places: int
) -> None:
    entry, n, held = units[-1]
    common: dict[str, Any] = {"direction": direction, "places": places}
    position = contexts.position_context(
        "QQQ", direction, "S2", [Unit(*unit) for unit in units], current_price=price, places=places
    )
    sizing = contexts.sizing_context(
        price=price,
        n_value=n,
        equity_actual=90_000,
        equity_notional=72_000,
        system="S2",
        risk_percent="0.005",
        **common,
    )
    exits = contexts.exit_context(
        reason="stop_hit",
        trigger_type="stop",
        trigger_price=price,
        current_price=fill,
        contracts=held,
        entry_price=entry,
        n=n,
        fill_price=fill,
        commission="0.65",
        **common,
    )
    pyramid = contexts.pyramid_context(
        level=2,
        last_entry_price=entry,
        n_at_last_entry=n,
        current_price=price,
        n_current=n,
        equity_notional=72_000,
        risk_percent="0.005",
        contracts_before=held,
        stop_before=price,
        fill_price=fill,
        **common,
    )
    order = contexts.order_context(
        action="BUY",
        quantity=held,
        fill_price=fill,
        expected_price=price,
        gap=contexts.gap_context(
            previous_close=entry, open_price=price, signal_price=fill, executed_at_open=False, places=places
        ),
    )
    market = contexts.market_context("QQQ", price, n=contexts.n_context(true_range=n, prev_n=n, places=places))
    account = contexts.account_context(90_000, 110_000)
    assert decided({"position": position, "market": market}) == {}
    blocks = {"market": market, "account": account, "sizing": sizing, "pyramid": pyramid, "order": order}
    assert decided({**blocks, "exit": exits}) == {}


def result(kind: str, figure: str, value: str | None, **more: Any) -> dict[str, tuple[str, str]]:
    payload = {"position_id": "p", "side": "long", "quantity": "2", "entry_price": "100", figure: value, **more}
    return mismatches(fold([event(kind, payload)])[0])


@pytest.mark.req("S0-05", "P-04")
@pytest.mark.parametrize(
    ("side", "pnl", "wrong"),
    [
        ("long", "20", False),  # as the prices give it
        ("long", "19.6", False),  # after fees
        ("long", "20.1", False),  # after a rebate
        ("long", "21", True),
        ("long", "10", True),
        ("long", "-20", True),
        ("short", "-20", False),
        ("short", "20", True),
    ],
)
def test_a_result_follows_from_its_prices_up_to_costs(side: str, pnl: str, wrong: bool) -> None:
    expected = "20" if side == "long" else "-20"
    shown = {"realized_pnl": (expected, str(D(pnl)))} if wrong else {}
    assert result("position_closed", "realized_pnl", pnl, side=side, exit_price="110") == shown
    shown = {"unrealized_pnl": shown["realized_pnl"]} if wrong else {}
    assert result("position_state", "unrealized_pnl", pnl, side=side, current_price="110") == shown


def test_a_result_without_all_inputs_is_not_judged() -> None:
    assert result("position_closed", "realized_pnl", None, exit_price="110") == {}
    for missing in ("side", "quantity", "entry_price", "exit_price"):
        assert result("position_closed", "realized_pnl", "7000", **{"exit_price": "110", missing: None}) == {}


@pytest.mark.parametrize(("cost", "wrong"), [("200", False), ("200.4", False), ("0", False), ("190", True)])
def test_a_cost_basis_is_entry_times_quantity(cost: str, wrong: bool) -> None:
    assert result("position_opened", "cost_basis", cost) == ({"cost_basis": ("200", cost)} if wrong else {})


@pytest.mark.req("S0-05")
@pytest.mark.parametrize(
    ("quote", "wrong"), [("26.25", False), ("0", False), ("26.3", False), ("26.9", True), ("10.5", True)]
)
def test_the_quote_of_an_execution_is_price_times_base(quote: str, wrong: bool) -> None:
    told = filled("a", quantity="2.5", price="10.5", side="buy")
    told["payload"]["fill_qty_quote"] = D(quote)
    assert mismatches(fold([told])[0]) == ({"fill_qty_quote": ("26.25", quote)} if wrong else {})
    assert mismatches(fold([told | {"assumed": ["fill_qty_quote"]}])[0]) == {}


class Nameless:
    """A bot whose positions have no id, in one partition."""

    def __init__(self) -> None:
        self.partition = Partition()

    def opens(self, **more: Any) -> None:
        self.take("position_opened", {"side": "long", "quantity": "2", "entry_price": "100", **more})

    def changes(self, field: str) -> None:
        self.take("position_changed", {"field": field, "old_value": "1", "new_value": "2"})

    def closes(self, pnl: str = "25", **fields: Any) -> dict[str, tuple[str, str]]:
        return self.take("position_closed", {"exit_price": "110", "realized_pnl": pnl}, **fields)

    def take(self, kind: str, payload: dict[str, Any], **fields: Any) -> dict[str, tuple[str, str]]:
        (output,) = self.partition.take([encode(event(kind, payload, **fields))])
        return mismatches(output)

    def remembers(self) -> int:
        return sum(key.startswith(b"0q") for key in self.partition.store)


@pytest.mark.req("S0-05", "P-04")
def test_a_position_without_id_is_judged_by_its_opening_and_then_forgotten() -> None:
    bot = Nameless()
    bot.opens()
    bot.changes("trailing")
    assert bot.remembers() == 1
    bot.partition.restart()
    assert bot.closes(trading_pair="BTC-USDT") == {}
    assert bot.closes() == {"realized_pnl": ("20", "25")}
    assert bot.remembers() == 0
    assert bot.closes() == {}


def test_an_opening_that_is_not_sure_judges_nothing() -> None:
    bot = Nameless()
    bot.opens()
    bot.opens(quantity="3")
    bot.opens()
    assert bot.closes() == {}
    bot.opens()
    bot.changes("Quantity")
    assert bot.closes() == {}
    bot.opens()
    bot.opens()
    assert bot.closes() == {"realized_pnl": ("20", "25")}


def test_a_number_beyond_the_contract_is_shown_all_the_same() -> None:
    found = arithmetic.mismatch("e", "f", expected=D("1e40"), recorded=D(1))
    assert json.loads(found.detail) == {"figure": "f", "expected": "1.000000E+40", "recorded": "1"}
