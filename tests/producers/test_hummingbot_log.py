"""Hummingbot's EVENT_LOG lines: exact forms of its event reporter, other levels skipped, files followed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import folding
from tests.producers.support import Listed

from tradetape.producers.adapters import hummingbot_log as adapter
from tradetape.producers.adapters.hummingbot_log import Known
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import lines, runner
from tradetape.producers.connectors.hummingbot import log as hummingbot_log
from tradetape.producers.connectors.lines import digest
from tradetape.producers.events import Event
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Encoder
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("P-10")

ORIGIN = Origin(source_id="log-1", instance_name="pmm_1", connector_name="hummingbot", producer="hummingbot")
HEAD = "2023-12-02 12:56:07,012 - 15 - hummingbot.core.event.event_reporter - EVENT_LOG - "
OTHER = b"2023-12-02 12:56:07,013 - 15 - hummingbot.strategy.pmm - INFO - Created 2 EVENT_LOG - {orders}\n"
ORDER = "SETUT61159699"

_ENCODERS = {name: Encoder(event_type.schema, 1) for name, event_type in event_types().items()}

CREATED: dict[str, Any] = {
    "timestamp": 1701521767.0,
    "type": "OrderType.LIMIT",
    "trading_pair": "ETH-USDT",
    "amount": "0.02",
    "price": "2095.5",
    "order_id": ORDER,
    "creation_timestamp": 1701521766.0,
    "exchange_order_id": "x-9",
    "leverage": 1,
    "position": "NIL",
}
FILLED: dict[str, Any] = {
    "timestamp": 1701521768.25,
    "order_id": ORDER,
    "trading_pair": "ETH-USDT",
    "trade_type": "TradeType.SELL",
    "order_type": "OrderType.LIMIT_MAKER",
    "price": "2095.5",
    "amount": "0.02",
    "trade_fee": {"percent": "0.001", "percent_token": None, "flat_fees": []},
    "exchange_trade_id": "t-1",
    "exchange_order_id": "x-9",
    "leverage": 1,
    "position": "NIL",
}
COMPLETED: dict[str, Any] = {
    "timestamp": 1701521769.0,
    "order_id": ORDER,
    "base_asset": "ETH",
    "quote_asset": "USDT",
    "base_asset_amount": "0.02",
    "quote_asset_amount": "41.91",
    "order_type": "OrderType.LIMIT_MAKER",
    "exchange_order_id": "x-9",
}
ENDED: dict[str, Any] = {"timestamp": 1701521769.0, "order_id": ORDER, "exchange_order_id": "x-9"}
EXPIRED: dict[str, Any] = {"timestamp": 1701521769.0, "order_id": ORDER}
FAILED: dict[str, Any] = {"timestamp": 1701521769.0, "order_id": ORDER, "order_type": "OrderType.MARKET"}
FUNDING: dict[str, Any] = {
    "timestamp": 1701521770.0,
    "market": "binance_perpetual",
    "trading_pair": "ETH-USDT",
    "amount": "-0.25",
    "funding_rate": "0.0001",
}


def line(name: str, fields: dict[str, Any], source: str = "kraken") -> bytes:
    return (HEAD + json.dumps({**fields, "event_name": name, "event_source": source})).encode()


def adapted(name: str, fields: dict[str, Any], *, known: str = "", source: str = "kraken") -> Event:
    orders = {ORDER: Known(known)} if known else {}
    return adapter.from_line(ORIGIN, line(name, fields, source), "log:1", 7, orders=orders)


def said(event: Event) -> dict[str, str]:
    return {key: str(value) for key, value in event["payload"].items() if value not in (None, [])}


@pytest.mark.parametrize(("name", "side"), [("BuyOrderCreatedEvent", "buy"), ("SellOrderCreatedEvent", "sell")])
def test_a_created_order(name: str, side: str) -> None:
    event = adapted(name, CREATED)
    assert said(event) == {
        "client_order_id": ORDER,
        "side": side,
        "order_type": "limit",
        "native_order_type": "OrderType.LIMIT",
        "price": "2095.5",
        "amount_base": "0.02",
        "is_live": "True",
        "exchange_order_id": "x-9",
    }
    assert event["event_id"] == event["correlation_id"]
    assert (event["aggregate_type"], event["aggregate_id"]) == ("order", ORDER)
    assert (event["instance_name"], event["connector_name"], event["trading_pair"]) == ("pmm_1", "kraken", "ETH-USDT")
    assert (event["ts_utc"], event["native_type"]) == (1_701_521_767_000_000, name)
    assert json.loads(event["extra"]) == {"creation_timestamp": "1701521766", "leverage": 1, "position": "NIL"}


def test_a_paper_connector_is_no_live_one() -> None:
    event = adapted("BuyOrderCreatedEvent", CREATED, source="kucoin_paper_trade")
    assert (event["environment"], event["payload"]["is_live"]) == ("paper", False)


@pytest.mark.parametrize("price", ["NaN", "0", None])
def test_a_market_order_has_no_price(price: Any) -> None:
    event = adapted("BuyOrderCreatedEvent", {**CREATED, "type": "OrderType.MARKET", "price": price})
    assert (event["payload"]["order_type"], event["payload"]["price"]) == ("market", None)


@pytest.mark.parametrize(
    ("fee", "expected"),
    [
        ({"percent": "0.001", "percent_token": None, "flat_fees": []}, ("USDT", "0.041910")),
        ({"percent": "0.001", "percent_token": "BNB", "flat_fees": []}, ("BNB", "0.041910")),
        ({"percent": "0", "percent_token": None, "flat_fees": [{"token": "KCS", "amount": "0.03"}]}, ("KCS", "0.03")),
        ({"percent": 0.001, "flat_fees": [["USDT", "1"]]}, ("USDT", "1")),
        (None, ("USDT", "0")),
    ],
)
def test_a_fill_and_its_fees(fee: Any, expected: tuple[str, str]) -> None:
    event = adapted("OrderFilledEvent", {**FILLED, "trade_fee": fee})
    assert event["event_type"] == "order_filled", event["payload"]
    payload = said(event)
    assert (payload["fee_asset"], payload["fee_amount"]) == expected
    assert (payload["fill_id"], payload["side"], payload["liquidity_side"]) == ("t-1", "sell", "maker")
    assert payload["fill_qty_quote"] == "41.910"


@pytest.mark.parametrize(
    ("name", "fields", "event_type"),
    [
        ("SellOrderCompletedEvent", COMPLETED, "order_completed"),
        ("BuyOrderCompletedEvent", COMPLETED, "order_completed"),
        ("OrderCancelledEvent", ENDED, "order_cancelled"),
        ("OrderExpiredEvent", EXPIRED, "order_expired"),
        ("MarketOrderFailureEvent", FAILED, "order_failed"),
    ],
)
def test_the_end_of_an_order_joins_its_chain(name: str, fields: dict[str, Any], event_type: str) -> None:
    event = adapted(name, fields, known="ETH-USDT")
    assert event["event_type"] == event_type, event["payload"]
    assert event["payload"]["client_order_id"] == ORDER
    assert event["trading_pair"] == "ETH-USDT"
    chain = adapted("SellOrderCreatedEvent", CREATED)["event_id"]
    assert event["correlation_id"] == chain != event["event_id"]


def test_a_failure_says_why_where_the_log_does() -> None:
    more = {"error_message": "insufficient funds", "error_type": "ValueError"}
    event = adapted("MarketOrderFailureEvent", FAILED | more, known="ETH-USDT")
    assert (event["payload"]["error_message"], event["payload"]["error_code"]) == ("insufficient funds", "ValueError")
    assert event["assumed"] == []
    assert adapted("MarketOrderFailureEvent", FAILED, known="ETH-USDT")["assumed"] == ["error_message"]


def test_a_pair_is_in_old_order_ids() -> None:
    event = adapted("OrderCancelledEvent", {**ENDED, "order_id": "buy-ETH-USDT-1701521766935688"})
    assert (event["event_type"], event["trading_pair"]) == ("order_cancelled", "ETH-USDT")
    event = adapted("OrderCancelledEvent", ENDED)
    assert event["event_type"] == "unmapped_record"
    assert "empty_field: trading_pair" in event["payload"]["error"]


def test_a_funding_payment() -> None:
    event = adapted("FundingPaymentCompletedEvent", FUNDING, source="binance_perpetual")
    assert said(event) == {"amount": "-0.25", "asset": "USDT", "rate": "0.0001"}
    assert event["connector_name"] == "binance_perpetual"


@pytest.mark.req("P-08")
def test_other_events_and_broken_lines_are_evidence() -> None:
    for content in (
        line("RangePositionClosedEvent", {"timestamp": 1701521770.0}),
        (HEAD + '{"timestamp": 17015').encode(),
        (HEAD + "[1]").encode(),
        line("OrderFilledEvent", {**FILLED, "price": "much"}),
        line("OrderFilledEvent", {**FILLED, "trade_fee": {"percent": {"a": 1}}}),
    ):
        event = adapter.from_line(ORIGIN, content, "log:1", 7, orders={})
        assert event["event_type"] == "unmapped_record"
        assert event["native"] == content
        assert event["payload"]["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@pytest.mark.req("P-08")
@given(st.sampled_from(sorted(rules("hummingbot_log"))), st.dictionaries(st.sampled_from(sorted(FILLED)), JSON))
def test_any_fields_become_an_event_that_can_be_written(name: str, fields: dict[str, Any]) -> None:
    content = (HEAD + json.dumps({**FILLED, **fields, "event_name": name})).encode()
    event = adapter.from_line(ORIGIN, content, "log:1", 7, orders={})
    assert event["native"] == content
    _ENCODERS[event["event_type"]].encode(event)
    assert adapter.from_line(ORIGIN, content, "log:1", 7, orders={}) == event


@pytest.mark.req("P-08")
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_become_an_event_that_can_be_written(content: bytes, is_event: bool) -> None:
    content = HEAD.encode() + content if is_event else content
    event = adapter.from_line(ORIGIN, content, "log:1", 7, orders={})
    assert event["native"] == content
    _ENCODERS[event["event_type"]].encode(event)


class Log:
    """A log file that is followed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "logs_pmm_1.log"
        self.saved: dict[str, Any] | None = None

    def write(self, *lines: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(entry + b"\n" for entry in lines))

    def open(self) -> hummingbot_log.HummingbotLogSource:
        return hummingbot_log.open_source(str(self.path), ORIGIN, json.loads(json.dumps(self.saved)))

    def poll(self) -> list[Event]:
        source = self.open()
        found: list[Event] = []
        while polled := source.poll(2):
            found += polled
        self.saved = source.state()
        return found


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_lines_of_other_levels_are_skipped_and_counted(log: Log) -> None:
    log.write(OTHER[:-1], line("SellOrderCreatedEvent", CREATED), b"Traceback (most recent call last):", b"  File x")
    log.write(*[OTHER[:-1]] * 20, line("OrderFilledEvent", FILLED), line("OrderCancelledEvent", ENDED))
    events = log.poll()
    assert [event["event_type"] for event in events] == ["order_created", "order_filled", "order_cancelled"]
    assert [event["source_position"] for event in events] == [2, 25, 26]
    assert log.open().skipped == 23
    assert log.open().lag() == (0, 0.0)


@pytest.mark.req("P-06")
def test_the_log_is_followed_over_midnight(log: Log) -> None:
    log.write(OTHER[:-1], line("SellOrderCreatedEvent", CREATED))
    first = log.poll()
    log.write(line("OrderFilledEvent", FILLED))
    log.path.rename(log.path.with_name("logs_pmm_1.log.2023-12-02"))
    log.write(OTHER[:-1] + b" again", line("OrderCancelledEvent", ENDED))
    events = log.poll()
    assert [event["event_type"] for event in events] == ["order_filled", "order_cancelled"]
    assert events[1]["trading_pair"] == "ETH-USDT"
    assert log.poll() == []
    log.saved = None
    again = log.poll()
    assert [event["event_id"] for event in again] == [event["event_id"] for event in [*first, *events]]
    assert [event["source_position"] for event in again] == [2, 3, 2]


@pytest.mark.req("P-06")
def test_a_poll_that_finds_no_event_ends_and_its_place_is_kept(log: Log) -> None:
    log.write(*[OTHER[:-1]] * 50, line("SellOrderCreatedEvent", CREATED))
    ticks = iter(range(0, 1000))
    source = hummingbot_log.HummingbotLogSource(log.path, ORIGIN, None, clock=lambda: float(next(ticks)))
    assert source.poll(2) == []
    assert 0 < source.skipped < 50
    log.saved = source.state()
    again = log.open()
    assert again.skipped == source.skipped
    (event,) = again.poll(2)
    assert (event["source_position"], again.skipped) == (51, 50)
    assert [event["event_type"] for event in source.ended()] == ["order_created", "source_ended"]


def test_the_last_line_of_a_batch_alone_is_hashed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write(*[OTHER[:-1]] * 500)
    hashed: list[bytes] = []

    def count(content: bytes) -> str:
        hashed.append(content)
        return digest(content)

    monkeypatch.setattr(lines, "digest", count)
    source = log.open()
    source.poll(100)
    source.state()
    assert len(hashed) < 20


def test_a_copy_beside_the_log_is_no_lag(log: Log) -> None:
    log.write(*[OTHER[:-1]] * 3)
    source = log.open()
    source.poll(10)
    shutil.copy(log.path, log.path.with_name("logs_pmm_1.log.2023-12-01"))
    source.poll(10)
    assert source.lag() == (0, 0.0)
    log.write(OTHER[:-1])
    assert source.lag() == (None, None)
    source.poll(10)
    assert source.lag() == (0, 0.0)


@pytest.mark.parametrize("location", ["/tmp/a\0b", "/tmp/" + "x" * 300])
def test_a_name_that_no_file_can_have_is_told(location: str) -> None:
    with pytest.raises(TradetapeError, match="cannot be read") as refused:
        hummingbot_log.fingerprint(location)
    assert refused.value.hint


def test_an_order_created_twice_keeps_both_lines(log: Log) -> None:
    log.write(*[line("SellOrderCreatedEvent", CREATED)] * 2)
    first, second = log.poll()
    assert first["event_id"] != second["event_id"]
    assert first["correlation_id"] == second["correlation_id"] == first["event_id"]


def test_the_runner_takes_a_log_in_and_its_order_has_no_findings(log: Log, tmp_path: Path) -> None:
    log.write(OTHER[:-1], line("SellOrderCreatedEvent", CREATED), line("OrderFilledEvent", FILLED))
    log.write(line("SellOrderCompletedEvent", COMPLETED))
    emitter = Listed()
    summary = runner.run(log.open(), emitter, Checkpoints(tmp_path / "checkpoints"))
    assert summary.events == {"order_created": 1, "order_filled": 1, "order_completed": 1, "source_ended": 1}
    assert emitter.events[-1]["payload"]["rows"] == {"event_log": 3, "other": 1}
    outputs = folding.fold(emitter.events)
    assert [output.audited["disposition"] for output in outputs] == ["accepted"] * 4
    assert {finding["code"] for output in outputs for finding in output.audited["findings"]} == {"value_assumed"}


def test_what_is_no_log_is_refused(log: Log) -> None:
    for location in (str(log.path), str(log.path.parent)):
        with pytest.raises(TradetapeError):
            hummingbot_log.fingerprint(location)
    log.write(OTHER[:-1])
    assert hummingbot_log.fingerprint(str(log.path))
