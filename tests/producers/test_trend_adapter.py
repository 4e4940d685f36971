"""Lines of Trend's ledger as events: typed, never raised, never dropped."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers.adapters import trend
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.adapters.native import parse_json
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.events import Event
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Decoder, Encoder

ORIGIN = Origin(source_id="ledger-1", instance_name="trend1", connector_name="binance", producer="trend")
STREAM = "events.jsonl:0123456789abcdef"
ID = "550e8400-e29b-41d4-a716-446655440000"

_ENCODERS = {name: Encoder(event_type.schema, 1) for name, event_type in event_types().items()}


def line(event_type: Any = "OrderFilled", payload: Any = None, **more: Any) -> bytes:
    record = {
        "event_id": ID,
        "event_type": event_type,
        "timestamp": "2024-01-15T10:00:00.000Z",
        "sequence_num": 12,
        "payload": payload,
        "metadata": {},
    }
    return json.dumps({**record, **more}).encode()


def adapted(event_type: Any, payload: Any = None, *, origin: Origin = ORIGIN, **more: Any) -> Event:
    return trend.from_line(origin, line(event_type, payload, **more), STREAM, 7)


def said(event: Event) -> dict[str, str]:
    """The payload's keys that are there, as text."""
    return {key: str(value) for key, value in event["payload"].items() if value not in (None, [])}


FILL = {"symbol": "BTCUSDT", "side": "BUY", "quantity": 0.001, "price": 42000.5, "fee": 0.02, "order_id": "entry_1"}
PLACED = {"symbol": "ETHUSDT", "side": "SELL", "quantity": 2, "price": 2500, "order_type": "LIMIT"}


@pytest.mark.req("S2-01")
def test_a_fill_is_derived_and_assumed_where_the_ledger_says_nothing() -> None:
    event = adapted("ORDER_FILLED", FILL)
    assert said(event) == {
        "client_order_id": "entry_1",
        "side": "buy",
        "fill_price": "42000.5",
        "fill_qty_base": "0.001",
        "fill_qty_quote": "42.0005",
        "fee_asset": "USDT",
        "fee_amount": "0.02",
        "liquidity_side": "unknown",
    }
    assert sorted(event["assumed"]) == ["fee_asset", "fill_qty_quote", "liquidity_side"]
    assert event["trading_pair"] == "BTC-USDT"
    assert event["extra"] is None


@pytest.mark.req("S2-01")
def test_positions_stamps_and_the_source_are_on_every_event() -> None:
    event = adapted("SystemStarted", {"version": "1"})
    assert (event["source_system"], event["source_id"], event["adapter"]) == ("trend", "ledger-1", "trend@1")
    assert (event["source_stream"], event["source_position"], event["sequence"]) == (STREAM, 7, 12)
    assert (event["legacy"], event["correlation_id"], event["run_id"]) == (True, "", None)
    assert (event["aggregate_type"], event["aggregate_id"], event["aggregate_sequence"]) == (None, None, None)
    assert event["native"] == line("SystemStarted", {"version": "1"})


@pytest.mark.parametrize(
    ("payload", "own", "exchange"),
    [
        ({"order_id": "entry_1"}, "entry_1", None),
        ({"order_id": 8123, "client_order_id": "entry_1"}, "entry_1", "8123"),
        ({"order_id": 8123, "client_order_id": ""}, "8123", None),
        ({"order_id": 8123}, "8123", None),
    ],
)
def test_an_order_id_beside_the_bots_own_is_the_exchanges(payload: dict[str, Any], own: str, exchange: Any) -> None:
    for name in ("ORDER_FILLED", "ORDER_PARTIAL_FILL", "ORDER_CANCELLED", "ORDER_EXPIRED"):
        rest = {key: value for key, value in FILL.items() if key != "order_id"} if name == "ORDER_FILLED" else {}
        event = adapted(name, {"symbol": "BTCUSDT", **rest, **payload})
        assert event["event_type"] == rules("trend")[name].event, event["payload"]
        assert (event["payload"]["client_order_id"], event["payload"]["exchange_order_id"]) == (own, exchange)
        assert event["extra"] is None


@pytest.mark.parametrize(
    ("native", "price", "expected"),
    [
        ("LIMIT", 2500, {"order_type": "limit", "price": "2500"}),
        ("LIMIT_MAKER", 2500, {"order_type": "limit_maker", "price": "2500"}),
        ("MARKET", 2500, {"order_type": "market", "price": "2500"}),
        ("MARKET", 0.0, {"order_type": "market"}),
        ("MARKET", None, {"order_type": "market"}),
        ("STOP_MARKET", 2450, {"order_type": "market", "stop_price": "2450"}),
        ("TAKE_PROFIT_MARKET", 2600, {"order_type": "market", "stop_price": "2600"}),
        ("STOP", 2440, {"order_type": "limit", "price": "2440"}),
        ("STOP", None, {"order_type": "market"}),
        ("OrderType.LIMIT", 2500, {"order_type": "limit", "price": "2500"}),
        ("ICEBERG", 2500, {"order_type": "market", "price": "2500"}),
    ],
)
def test_kinds_of_orders_keep_the_native_word(native: str, price: Any, expected: dict[str, str]) -> None:
    event = adapted("ORDER_PLACED", {**PLACED, "order_type": native, "price": price, "client_order_id": "o"})
    rest = {"client_order_id": "o", "side": "sell", "amount_base": "2", "is_live": "True", "native_order_type": native}
    assert said(event) == rest | expected
    assert event["extra"] is None


def test_a_stop_price_of_its_own_stays_beside_the_price() -> None:
    order = {**PLACED, "order_type": "STOP", "stop_price": 2450, "client_order_id": "o"}
    event = adapted("ORDER_PLACED", order)
    assert (event["payload"]["price"], event["payload"]["stop_price"]) == (Decimal(2500), Decimal(2450))


def test_paper_testnet_and_metadata_say_whether_an_order_is_live() -> None:
    order = {**PLACED, "client_order_id": "o"}
    testnet = Origin("l", "trend1", "binance_testnet", "trend")
    for origin, metadata, environment in (
        (ORIGIN, {}, "live"),
        (testnet, {}, "testnet"),
        (ORIGIN, {"environment": "PAPER"}, "paper"),
    ):
        event = adapted("ORDER_PLACED", order, origin=origin, metadata=metadata)
        assert (event["environment"], event["payload"]["is_live"]) == (environment, environment == "live")


@pytest.mark.parametrize(
    ("bar", "left"),
    [
        ({"open": 1, "high": 4, "low": 0.5, "close": 2, "volume": 10}, None),
        ({"o": 1, "h": 4, "l": 0.5, "c": 2, "v": 10, "trades": 3}, {"ohlcv": {"trades": 3}}),
        ([1, 4, 0.5, 2, 10], None),
        ([1705312800000, 1, 4, 0.5, 2, 10], None),
        ([1705312800000, "1", "4", "0.5", "2", "10", 1705312859999, "9"], {"ohlcv": [1705312859999, "9"]}),
        ({"t": 1705312800000, "Open": "1", "High": "4", "Low": "0.5", "Close": "2", "Volume": "10"}, None),
    ],
)
def test_a_candle_as_object_or_list(bar: Any, left: Any) -> None:
    event = adapted("CANDLE_CLOSE", {"symbol": "BTCUSDT", "interval": "1m", "ohlcv": bar})
    assert event["event_type"] == "market_candle", event["payload"]
    prices = [event["payload"][name] for name in ("open", "high", "low", "close", "volume")]
    assert prices == [Decimal(1), Decimal(4), Decimal("0.5"), Decimal(2), Decimal(10)]
    if isinstance(bar, list) and len(bar) > 5:
        assert event["payload"]["open_ts_utc"] == 1_705_312_800_000_000
    assert (json.loads(event["extra"]) if event["extra"] else None) == left


def test_a_candle_that_is_none_is_rejected_with_its_line() -> None:
    event = adapted("CANDLE_CLOSE", {"symbol": "BTCUSDT", "interval": "1m", "ohlcv": [1, 2]})
    assert event["event_type"] == "unmapped_record"
    assert "missing_payload_key: open" in event["payload"]["error"]
    assert b"[1, 2]" in event["native"]


@pytest.mark.parametrize("reasons", ["too late", ["too late"]])
def test_reasons_as_text_or_list(reasons: Any) -> None:
    event = adapted("RISK_REJECTED", {"symbol": "BTCUSDT", "reasons": reasons})
    assert (event["payload"]["decision"], event["payload"]["reasons"]) == ("rejected", ["too late"])


def test_a_feeds_date_and_one_that_is_none() -> None:
    story = {"source": "wire", "title": "news", "link": "l"}
    for published in ("Mon, 15 Jan 2024 10:00:00 GMT", "2024-01-15T10:00:00Z", 1705312800):
        event = adapted("NEWS_INGESTED", story | {"published": published})
        assert event["payload"]["published_ts_utc"] == 1_705_312_800_000_000
        assert event["extra"] is None
    event = adapted("NEWS_INGESTED", story | {"published": "this morning"})
    assert event["event_type"] == "news_ingested"
    assert json.loads(event["extra"]) == {"published_text": "this morning"}


@pytest.mark.req("S2-04")
@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("SYSTEM_STOPPED", None),
        ("CIRCUIT_BREAKER_TRIGGERED", {}),
        ("ORDER_PARTIAL_FILL", {"symbol": "BTCUSDT"}),
        ("TRADE_PROPOSED", {"symbol": "BTCUSDT"}),
    ],
)
def test_missing_optional_fields_get_defaults(name: str, payload: Any) -> None:
    event = adapted(name, payload, metadata=None)
    assert event["event_type"] == rules("trend")[name].event
    assert said(event) == {}


def test_metadata_goes_to_the_envelope_where_it_has_a_place() -> None:
    metadata = {
        "source": "risk",
        "correlation_id": "c-1",
        "causation_id": "e-0",
        "user_id": "ann",
        "dry_run": True,
        "run_id": "r-9",
        "host": {"name": "a"},
    }
    event = adapted("SYSTEM_STOPPED", {"reason": "x", "metadata": 1}, metadata=metadata, trace="t-1")
    assert (event["source"], event["correlation_id"], event["causation_id"]) == ("risk", "c-1", "e-0")
    assert (event["user_id"], event["dry_run"], event["run_id"]) == ("ann", True, None)
    rest = {"trace": "t-1", "run_id": "r-9", "host": {"name": "a"}}
    assert json.loads(event["extra"]) == {"metadata": 1, "event_metadata": rest}


@pytest.mark.req("P-08", "S2-04")
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"event_id": "5', "not_json"),
        (b"\x00\x00\x00", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"7" * 9_000, "not_json"),
        (b"[1]", "not_an_object"),
        (b"{}", "no trend event type"),
        (line("SystemStarted", [1]), "wrong_type"),
        (line("SystemStarted", {}, timestamp="soon"), "ts_unparseable"),
        (line("SystemStarted", {}, sequence_num="many"), "wrong_type"),
        (line("SystemStarted", {"version": "\ud800"}), "text_invalid"),
        (line("OrderPlaced", {**PLACED, "client_order_id": "o", "quantity": "NaN"}), "number_invalid"),
        (line("OrderPlaced", {**PLACED, "client_order_id": "o", "quantity": 1e30}), "number_out_of_range"),
        (line("OrderPlaced", {**PLACED, "client_order_id": "o", "side": "HOLD"}), "not_in_enumeration"),
        (line("OrderPlaced", PLACED), "missing_payload_key"),
        (line("OrderFilled", {"symbol": "BTCUSDT"}), "missing_payload_key"),
        (line(["SystemStarted"], {}), "no trend event type"),
    ],
)
def test_what_cannot_be_mapped_is_kept_with_the_reason(content: bytes, code: str) -> None:
    event = trend.from_line(ORIGIN, content, STREAM, 7)
    assert event["event_type"] == "unmapped_record"
    assert code in event["payload"]["error"]
    assert event["native"] == content
    assert (event["source_position"], event["payload"]["line"]) == (7, 7)


def test_a_fragment_has_no_position_and_a_long_line_its_length() -> None:
    fragment = trend.from_line(ORIGIN, b'{"event', STREAM, 7, fragment="a last line without an end")
    assert (fragment["source_position"], fragment["payload"]["error"]) == (None, "a last line without an end")
    assert fragment["event_id"] != trend.from_line(ORIGIN, b'{"even', STREAM, 7, fragment="x")["event_id"]
    cut = trend.from_line(ORIGIN, b"x" * 50, STREAM, 7, length=1_000)
    assert (cut["payload"]["native_bytes"], len(cut["native"])) == (1_000, 50)


def test_the_same_line_is_the_same_event() -> None:
    assert adapted("OrderFilled", FILL) == adapted("OrderFilled", FILL)
    without_id = json.dumps({"event_type": "SystemStarted", "timestamp": 1705312800}).encode()
    first = trend.from_line(ORIGIN, without_id, STREAM, 7)
    assert first == trend.from_line(ORIGIN, without_id, STREAM, 7)
    assert first["event_id"] != trend.from_line(ORIGIN, without_id, STREAM, 8)["event_id"]


def test_an_id_that_is_no_uuid_becomes_one_and_is_kept() -> None:
    event = adapted("SystemStarted", {}, event_id="evt-1")
    assert event["native_event_id"] == "evt-1"
    assert event["event_id"] != "evt-1"


TEXTS = st.text(max_size=12) | st.sampled_from(["\ud800", "BTCUSDT", "BUY", "STOP_MARKET", "1e999", "nan"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | TEXTS
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))
KEYS = st.sampled_from(["metadata", "request_id", "extra", "payload", "client_order_id", "stop_price", "published"])
DOCUMENTED = st.sampled_from(
    ["symbol", "side", "quantity", "price", "fee", "order_id", "order_type", "ohlcv", "reasons"]
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "event_id": JSON,
        "event_type": st.sampled_from(sorted(rules("trend"))) | JSON,
        "timestamp": JSON | st.just("2024-01-15T10:00:00Z"),
        "sequence_num": JSON,
        "payload": st.dictionaries(KEYS | DOCUMENTED | TEXTS, JSON, max_size=8) | JSON,
        "metadata": st.dictionaries(st.sampled_from(["source", "user_id", "dry_run", "environment", "x"]), JSON) | JSON,
        "trace": JSON,
    },
)


@pytest.mark.req("P-08", "S2-04")
@given(RECORDS | JSON)
def test_any_json_becomes_an_event_that_can_be_written(record: Any) -> None:
    content = json.dumps(record).encode()
    event = trend.from_line(ORIGIN, content, STREAM, 7)
    assert event["native"] == content
    _ENCODERS[event["event_type"]].encode(event)
    assert trend.from_line(ORIGIN, content, STREAM, 7) == event


@pytest.mark.req("P-08", "S2-04")
@given(st.binary(max_size=200))
def test_any_bytes_become_an_event_that_can_be_written(content: bytes) -> None:
    event = trend.from_line(ORIGIN, content, STREAM, 7)
    assert event["native"] == content
    encoded = _ENCODERS[event["event_type"]].encode(event)
    assert Decoder(event_types()[event["event_type"]].schema).decode(encoded)["native"] == content


@pytest.mark.req("S3-06")
@given(st.sampled_from(sorted(rules("trend"))), st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_no_key_is_dropped(name: str, more: dict[str, int]) -> None:
    payload = {f"{key}!": value for key, value in more.items()}
    event = adapted(name, {**FILL, **PLACED, "client_order_id": "o", **payload})
    if event["event_type"] != "unmapped_record":
        extra = json.loads(event["extra"] or "{}")
        assert {key: extra.get(key) for key in payload} == payload
    assert parse_json(event["native"])["payload"].items() >= payload.items()
