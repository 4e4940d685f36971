"""The adapter by itself: whatever the rows hold, it gives one event that encodes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradetape.producers.adapters import hummingbot as adapter
from tradetape.producers.adapters import hummingbot_values as values
from tradetape.schemas import rules
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Decoder, Encoder

DATABASE = adapter.Database("source", "bot.sqlite", frozenset({("Order", "amount"), ("TradeFill", "price")}))
CODECS = {name: (Encoder(kind.schema, 1), Decoder(kind.schema)) for name, kind in event_types().items()}

ANYTHING = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=8),
    st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3),
)


def of(*usual: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(usual), ANYTHING)


MOMENT = of(1_700_000_000_000, 1_700_000_000.5)
NUMBER = of(1_500_000, 0.1, "0.25", 0)
FEE = st.one_of(
    of(
        '{"fee_type": "DeductedFromReturns", "percent": "0.001", "percent_token": null, "flat_fees": []}',
        '{"percent": 0.001, "flat_fees": [["BNB", 0.1]]}',
        '{"percent": "1e400"}',
        '{"percent": NaN}',
        '{"flat_fees": [{"token": null, "amount": "1"}]}',
        '{"flat_fees": 5}',
        "[]",
        "null",
    ),
    st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)).map(str),
)
PLACE = {
    "config_file_path": of("conf/bot.yml", ""),
    "market": of("kucoin"),
    "symbol": of("AAA-USDT", "AAAUSDT"),
    "strategy": ANYTHING,
    "leverage": ANYTHING,
    "position": ANYTHING,
    "order_type": of("LIMIT", "OrderType.LIMIT_MAKER", "AMM_SWAP"),
    "price": NUMBER,
    "amount": NUMBER,
}
ORDER = st.fixed_dictionaries(
    {"id": of("o1")},
    optional=PLACE
    | {"creation_timestamp": MOMENT, "last_status": of("BuyOrderCreated"), "exchange_order_id": ANYTHING},
)
FILL = st.fixed_dictionaries(
    {"order_id": of("o1")},
    optional=PLACE
    | {
        "timestamp": MOMENT,
        "trade_type": of("BUY", "SELL"),
        "trade_fee": FEE,
        "exchange_trade_id": of("t1"),
        "trade_fee_in_quote": NUMBER,
    },
)
STATUS = st.fixed_dictionaries(
    {
        "id": of(1),
        "order_id": of("o1"),
        "timestamp": MOMENT,
        "status": of("OrderFilled", *adapter.CREATED, *adapter.TERMINAL),
    }
)


def check(event: dict[str, Any]) -> None:
    encoder, decoder = CODECS[event["event_type"]]
    decoded = decoder.decode(encoder.encode(event))
    assert decoded["native"]
    if event["event_type"] != "unmapped_record":
        assert not list(rules.violations(decoded, event_types()[event["event_type"]]))


@pytest.mark.req("P-08", "P-10")
@settings(max_examples=300)
@given(STATUS, st.none() | ORDER, st.none() | FILL, st.booleans())
def test_any_row_becomes_one_event_that_encodes(
    status: dict[str, Any], order: dict[str, Any] | None, fill: dict[str, Any] | None, first: bool
) -> None:
    check(adapter.from_status(DATABASE, status, order=order, known=fill, first_created=first))
    if fill is not None:
        check(adapter.from_filled_status(DATABASE, status, fill, rowid=1, order=order))
        check(adapter.from_fill(DATABASE, fill, rowid=1, copy=2, order=order))
    if order is not None:
        check(adapter.from_order(DATABASE, order, fill=fill))


def paid(fee: str, *, buys: bool = True) -> list[tuple[str, Decimal]]:
    found = values.fees({"trade_fee": fee}, base="AAA", quote="USDT", buys=buys, price=Decimal(5), amount=Decimal(2))
    return [(part.asset, part.amount) for part in found.components]


@pytest.mark.parametrize(
    ("fee", "buys", "expected"),
    [
        (
            '{"fee_type": "AddedToCost", "percent": "0.001", "percent_token": null, "flat_fees": []}',
            True,
            [("USDT", "0.01")],
        ),
        (
            '{"fee_type": "AddedToCost", "percent": "0.001", "percent_token": "KCS", "flat_fees": []}',
            True,
            [("KCS", "0.01")],
        ),
        ('{"fee_type": "DeductedFromReturns", "percent": "0.001", "flat_fees": []}', True, [("AAA", "0.002")]),
        ('{"fee_type": "DeductedFromReturns", "percent": "0.001", "flat_fees": []}', False, [("USDT", "0.01")]),
        ('{"percent": 0.001, "flat_fees": [["BNB", 0.1]]}', True, [("BNB", "0.1"), ("USDT", "0.01")]),
        ('{"percent": "0", "flat_fees": [{"token": "USDT", "amount": "-0.5"}]}', True, [("USDT", "-0.5")]),
        ('{"percent": "0.1000000000000000055511151231257827021181583404541015625"}', True, [("USDT", "1")]),
        ("", True, []),
    ],
)
def test_fees(fee: str, buys: bool, expected: list[tuple[str, str]]) -> None:
    assert paid(fee, buys=buys) == [(asset, Decimal(amount)) for asset, amount in expected]


@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("conf_pure_mm_3.yml", "conf_pure_mm_3"),
        ("conf/strategies/a.b.yaml", "a.b"),
        ("C:\\bots\\x.py", "x"),
        ("plain", "plain"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_config_file_names_the_bot(path: str | None, instance: str) -> None:
    assert adapter.instance_of(path) == instance


def test_a_market_order_has_no_price_where_none_is_stored() -> None:
    place = {"config_file_path": "b.yml", "market": "kucoin", "symbol": "A-B"}
    status = {"id": 1, "order_id": "o", "timestamp": 1_700_000_000_000, "status": "BuyOrderCreated"}
    order = {"id": "o", **place, "order_type": "MARKET", "amount": 1_000_000, "price": 0}
    event = adapter.from_status(DATABASE, status, order=order, first_created=True)
    assert event["payload"]["price"] is None
    swap = adapter.from_status(DATABASE, status, order={**order, "order_type": "AMM_SWAP"}, first_created=True)
    assert swap["payload"]["order_type"] == "market"
    assert "AMM_SWAP" in swap["extra"]
    small = adapter.from_status(DATABASE, status, order={**order, "order_type": "LIMIT"}, first_created=True)
    assert small["payload"]["price"] == 0
