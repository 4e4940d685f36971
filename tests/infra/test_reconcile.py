"""Native stores read once more, a bot's other record beside its database, and baselines as events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from tests.producers.databases import Database
from tests.producers.support import Listed
from tests.producers.test_hummingbot_log import FILLED, HEAD

from tradetape.infra.connect import SourceConfig
from tradetape.infra.reconcile import Found, _against_other, _Native
from tradetape.producers import baselines
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import again, runner
from tradetape.producers.connectors.hummingbot import trades
from tradetape.producers.connectors.trend import source as trend_source
from tradetape.producers.simulator import trend
from tradetape.schemas import rules
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("S3-11")

HEADER = "exchange_trade_id,order_id,timestamp,trade_type,price,amount\n"


def test_a_reading_gives_what_the_connector_sends_and_keeps_no_place(tmp_path: Path) -> None:
    (ledger,) = trend.simulate(tmp_path / "trend", bots=1, steps=3, seed=3).files
    origin = Origin("s", "bot", "binance", "trend")
    sent = Listed()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    runner.run(trend_source.open_source(str(ledger), origin, None), sent, checkpoints)
    for _ in range(2):
        source = trend_source.open_source(str(ledger), origin, checkpoints.load("nobody"))
        assert [event["event_id"] for event in again.read(source)] == [event["event_id"] for event in sent.events]


def compared(config: SourceConfig, other: Path) -> Found:
    found = Found("beside", "x")
    _against_other(found, _Native(config), config, other)
    return found


@pytest.mark.req("N-07", "P-10")
def test_a_price_that_the_database_truncated_to_0_is_found_in_the_csv(tmp_path: Path) -> None:
    database = Database(tmp_path / "bot_a.sqlite")
    database.order()
    database.status("BuyOrderCreated")
    for trade_id, price in (("t1", 0), ("t2", 5_000_000)):
        database.status("OrderFilled")
        database.fill(trade_id, price=price)
    other = tmp_path / "trades_bot_a.csv"
    other.write_text(
        HEADER
        + "t1,o1,1700000000000,BUY,0.00000045,1\n"
        + "t2,o1,1700000000000,BUY,5,1\n"
        + "t3,o1,1700000000000,BUY,5,1\n"
    )
    assert trades.beside(database.path) == other
    found = compared(SourceConfig("hummingbot", str(database.path)), other)
    assert [(each.kind, each.item, each.stored_place) for each in found.differences] == [
        ("only_beside", "o1 t3", "trades_bot_a.csv:4"),
        ("zero", "o1 t1", "trades_bot_a.csv:2"),
    ]
    assert found.differences[1].values == (("price", "0", "0.00000045"),)
    assert found.compared == 2


@pytest.mark.req("N-07", "P-10")
def test_a_log_is_compared_from_where_it_begins(tmp_path: Path) -> None:
    database = Database(tmp_path / "bot_a.sqlite")
    at = int(FILLED["timestamp"] * 1000)
    for trade_id, time in (("old", at - 1), ("t-1", at), ("later", at + 1)):
        database.fill(
            trade_id, order_id=FILLED["order_id"], timestamp=time, price=2_095_499_999, amount=20_000, trade_type="SELL"
        )
    log = tmp_path / "logs_bot_a.log"
    log.write_text(HEAD + json.dumps({**FILLED, "event_name": "OrderFilledEvent", "event_source": "kucoin"}) + "\n")
    found = compared(SourceConfig("hummingbot", str(database.path)), log)
    assert [(each.kind, each.item.split()[1]) for each in found.differences] == [
        ("only_here", "later"),
        ("truncated", "t-1"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Exchange,Price\nx,1\n", "no list of Hummingbot's trades: order_id, exchange_trade_id"),
        (HEADER + "t,o,1700000000000,BUY,NaN,1\n", "trades.csv:2: "),
        (HEADER + "t,o,1700000000000,BUY\n", "trades.csv:2: "),
        (HEADER + "t,o,,BUY,1,1\n", "trades.csv:2: "),
    ],
)
def test_a_csv_that_cannot_be_read_names_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(text)
    with pytest.raises(TradetapeError, match=message):
        list(trades.read(path))


def test_floats_of_a_csv_are_read_back_as_the_numbers_that_they_stood_for(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(HEADER + f"t,o,1700000000000,BUY,{Decimal.from_float(2387.35)},{Decimal.from_float(0.08)}\n")
    (trade,) = trades.read(path)
    assert (trade.price, trade.amount, trade.line) == (Decimal("2387.35"), Decimal("0.08"), 2)


@pytest.mark.req("N-03")
def test_moved_baselines_are_events_under_the_rules_in_parts_of_one_chain() -> None:
    found = [{"id": str(number), "kind": "missing", "values": [["x", "v" * 999, None]]} for number in range(1_001)]
    events = baselines.moved("source", "s", found, datetime(2024, 5, 1, tzinfo=UTC), by="ann", reason="old backup")
    assert [event["payload"]["count"] for event in events] == [500, 500, 1]
    assert {event["correlation_id"] for event in events} == {events[0]["event_id"]}
    assert len({event["event_id"] for event in events}) == 3
    for event in events:
        assert list(rules.violations(event, event_types()[event["event_type"]])) == []
    first = json.loads(events[0]["payload"]["differences"])[0]
    assert first == {"id": "0", "kind": "missing", "values": [["x", "v" * 200, None]]}
    assert baselines.moved("source", "s", [], datetime(2024, 5, 1, tzinfo=UTC), by="ann", reason="x") == []
