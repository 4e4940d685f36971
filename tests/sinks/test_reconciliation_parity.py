"""Live against paper, order by order; a bot's two own records; portfolios against the sum of their instances."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.processors.control.limits import LimitSet, Scope
from tradetape.sinks.reconciliation import beside, parity, portfolios
from tradetape.sinks.reconciliation.beside import Said
from tradetape.sinks.reconciliation.parity import Order, Tolerance
from tradetape.sinks.reconciliation.portfolios import InForce

pytestmark = pytest.mark.req("S3-11")

SECOND = 1_000_000
START = 1_714_564_800 * SECOND
TOLERANCE = Tolerance()


def order(order_id: str, at: int = 0, **more: Any) -> Order:
    """A buy of 1 AAA-USDT at 10, ``at`` seconds after the start, filled at its price."""
    asked = Order(
        order_id,
        "AAA-USDT",
        "buy",
        START + at * SECOND,
        order_type="limit",
        price=Decimal(10),
        amount=Decimal(1),
        filled=Decimal(1),
        filled_quote=Decimal(10),
        outcome="order_completed",
    )
    return asked._replace(**more)


def compared(live: Sequence[Order], paper: Sequence[Order], tolerance: Tolerance = TOLERANCE) -> parity.Parity:
    return parity.compare("live paper", live, paper, tolerance)


def pairs(found: parity.Parity) -> list[tuple[str, str, str]]:
    return [(pair.live.order_id, pair.paper.order_id, pair.by) for pair in found.pairs]


def test_a_common_id_pairs_before_time_does() -> None:
    live = [order("l1", 0, signal_id="s1"), order("same", 1), order("l3", 50, request_id="r")]
    paper = [order("p1", 40, signal_id="s1"), order("p2", 0), order("same", 30), order("p4", 9, request_id="r")]
    found = compared(live, paper)
    assert pairs(found) == [("l1", "p1", "signal_id"), ("same", "same", "order_id"), ("l3", "p4", "request_id")]
    assert [(each.kind, each.item) for each in found.differences] == [(parity.ONLY_PAPER, "p2")]


def test_without_one_the_nearest_in_time_then_in_price_of_the_same_pair_and_side() -> None:
    live = [order("l1", 10), order("l2", 12)]
    other_side, other_pair = order("s", 10, side="sell"), order("b", 10, trading_pair="BBB-USDT")
    paper = [order("far", 20), other_side, other_pair, order("dear", 11, price=Decimal(12)), order("p", 11)]
    found = compared(live, paper)
    assert pairs(found) == [("l1", "p", "time"), ("l2", "dear", "time")]
    assert {each.item for each in found.differences if each.kind == parity.ONLY_PAPER} == {"far", "s", "b"}


def test_the_tolerance_of_time_is_kept() -> None:
    assert pairs(compared([order("l")], [order("p", 5)])) == [("l", "p", "time")]
    assert pairs(compared([order("l")], [order("p", 6)])) == []


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"price": Decimal("10.01")}, ["price"]),
        ({"amount": Decimal(2)}, ["amount"]),
        ({"filled": Decimal("0.5"), "filled_quote": Decimal(5)}, ["filled"]),
        ({"outcome": "order_cancelled", "filled": Decimal(0), "filled_quote": Decimal(0)}, ["filled", "outcome"]),
        ({"price": None, "order_type": "market"}, ["price", "order_type"]),
    ],
)
def test_what_differs_in_a_pair_is_named(changed: dict[str, Any], names: list[str]) -> None:
    (found,) = compared([order("l")], [order("p", **changed)]).differences
    assert (found.kind, [name for name, _, _ in found.values]) == (parity.DIFFERS, names)


def test_tolerances_of_price_and_amount() -> None:
    paper = [order("p", price=Decimal("10.01"), amount=Decimal("1.01"), filled=Decimal("1.01"))]
    near = Tolerance(price_bps=Decimal(10), amount_pct=Decimal(1))
    assert compared([order("l")], paper, near).differences == []
    assert compared([order("l")], paper, near._replace(price_bps=Decimal(9))).differences


@pytest.mark.parametrize(
    ("side", "paid", "slippage"), [("buy", "10.05", "50"), ("buy", "9.9", "-100"), ("sell", "9.9", "100")]
)
def test_slippage_is_positive_where_live_was_worse(side: str, paid: str, slippage: str) -> None:
    live, paper = order("l", side=side, filled_quote=Decimal(paid)), order("p", side=side)
    found = compared([live], [paper])
    assert found.pairs[0].slippage_bps == Decimal(slippage)
    assert found.differences == []
    judged = compared([live], [paper], Tolerance(slippage_bps=Decimal(60)))
    assert [each.kind for each in judged.differences] == ([parity.SLIPPED] if Decimal(slippage) > 60 else [])


SHADOWS = st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["buy", "sell"])), unique=True, max_size=10)


@given(made=SHADOWS, data=st.data())
def test_any_order_that_is_missing_or_other_on_one_side_is_told_and_nothing_else(
    made: list[tuple[int, str]], data: st.DataObject
) -> None:
    live = [order(f"o{number}", at, side=side) for number, (at, side) in enumerate(made)]
    numbers = st.sets(st.sampled_from(range(len(live)))) if live else st.just(set())
    dropped, changed = data.draw(numbers), data.draw(numbers)
    paper = [
        each._replace(amount=Decimal(3)) if number in changed else each
        for number, each in enumerate(live)
        if number not in dropped
    ]
    found = compared(live, data.draw(st.permutations(paper)) if paper else [])
    told = {(each.kind, each.item) for each in found.differences}
    assert told == {
        *((parity.ONLY_LIVE, f"o{number}") for number in dropped),
        *((parity.DIFFERS, f"o{number} o{number}") for number in changed - dropped),
    }
    mirrored = compared(paper, live)
    assert {each.item for each in mirrored.differences if each.kind == parity.ONLY_PAPER} == {
        f"o{number}" for number in dropped
    }


def test_an_order_as_its_events_tell_it() -> None:
    row = {
        **{"order_id": "o", "trading_pair": "AAA-USDT", "side": "buy", "order_type": "limit", "signal_id": "s"},
        **{"asked_ts_micros": START, "price": "", "amount_base": "2", "request_id": "", "ended": "", "fills": 2},
        **{"filled_base": "2", "filled_quote": "21"},
    }
    asked = parity.order_of(row)
    assert (asked.price, asked.fill_price, asked.outcome) == (None, Decimal("10.5"), "order_filled")
    assert parity.order_of({**row, "fills": 0, "filled_base": "0"}).outcome == "open"


def said(order_id: str, price: str, amount: str = "1", *, trade: str = "t", at: int = START, side: str = "buy") -> Said:
    return Said(order_id, trade, at, side, {"price": Decimal(price), "amount": Decimal(amount)}, f"row {order_id}")


@pytest.mark.req("N-07")
@pytest.mark.parametrize(
    ("here", "there", "kind"),
    [
        ("0", "0.00000009", beside.ZERO),
        ("0.000014", "0.00001488", beside.TRUNCATED),
        ("2387.349999", "2387.35", beside.TRUNCATED),
        ("5", "6", beside.DIFFERS),
        ("0", "7", beside.DIFFERS),
    ],
)
def test_prices_that_a_database_truncated_are_told_by_kind(here: str, there: str, kind: str) -> None:
    compared_rows, (found,) = beside.compare("s", [said("o", here)], [said("o", there)])
    assert (compared_rows, found.kind, found.values) == (1, kind, (("price", here, there),))


def test_trades_of_one_record_alone_are_told() -> None:
    _, found = beside.compare("s", [said("a", "1"), said("b", "1")], [said("b", "1"), said("c", "1")])
    assert [(each.kind, each.item) for each in found] == [(beside.ONLY_BESIDE, "c t"), (beside.ONLY_HERE, "a t")]
    (side,) = beside.compare("s", [said("a", "1")], [said("a", "1", side="sell")])[1]
    assert side.values == (("side", "buy", "sell"),)


def test_a_log_that_begins_later_says_nothing_of_what_was_before() -> None:
    here = [said("a", "1", at=START - 1), said("b", "1"), said("c", "1", at=START + 1), said("o", "1", trade="")]
    _, found = beside.compare("s", here, [said("b", "1")], is_whole=False)
    assert [(each.kind, each.item) for each in found] == [(beside.ONLY_HERE, "c t")]


def part(instance: str, *, partition: int = 0, **more: Any) -> dict[str, Any]:
    return {
        **{"raw_partition": partition, "environment": "live", "account": "", "instance_name": instance},
        **{"quote_asset": "USDT", "last_offset": 10, "realised_quote": "5", "fees": "1", "funding": "0.25"},
        **{"unrealised_quote": "2", "exposure_gross": "30", "equity": None},
        **more,
    }


def exposure(instance: str, net: str, mark: str | None) -> dict[str, Any]:
    return {
        **{"environment": "live", "account": "", "instance_name": instance, "quote_asset": "USDT"},
        **{"connector_name": "x", "trading_pair": "AAA-USDT", "net_base": net, "mark_price": mark},
    }


def figure(portfolio: str = "all", **more: Any) -> dict[str, Any]:
    return {
        **{"environment": "live", "portfolio": portfolio, "quote_asset": "USDT"},
        **{"members": 2, "realised_quote": "10", "fees_quote": "1.5", "unrealised_quote": "4"},
        **{"exposure_gross": "60", "exposure_net": "20", "equity": None},
        **more,
    }


PARTS = [part("a"), part("b", partition=1)]
EXPOSURES = [exposure("a", "3", "10"), exposure("b", "-1", "10"), exposure("b", "7", None)]


def test_a_portfolio_is_the_sum_of_its_instances() -> None:
    found = portfolios.compare(PARTS, EXPOSURES, [figure()], InForce(()))
    assert (found.compared, found.differences) == (1, [])


@pytest.mark.parametrize("name", ["realised_quote", "fees_quote", "unrealised_quote", "exposure_gross", "exposure_net"])
def test_any_figure_that_is_not_the_sum_is_told(name: str) -> None:
    wrong = figure(**{name: "0.000000000000000001"})
    (found,) = portfolios.compare(PARTS, EXPOSURES, [wrong], InForce(())).differences
    assert [value[0] for value in found.values] == [name]
    assert found.kind == portfolios.NOT_THE_SUM


def test_everything_that_differs_is_told() -> None:
    before = figure(realised_quote="5", members=1)
    (found,) = portfolios.compare(PARTS, EXPOSURES, [before], InForce(())).differences
    assert [value[0] for value in found.values] == ["members", "realised_quote"]


def test_a_named_portfolio_has_the_members_that_the_limits_in_force_gave_it() -> None:
    only_a = LimitSet(portfolio={"desk": Scope(instance="a")})
    in_force = InForce([(0, 3, only_a), (0, 11, LimitSet()), (1, 3, only_a)])
    desk = figure("desk", members=1, realised_quote="5", fees_quote="0.75", unrealised_quote="2")
    desk |= {"exposure_gross": "30", "exposure_net": "30"}
    assert portfolios.compare(PARTS, EXPOSURES, [figure(), desk], in_force).differences == []
    found = portfolios.compare(PARTS, EXPOSURES, [figure(), desk], InForce(())).differences
    assert [(each.kind, each.item) for each in found] == [(portfolios.NO_MEMBERS, "live desk USDT")]
    found = portfolios.compare(PARTS, EXPOSURES, [figure()], in_force).differences
    assert [(each.kind, each.item) for each in found] == [(portfolios.NO_FIGURE, "live desk USDT")]
