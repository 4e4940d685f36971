"""Numbers at the ends of the contract: whatever bots say, every record that is sent can be written (P-08)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.folding import Partition, encode
from tests.processors.events import created, ended, event, filled

from tradetape.processors.emission import emitted
from tradetape.processors.portfolio import books
from tradetape.processors.state import PartitionState
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import OUTPUTS, output_schema

pytestmark = pytest.mark.req("P-08")

ENCODERS = {topics.of_output(name): codec.Encoder(output_schema(name), 1) for name in OUTPUTS}

AMOUNTS = st.sampled_from(
    [
        *(
            "1",
            "3",
            "0.000000000000000001",
            "0.000007",
            "0.333333333333333333",
            "7e9",
            "99999999999.999999999999999999",
        ),
        *("99999999999999999999.999999999999999999", "1e20", "169999999999999999999", "169999999999999999999.5"),
    ]
)
SIGNED = st.one_of(AMOUNTS, AMOUNTS.map("-{}".format), st.just("0"))
BOTS = st.sampled_from(["bot1", "bot2"])
ORDERS = st.sampled_from(["a", "b", "c"])


def happening() -> st.SearchStrategy[dict[str, Any]]:
    """One event of a bot, with numbers that nobody checked."""
    bots = {"instance_name": BOTS}
    return st.one_of(
        st.builds(created, ORDERS, st.sampled_from(["buy", "sell"]), AMOUNTS, AMOUNTS, **bots),
        st.builds(filled, ORDERS, AMOUNTS, AMOUNTS, st.sampled_from(["buy", "sell"]), fee=SIGNED, **bots),
        st.builds(ended, ORDERS, **bots),
        st.builds(lambda price, **fields: event("market_price", {"price": price}, **fields), AMOUNTS, **bots),
        st.builds(
            lambda amount, asset, **fields: event("funding_paid", {"amount": amount, "asset": asset}, **fields),
            SIGNED,
            st.sampled_from(["USDT", "USDC"]),
            **bots,
        ),
        st.builds(
            lambda amount, **fields: event("state_snapshot", {"state": "running", "equity_quote": amount}, **fields),
            SIGNED,
            **bots,
        ),
    )


def equity(amount: str) -> dict[str, Any]:
    return event("state_snapshot", {"state": "running", "equity_quote": amount})


def loss(held: str, spent: str) -> list[dict[str, Any]]:
    """Equity of ``held``, and a trade that loses ``spent``."""
    return [equity(held), created("a"), filled("a", "1", spent), created("b", "sell"), filled("b", "1", "1")]


@example(loss("0.000007", "20000000000000"))
@example(loss("3.000000000000000007", "20000000000000000000.3"))
@example([*loss("1", "1.000000000000000001")[1:], equity("150000000000000000000")])
@given(st.lists(happening(), min_size=1, max_size=12))
def test_every_record_that_is_sent_can_be_written(history: list[dict[str, Any]]) -> None:
    stage = PartitionState(0, {})
    for output in Partition().take(map(encode, history)):
        for one in emitted(output):
            ENCODERS[one.topic].encode(one.record)
            if one.topic == topics.PORTFOLIO:
                figure = books.fold(one.record, stage)
                assert figure is not None
                ENCODERS[topics.PORTFOLIOS].encode(figure)
