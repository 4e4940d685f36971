"""Late executions: the figures are those of all executions in the order of their time (P-02)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import Partition, encode, fold
from tests.processors.events import START, created, filled

from tradetape.processors.core import Output
from tradetape.processors.risk import history
from tradetape.processors.risk.history import CUT, TAIL, Position
from tradetape.processors.risk.lots import Lot, Lots
from tradetape.processors.risk.positions import Assets, Execution
from tradetape.processors.state import PartitionState

POSITION = (
    *("net_base", "cost_quote", "avg_cost", "realised_quote", "fees", "last_price", "fills"),
    *("realised_fifo_quote", "mark_price", "unrealised_quote", "account_realised", "account_fees"),
    *("account_unrealised", "exposure_gross", "exposure_net", "concentration", "consecutive_losses", "daily_pnl"),
)
"""Figures that do not depend on the way that was taken to them."""

PRICES = st.integers(1, 9)
QUANTITIES = st.integers(1, 9)
SIDES = st.sampled_from(["buy", "sell"])


def executions(trades: Sequence[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """One a second, the first at START."""
    return [
        filled(f"o{n}", str(quantity), str(price), side, ts_utc=START + n * 1_000_000, fee="0.5")
        for n, (side, price, quantity) in enumerate(trades)
    ]


def last(outputs: Sequence[Output]) -> dict[str, Any]:
    figures = [output.risk for output in outputs if output.risk is not None]
    return {name: figures[-1][name] for name in POSITION}


def codes(outputs: Sequence[Output]) -> list[str]:
    return [found["code"] for output in outputs for found in output.audited["findings"]]


@pytest.mark.req("P-02")
@given(st.lists(st.tuples(SIDES, PRICES, QUANTITIES), min_size=1, max_size=CUT), st.randoms(use_true_random=False))
def test_any_order_within_the_tail_gives_the_same_figures(
    trades: list[tuple[str, int, int]], shuffler: random.Random
) -> None:
    in_order = executions(trades)
    shuffled = list(in_order)
    shuffler.shuffle(shuffled)
    outputs = fold(shuffled)
    assert last(outputs) == last(fold(in_order))
    assert "late_fill" not in codes(outputs)


@pytest.mark.req("P-02")
def test_order_is_restored_over_a_long_history_that_is_folded_off() -> None:
    rng = random.Random(5)
    trades = [(rng.choice(["buy", "sell"]), rng.randint(1, 9), rng.randint(1, 9)) for _ in range(5 * TAIL)]
    in_order = executions(trades)
    late = list(in_order)
    for start in range(0, len(late), CUT):
        part = late[start : start + CUT]
        rng.shuffle(part)
        late[start : start + CUT] = part
    outputs = fold(late)
    assert last(outputs) == last(fold(in_order))
    assert "late_fill" not in codes(outputs)
    assert last(outputs)["fills"] == 5 * TAIL


@pytest.mark.req("P-02")
def test_an_execution_older_than_all_that_are_kept_is_told_and_still_counts() -> None:
    in_order = executions([("buy", 2, 1)] * (TAIL + 1))
    outputs = fold([*in_order[1:], *executions([("sell", 5, 1)])])
    assert codes(outputs).count("late_fill") == 1
    figures = last(outputs)
    assert (figures["net_base"], figures["fills"]) == (TAIL - 1, TAIL + 1)
    assert figures["realised_quote"] == 3
    assert figures["last_price"] == 2


@pytest.mark.req("P-02")
@given(st.data())
def test_what_came_in_late_leaves_state_that_goes_on_as_if_it_had_not(data: st.DataObject) -> None:
    trades = data.draw(st.lists(st.tuples(SIDES, PRICES, QUANTITIES), min_size=4, max_size=CUT))
    in_order = executions(trades)
    head, tail = in_order[: len(in_order) // 2], in_order[len(in_order) // 2 :]
    whole, cut = Partition(), Partition()
    expected = whole.take(encode(each) for each in in_order)
    cut.take(encode(each) for each in reversed(head))
    cut.restart()
    outputs = [output for each in tail for output in cut.take([encode(each)])]
    assert last(outputs) == last(expected)


@pytest.mark.req("P-02")
def test_executions_that_waited_for_their_direction_stand_at_their_own_time() -> None:
    waiting = [filled("a", "1", str(price), ts_utc=START + second * 1_000_000) for second, price in ((1, 2), (5, 9))]
    between = filled("b", "1", "5", "sell", ts_utc=START + 3_000_000)
    outputs = fold([*waiting, between, created("a", ts_utc=START, amount="2")])
    figures = last(outputs)
    assert (figures["realised_quote"], figures["net_base"], figures["cost_quote"]) == (3, 1, 9)


@pytest.mark.req("P-02", "P-08")
def test_a_refold_out_of_range_changes_nothing() -> None:
    store: dict[bytes, bytes] = {}
    state, key, assets = PartitionState(0, store), ("live", "", "bot1", "kucoin", "ONE-USDT"), Assets("ONE", "USDT")
    huge, one = Decimal("6e19"), Decimal(1)
    history.fold(Execution(10, 0, True, one, huge, []), key, assets, state)
    before = state.get(Position, *key)
    figures = (before.cost, before.kept, before.realised_fifo)
    with pytest.raises(ArithmeticError):
        history.fold(Execution(5, 0, True, one, huge, []), key, assets, state)
    after = state.get(Position, *key)
    assert (after.cost, after.kept, after.realised_fifo) == figures


@pytest.mark.req("P-02")
def test_stored_lots_are_those_of_a_fold_without_a_store() -> None:
    rng = random.Random(11)
    partition, assets = Partition(), Assets("ONE", "USDT")
    held, position = Lots(0, 0, [Lot()].__getitem__), history.Base()
    standing = history._Standing(position, held, assets)
    for n, each in enumerate(
        executions([(rng.choice(["buy", "sell"]), rng.randint(1, 9), rng.randint(1, 9)) for _ in range(300)])
    ):
        payload = each["payload"]
        standing.take(Execution(n, n, payload["side"] == "buy", payload["fill_price"], payload["fill_qty_base"], []))
        output = partition.take([encode(each)])[0]
        assert output.risk is not None
        assert output.risk["realised_fifo_quote"] == standing.realised_fifo
        assert output.risk["net_base"] == standing.cost.net_base


@pytest.mark.req("P-02")
def test_what_an_execution_writes_stays_small_however_many_there_were() -> None:
    partition, written = Partition(), 0
    rng = random.Random(3)
    trades = [(rng.choice(["buy", "sell"]), rng.randint(1, 9), rng.randint(1, 9)) for _ in range(10 * TAIL)]
    for each in executions(trades):
        partition.fold([encode(each)])
        written += sum(len(key) + len(value or b"") for key, value in partition.state.changes() if key[1:2] in b"pxi")
        partition.commit()
    assert written / len(trades) < 900
    assert sum(key.startswith(b"0x") for key in partition.store) <= 2 * TAIL + 5
