"""The table-driven engine: values from native forms, nothing dropped, nothing raised."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers.adapters import mapping
from tradetape.producers.adapters.coerce import coerce
from tradetape.producers.adapters.mapping import Adapter, Native, Rule, Take
from tradetape.producers.adapters.native import moment, parse_json
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.unmapped import TYPE
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.fields import Field
from tradetape.schemas.instruments import Instruments, split

ORIGIN = Origin(source_id="store-1", instance_name="bot", connector_name="binance", producer="trend")
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
JSON_TEXT = {"type": "string", "logicalType": "json"}


def table(**rules: dict[str, Any]) -> dict[str, Rule]:
    return {
        name: Rule(
            event=rule["event"],
            by_outcome=rule.get("by_outcome", {}),
            payload={key: Take.of(spec) for key, spec in rule.get("payload", {}).items()},
            envelope={key: Take.of(spec) for key, spec in rule.get("envelope", {}).items()},
        )
        for name, rule in rules.items()
    }


@pytest.fixture(autouse=True)
def _rules(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = table(
        PLACED={
            "event": "order_created",
            "by_outcome": {"refused": "order_failed"},
            "payload": {
                "client_order_id": ["own_id", "order_id"],
                "amount_base": "quantity",
                "side": "context.action",
                "is_live": {"is": True},
                "order_type": {"from": "type", "assume": "market"},
                "amount_quote": {"as": "notional", "derived": True},
                "error_message": {"from": "why", "assume": "refused"},
            },
            "envelope": {"trading_pair": "symbol", "outcome_reason": "why"},
        },
        BEAT={"event": "heartbeat"},
    )
    monkeypatch.setattr(mapping, "rules", lambda system: rules)


def notional(native: Native, _: Origin) -> Decimal | None:
    price, quantity = native.payload.get("price"), native.payload.get("quantity")
    return price * quantity if isinstance(price, Decimal) and isinstance(quantity, Decimal) else None


ADAPTER = Adapter("trend", 3, {"notional": notional})


def native(payload: dict[str, Any], kind: str = "PLACED", **envelope: Any) -> Native:
    return Native(
        kind, kind.title(), payload, {"ts_utc": "2024-05-01T12:00:00Z", **envelope}, b"as it was", "ledger", 7
    )


PLACED = {
    "order_id": 12345,
    "symbol": "BTCUSDT",
    "quantity": Decimal("0.5"),
    "price": Decimal("27000.5"),
    "type": "LIMIT",
    "context": {"action": "SELL", "desk": "a"},
}


@pytest.mark.req("S3-10")
def test_a_record_becomes_a_typed_event() -> None:
    event = ADAPTER.to_event(native(PLACED), ORIGIN)
    assert event["event_type"] == "order_created"
    assert event["trading_pair"] == "BTC-USDT"
    payload = event["payload"]
    assert (payload["client_order_id"], payload["side"], payload["order_type"]) == ("12345", "sell", "limit")
    assert (payload["amount_base"], payload["amount_quote"]) == (Decimal("0.5"), Decimal("13500.25"))
    assert event["assumed"] == ["amount_quote"]
    assert json.loads(event["extra"]) == {"context": {"action": "SELL", "desk": "a"}}
    assert (event["adapter"], event["native_type"], event["native"]) == ("trend@3", "Placed", b"as it was")
    assert (event["source_id"], event["source_stream"], event["source_position"]) == ("store-1", "ledger", 7)


@pytest.mark.req("S3-10")
def test_what_is_missing_is_assumed_where_the_table_says_so() -> None:
    payload = {key: value for key, value in PLACED.items() if key not in ("type", "price")}
    event = ADAPTER.to_event(native(payload), ORIGIN)
    assert (event["payload"]["order_type"], event["assumed"]) == ("market", ["order_type"])


@pytest.mark.req("S3-10")
def test_an_outcome_chooses_the_event_and_names_it_does_not_have_are_skipped() -> None:
    event = ADAPTER.to_event(native({**PLACED, "why": "no cash"}, outcome="refused"), ORIGIN)
    assert (event["event_type"], event["outcome"], event["outcome_reason"]) == ("order_failed", "refused", "no cash")
    assert event["payload"]["error_message"] == "no cash"
    assert json.loads(event["extra"])["quantity"] == "0.5"


@pytest.mark.req("S3-06", "S3-10")
def test_a_native_key_with_the_name_of_a_canonical_one_is_kept_beside_it() -> None:
    event = ADAPTER.to_event(native({**PLACED, "amount_base": Decimal("0.7")}), ORIGIN)
    assert event["payload"]["amount_base"] == Decimal("0.5")
    assert json.loads(event["extra"])["native_amount_base"] == "0.7"


@pytest.mark.req("S0-02", "P-02")
def test_a_dry_run_is_never_live() -> None:
    for said, environment, assumed in ((True, "paper", True), ("true", "paper", True), (False, "live", False)):
        event = ADAPTER.to_event(native(PLACED, dry_run=said), ORIGIN)
        assert (event["environment"], "environment" in event["assumed"]) == (environment, assumed)
    assert ADAPTER.to_event(native(PLACED, dry_run=True, environment="testnet"), ORIGIN)["environment"] == "testnet"


@pytest.mark.req("S3-05", "S3-10")
@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (native({}, "IMAGINED"), "no trend event type 'Imagined'"),
        (native({key: value for key, value in PLACED.items() if key != "order_id"}), "missing_payload_key"),
        (native({**PLACED, "quantity": "much"}), "number_invalid"),
        (native(PLACED, ts_utc="yesterday"), "ts_unparseable"),
        (Native("PLACED", "Placed", {}, {}, b"{", "ledger", 8, problem="the payload is no JSON"), "is no JSON"),
    ],
)
def test_what_cannot_be_mapped_keeps_its_bytes(record: Native, problem: str) -> None:
    event = ADAPTER.to_event(record, ORIGIN)
    assert event["event_type"] == TYPE
    assert problem in event["payload"]["error"]
    assert event["native"] == record.content
    assert (event["instance_name"], event["source_position"]) == ("bot", record.position)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
_KEYS = st.sampled_from([*PLACED, "own_id", "why", "service", "metrics", "last_activity_ts_utc"]) | st.text(max_size=5)


@pytest.mark.req("S3-10", "P-08")
@given(st.sampled_from(["PLACED", "BEAT", "OTHER"]), st.dictionaries(_KEYS, _JSON, max_size=8), _JSON)
def test_any_record_becomes_an_event_and_the_same_one_again(kind: str, payload: dict[str, Any], when: Any) -> None:
    record = native(payload, kind, ts_utc=when, outcome=when, sequence=when)
    event = ADAPTER.to_event(record, ORIGIN)
    assert event["native"] == b"as it was"
    assert ADAPTER.to_event(record, ORIGIN) == event
    if event["event_type"] != TYPE:
        kept = set(json.loads(event["extra"] or "{}")) | event_types()[event["event_type"]].payload_keys
        moved = {"own_id", "order_id", "quantity", "type", "why", "symbol"}
        assert payload.keys() - moved <= kept


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        ("8.50", {"type": DECIMAL}, "8.50"),
        (12, {"type": "string"}, "12"),
        (Decimal("1.50"), {"type": ["null", "string"]}, "1.5"),
        (True, {"type": "string"}, "true"),
        ("TRUE", {"type": "boolean"}, True),
        (0, {"type": "boolean"}, False),
        (2, {"type": "boolean"}, 2),
        ("7", {"type": "long"}, 7),
        ("7.5", {"type": "long"}, "7.5"),
        ("", {"type": ["null", DECIMAL]}, None),
        ("null", {"type": ["null", "long"]}, None),
        ("", {"type": "string"}, ""),
        ("LONG", {"type": "string", "enum": ["long", "short"]}, "long"),
        ("Sideways", {"type": "string", "enum": ["long", "short"]}, "Sideways"),
        ('["a", 1]', {"type": {"type": "array", "items": "string"}}, ["a", "1"]),
        ('{"a": 1.10}', {"type": JSON_TEXT}, {"a": Decimal("1.10")}),
        ("{broken", {"type": JSON_TEXT}, "{broken"),
        ("none", {"type": ["null", JSON_TEXT]}, "none"),
        ("NaN", {"type": ["null", DECIMAL]}, "NaN"),
        (1714564800, {"type": MICROS}, "2024-05-01T12:00:00.000000Z"),
    ],
)
def test_values_become_what_the_schema_asks_for(value: Any, declared: dict[str, Any], expected: Any) -> None:
    assert coerce(value, Field.of({"name": "x", **declared})) == expected


NOON = "2024-05-01T12:00:00.000000Z"


@pytest.mark.parametrize(
    "value",
    [
        "2024-05-01T12:00:00Z",
        "2024-05-01T12:00:00.000",
        "2024-05-01 14:00:00+02:00",
        1714564800,
        "1714564800",
        1714564800000,
        Decimal("1714564800.0"),
        1714564800000000,
        1714564800000000000,
        datetime(2024, 5, 1, 12, tzinfo=UTC),
        datetime(2024, 5, 1, 12),
        datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_every_native_form_of_a_time(value: Any) -> None:
    assert moment(value) == NOON


@given(_JSON)
def test_what_is_no_time_is_left_to_the_rules(value: Any) -> None:
    found = moment(value)
    assert found is value or isinstance(found, str)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": 1e999999999}', b"\xff\xfe"])
def test_bad_json_is_one_error(text: str | bytes) -> None:
    try:
        parse_json(text)
    except ValueError:
        return
    assert text == '{"a": 1e999999999}'


@pytest.mark.req("P-02")
@pytest.mark.parametrize(
    ("symbol", "quote", "pair"),
    [
        ("BTCUSDT", "", "BTC-USDT"),
        ("BTC-USDT", "", "BTC-USDT"),
        ("btc/usdt", "", "BTC-USDT"),
        ("ETHBTC", "", "ETH-BTC"),
        ("BTCFDUSD", "", "BTC-FDUSD"),
        ("QQQ", "USD", "QQQ-USD"),
        ("TUSD", "USD", "TUSD-USD"),
        ("USDT", "", "USDT"),
        ("XAU", "", "XAU"),
        ("", "USD", ""),
        ("GOLD", "", "XAU-USD"),
        ("BRK-B", "USD", "BRK.B-USD"),
        ("BTC/USD", "USD", "BTC-USD"),
        ("BATUSD", "", "BAT-USD"),
        ("XBTUSD", "", "XBT-USD"),
        ("BNBUSD", "", "BNB-USD"),
        ("ADABUSD", "", "ADA-BUSD"),
        ("ZZTUSD", "", "ZZTUSD"),
        ("BTCUSD_PERP", "", "BTC_PERP-USD"),
        ("BTCUSDT_240329", "", "BTC_240329-USDT"),
        ("BTC-USDT-SWAP", "", "BTC_SWAP-USDT"),
        ("BTC/USDT:USDT", "", "BTC:USDT-USDT"),
        ("BTC/USDT:USDT-240329", "", "BTC:USDT_240329-USDT"),
    ],
)
def test_symbols_become_pairs(symbol: str, quote: str, pair: str) -> None:
    assert Instruments({"GOLD": "XAU-USD"}, quote).pair(symbol) == pair


def test_a_pair_has_base_and_quote() -> None:
    assert split("BTC-USDT") == ("BTC", "USDT")
    assert split("XAU") == ("XAU", "")


def test_a_type_that_cannot_be_written_still_gets_an_id() -> None:
    event = ADAPTER.to_event(native({}, kind="\ud800", event_id=""), ORIGIN)
    assert event["event_type"] == TYPE
    assert event["event_id"]


def test_what_the_reader_says_is_wrong_goes_before_an_unknown_type() -> None:
    broken = Native("", "", {}, {}, b"{", "rows", 1, problem="not_json: cut off")
    assert ADAPTER.to_event(broken, ORIGIN)["payload"]["error"] == "not_json: cut off"


@pytest.mark.parametrize("text", ["1e999999999", "-1e999999", "1e-999999999"])
def test_a_number_beyond_all_times_is_none_of_them(text: str) -> None:
    assert moment(Decimal(text)) == Decimal(text)
