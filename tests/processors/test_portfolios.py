"""Portfolios: what instances give, and what adds up from it, whatever the order in which partitions come (P-02, G3)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import Partition, encode
from tests.processors.events import START, created, ended, event, filled

from tradetape.processors.emission import Emitted, emitted, place_of
from tradetape.processors.money import rounded
from tradetape.processors.portfolio import books
from tradetape.processors.state import PartitionState, apply
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import output_schema

pytestmark = pytest.mark.req("P-02")

DELTAS = codec.Encoder(output_schema("portfolio"), 1)
DELTA_READER = codec.Decoder(output_schema("portfolio"))
FIGURES = codec.Encoder(output_schema("portfolios"), 2)

MAJORS = {"limits": {"portfolio": {"majors": {"instance": "btc_*"}}}, "digest": "d", "set_by": "ann"}


def deltas(partition: Partition, events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What ``events`` send to ``tradetape.portfolio``, as its reader gets it."""
    found = []
    for output in partition.take(encode(one) for one in events):
        found += [DELTA_READER.decode(DELTAS.encode(delta)) for delta in output.deltas]
    return found


class Stage:
    """One partition of the portfolio stage."""

    def __init__(self) -> None:
        self.store: dict[bytes, bytes] = {}
        self.state = PartitionState(0, self.store)

    def take(self, taken: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        figures = [figure for delta in taken if (figure := books.fold(delta, self.state)) is not None]
        for figure in figures:
            FIGURES.encode(figure)
        return figures

    def restart(self) -> None:
        apply(self.store, self.state.changes())
        self.state = PartitionState(0, self.store)


def last(figures: Sequence[dict[str, Any]], portfolio: str = "all") -> dict[str, Any]:
    return [figure for figure in figures if figure["portfolio"] == portfolio][-1]


def equity(amount: str, **fields: Any) -> dict[str, Any]:
    return event("state_snapshot", {"state": "running", "equity_quote": amount}, **fields)


def test_two_bots_add_up() -> None:
    one, two = Partition(0), Partition(1)
    stage = Stage()
    stage.take(deltas(one, [created("a"), filled("a", "10", "2", fee="0.5"), created("b", "sell")]))
    figures = stage.take(
        deltas(two, [created("a", "sell", instance_name="bot2"), filled("a", "4", "3", instance_name="bot2")])
    )
    figure = last(figures)
    assert (figure["members"], figure["open_orders"]) == (2, 2)
    assert (figure["exposure_gross"], figure["exposure_net"]) == (Decimal(32), Decimal(8))
    assert (figure["fees_quote"], figure["orders_1h"]) == (Decimal("0.5"), 3)
    assert (figure["largest_pair"], figure["concentration"]) == ("ONE-USDT", Decimal(1))
    figures = stage.take(deltas(one, [filled("b", "10", "3"), ended("b")]))
    assert last(figures)["realised_quote"] == Decimal(10)


def test_environments_and_quote_assets_never_mix() -> None:
    stage = Stage()
    figures = stage.take(
        deltas(
            Partition(),
            [
                created("a"),
                filled("a", "1", "5"),
                created("p", connector_name="kucoin_paper_trade"),
                created("q", trading_pair="ONE-BTC"),
            ],
        )
    )
    ends = {(f["environment"], f["quote_asset"]): (f["open_orders"], f["exposure_gross"]) for f in figures}
    assert ends == {("live", "USDT"): (1, 5), ("paper", "USDT"): (1, 0), ("live", "BTC"): (1, 0)}


@pytest.mark.req("P-02", "S4-06")
def test_a_bot_that_joins_a_portfolio_brings_all_it_has_and_takes_it_away_again() -> None:
    partition, stage = Partition(), Stage()
    btc = {"instance_name": "btc_1"}
    stage.take(deltas(partition, [created("a", **btc), filled("a", "10", "2", **btc), created("b", **btc)]))
    join = event("limits_set", MAJORS, instance_name="")
    figures = stage.take(deltas(partition, [join, created("c", **btc)]))
    joined = last(figures, "majors")
    assert (joined["members"], joined["open_orders"], joined["exposure_gross"]) == (1, 2, Decimal(20))
    assert last(figures)["open_orders"] == 2
    leave = event("limits_set", MAJORS | {"limits": {}}, instance_name="")
    figures = stage.take(deltas(partition, [leave, created("d", **btc)]))
    left = last(figures, "majors")
    assert (left["members"], left["exposure_gross"], left["realised_quote"]) == (0, 0, 0)


def test_money_that_comes_in_is_no_profit_and_no_peak() -> None:
    stage = Stage()
    figures = stage.take(deltas(Partition(), [created("a"), equity("1000"), filled("a", "10", "2")]))
    assert (last(figures)["equity"], last(figures)["peak_equity"], last(figures)["daily_pnl"]) == (1000, 1000, 0)
    other = Partition(1)
    more = [created("x", instance_name="bot2"), equity("500", instance_name="bot2")]
    figures = stage.take(deltas(other, more))
    assert (last(figures)["equity"], last(figures)["peak_equity"], last(figures)["drawdown_pct"]) == (1500, 1500, 0)


def test_a_day_begins_with_its_first_event() -> None:
    stage, partition = Stage(), Partition()
    day = 86_400_000_000
    at = START // day * day + day
    figures = stage.take(
        deltas(partition, [created("a", ts_utc=at - 2), filled("a", "10", "2", fee="1", ts_utc=at - 1)])
    )
    assert last(figures)["daily_pnl"] == -1
    figures = stage.take(deltas(partition, [created("b", "sell", ts_utc=at), filled("b", "10", "3", ts_utc=at + 1)]))
    assert last(figures)["daily_pnl"] == 10
    late = deltas(partition, [created("c", ts_utc=at - 1)])
    assert last(stage.take(late))["day"] == last(figures)["day"]


@pytest.mark.req("P-08")
def test_a_clock_that_runs_wild_holds_neither_the_day_nor_the_windows() -> None:
    partition, stage = Partition(), Stage()
    partition.now = START + 10_000_000
    wild = created("z", ts_utc=4_000_000_000_000_000)
    stage.take(deltas(partition, [created("a", ts_utc=START), wild]))
    figures = stage.take(deltas(partition, [created("b", ts_utc=START + 360_000_000)]))
    assert (last(figures)["day"], last(figures)["orders_1h"]) == ("2023-11-14", 3)


def round_trip(order: str, bought: str, sold: str) -> list[dict[str, Any]]:
    other = {"instance_name": "bot2"}
    entry = [created(order, **other), filled(order, "100", bought, **other)]
    return [*entry, created(f"{order}s", "sell", **other), filled(f"{order}s", "100", sold, **other)]


def test_what_a_member_without_equity_earns_moves_no_equity() -> None:
    stage, other = Stage(), Partition(1)
    stage.take(deltas(Partition(0), [equity("1000")]))
    figures = stage.take(deltas(other, [*round_trip("a", "5", "10"), *round_trip("b", "10", "5")]))
    assert {figure["peak_equity"] for figure in figures} == {1000}
    assert {figure["drawdown_quote"] for figure in figures} == {0}
    assert max(figure["daily_pnl"] for figure in figures) == 500
    figures = stage.take(deltas(other, [equity("300", instance_name="bot2"), *round_trip("c", "10", "9")]))
    assert (last(figures)["equity"], last(figures)["peak_equity"]) == (1200, 1300)


@pytest.mark.req("P-05")
def test_deltas_of_an_older_writer_are_read() -> None:
    schema = output_schema("portfolio")
    older = {**schema, "fields": [field for field in schema["fields"] if field["name"] != "has_equity"]}
    output = Partition().take([encode(equity("1000"))])[0]
    delta = codec.Decoder(older, schema).decode(codec.Encoder(older, 1).encode(output.deltas[0]))
    assert last(Stage().take([delta]))["equity"] == 1000


HUGE = "169999999999999999999.5"


@pytest.mark.req("P-08")
def test_figures_beyond_the_contract_are_null_and_stop_no_partition() -> None:
    stage = Stage()
    figures: list[dict[str, Any]] = []
    for number in range(3):
        bot = {"instance_name": f"bot{number}"}
        figures += stage.take(
            deltas(
                Partition(number),
                [created("a", **bot), filled("a", "10", "2", **bot), equity("99999999999999999999", **bot)],
            )
        )
    whole = last(figures)
    assert (whole["members"], whole["equity"], whole["peak_equity"]) == (3, None, None)
    assert (whole["exposure_gross"], whole["beyond"]) == (Decimal(60), [])
    for number in range(3):
        bot = {"instance_name": f"bot{number}", "trading_pair": "TWO-USDT"}
        large = [created("b", **bot), filled("b", "50000000000000000000", "1", **bot)]
        figures += stage.take(deltas(Partition(3 + number), large))
    assert last(figures)["exposure_gross"] == 0
    assert {"exposure_gross", "exposure_net"} <= set(last(figures)["beyond"])


@pytest.mark.req("P-08")
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_what_a_delta_cannot_carry_gives_nothing(side: str) -> None:
    stage, partition = Stage(), Partition()
    history = [created("a", side), filled("a", HUGE, "1"), equity(HUGE), equity("-" + HUGE)]
    history += [filled("a", "1", HUGE, fee=HUGE), filled("a", HUGE, HUGE), event("market_price", {"price": HUGE})]
    history += [equity("99999999999999999999"), equity("-99999999999999999999"), equity("12"), filled("a", "1", "1")]
    figures = stage.take(deltas(partition, history))
    assert last(figures)["equity"] == 12
    assert last(figures)["members"] == 1


INSTANCES = ["bot1", "bot2", "bot3"]
PAIRS = ["ONE-USDT", "TWO-USDT", "TEN-USDT"]
trades = st.lists(
    st.tuples(
        st.sampled_from(INSTANCES),
        st.sampled_from(PAIRS),
        st.sampled_from(["buy", "sell"]),
        st.integers(1, 9),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=12,
)
Trade = tuple[str, str, str, int, int]


def traded(history: Iterable[Trade]) -> dict[str, list[dict[str, Any]]]:
    """Deltas by instance, each of a partition of its own."""
    found: dict[str, list[dict[str, Any]]] = {}
    partitions = {name: Partition(number) for number, name in enumerate(INSTANCES)}
    for number, (name, pair, side, quantity, price) in enumerate(history):
        order, where = f"o{number}", {"instance_name": name, "trading_pair": pair}
        events = [
            created(order, side, str(quantity), **where),
            filled(order, str(quantity), str(price), **where),
            ended(order, **where),
        ]
        found.setdefault(name, []).extend(deltas(partitions[name], events))
    return found


SUMS = (*books.SUMS, "members", "open_orders")


@given(trades, st.randoms(use_true_random=False))
def test_the_sums_are_the_same_in_whatever_order_partitions_come(history: Any, random: Any) -> None:
    by_instance = traded(history)
    straight = Stage().take(itertools.chain(*by_instance.values()))
    queues = [list(found) for found in by_instance.values()]
    mixed = []
    while queues:
        queue = random.choice(queues)
        mixed.append(queue.pop(0))
        queues = [each for each in queues if each]
    assert [last(straight)[name] for name in SUMS] == [last(Stage().take(mixed))[name] for name in SUMS]


@given(trades, st.lists(st.integers(0, 40), max_size=4))
@pytest.mark.req("S1-11", "P-06")
def test_deltas_that_come_again_and_restarts_change_nothing(history: Any, again: list[int]) -> None:
    taken = list(itertools.chain(*traded(history).values()))
    straight = Stage().take(taken)
    stage, figures = Stage(), []
    position = 0
    for back in [*again, 0]:
        figures += stage.take(taken[max(0, position - back) : position + 10])
        position = min(len(taken), position + 10)
        stage.restart()
    figures += stage.take(taken[position:])
    assert figures == straight


def exposures(positions: Iterable[Mapping[str, Any]]) -> dict[str, Decimal]:
    """Signed exposure at mark by pair, of the last figures of every position; those that are not 0."""
    found: dict[str, Decimal] = {}
    for figure in positions:
        pair = figure["trading_pair"]
        found[pair] = found.get(pair, Decimal(0)) + figure["net_base"] * (figure["mark_price"] or 0)
    return {pair: exposure for pair, exposure in found.items() if exposure}


@given(trades)
@pytest.mark.req("P-02")
def test_a_portfolio_is_the_sum_of_its_members(history: list[Trade]) -> None:
    partition = Partition()
    figures: list[dict[str, Any]] = []
    members: dict[str, dict[str, Any]] = {}
    positions: dict[tuple[str, str], dict[str, Any]] = {}
    stage = Stage()
    for number, (name, pair, side, quantity, price) in enumerate(history):
        order, where = f"o{number}", {"instance_name": name, "trading_pair": pair}
        events = [created(order, side, str(quantity), **where), filled(order, str(quantity), str(price), **where)]
        for output in partition.take(encode(one) for one in events):
            figures += stage.take(DELTA_READER.decode(DELTAS.encode(delta)) for delta in output.deltas)
            assert output.risk is not None
            members[name] = positions[name, pair] = output.risk
        largest = sorted((abs(exposure), held) for held, exposure in exposures(positions.values()).items())[-1:]
        assert [figures[-1]["largest_pair"]] == ([held for _, held in largest] or [""])
        whole = sum(abs(exposure) for exposure in exposures(positions.values()).values())
        assert figures[-1]["concentration"] == (rounded(largest[0][0] / whole) if largest else None)
    total = last(figures)
    assert total["realised_quote"] == sum(figure["account_realised"] for figure in members.values())
    assert total["exposure_gross"] == sum(figure["exposure_gross"] for figure in members.values())
    assert total["exposure_net"] == sum(figure["exposure_net"] for figure in members.values())
    assert total["exposure_net"] == sum(exposures(positions.values()).values())
    assert total["open_orders"] == sum(figure["open_orders"] for figure in members.values())


@given(trades, st.sampled_from(PAIRS))
@pytest.mark.req("P-02")
def test_who_joins_brings_every_position_and_who_leaves_takes_each_away(history: list[Trade], pair: str) -> None:
    partition, stage = Partition(), Stage()
    named = MAJORS | {"limits": {"portfolio": {"one": {"instance": "bot1"}}}}
    for number, (_, traded_pair, side, quantity, price) in enumerate(history):
        order, where = f"o{number}", {"trading_pair": traded_pair}
        events = [created(order, side, str(quantity), **where), filled(order, str(quantity), str(price), **where)]
        stage.take(deltas(partition, events))
    join, leave = (event("limits_set", rules, instance_name="") for rules in (named, MAJORS | {"limits": {}}))
    figures = stage.take(deltas(partition, [join, created("x", trading_pair=pair)]))
    for name in (*SUMS, "largest_pair", "concentration"):
        assert last(figures, "one")[name] == last(figures)[name], name
    figures = stage.take(deltas(partition, [leave, created("y", trading_pair=pair)]))
    left = last(figures, "one")
    assert [left[name] for name in SUMS] == [0] * len(SUMS)
    assert (left["largest_pair"], left["concentration"]) == ("", None)


def test_a_portfolio_has_one_partition_and_everything_else_its_events() -> None:
    output = Partition(2).take([encode(created("a"))])[0]
    places = {record.topic: place_of(record, 2, 4) for record in emitted(output)}
    assert places[topics.AUDITED] == (topics.AUDITED, 2)
    again = Emitted(b"0:0:1", topics.PORTFOLIO, {"environment": "live", "portfolio": "all"})
    assert places[topics.PORTFOLIO] == place_of(again, 0, 4)
