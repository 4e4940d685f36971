"""Quantum's stream entries as canonical events: forms, spellings, derived values, and whatever else may come."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import folding

from tradetape.producers.adapters import quantum
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.quantum_entries import FLOW, EntryId, content, is_stream_name, type_of
from tradetape.producers.events import Event
from tradetape.producers.unmapped import TYPE

ORIGIN = Origin(source_id="redis-1", instance_name="quantum1", connector_name="binance", producer="quantum")
ENTRY = EntryId(1_714_564_800_000, 3)

FILLED = {
    "request_id": "req-1",
    "order_id": "881",
    "fill_id": "f-1",
    "symbol": "BTCUSDT",
    "fill_price": "27000.5",
    "fill_size": "0.25",
    "fees": "2.7",
    "timestamp": "2024-05-01T12:00:00Z",
}


def adapted(stream: str, fields: dict[str, str], origin: Origin = ORIGIN, **more: Any) -> Event:
    encoded = [(name.encode("utf-8", "surrogatepass"), text.encode()) for name, text in fields.items()]
    return quantum.from_entry(origin, stream, ENTRY, encoded, **more)


@pytest.mark.req("S4-01", "S3-10")
def test_a_fill_has_what_the_contract_needs_and_says_what_was_derived() -> None:
    event = adapted("trades.order.filled", FILLED)
    payload = event["payload"]
    assert event["event_type"] == "order_filled"
    assert payload["client_order_id"] == payload["exchange_order_id"] == "881"
    assert payload["fill_qty_quote"] == Decimal("6750.125")
    assert (payload["fee_asset"], payload["fee_amount"]) == ("USDT", Decimal("2.7"))
    assert payload["side"] is None
    assert sorted(event["assumed"]) == ["fee_asset", "fill_qty_quote", "liquidity_side"]
    assert event["source_position"] == (ENTRY.ms << 20) + 3
    assert event["source_stream"] == "trades.order.filled"
    assert event["legacy"] and event["correlation_id"] == ""


@pytest.mark.req("S4-01")
@pytest.mark.parametrize(("connector", "is_live"), [("binance", True), ("binance_paper_trade", False)])
def test_an_order_is_live_where_its_environment_is(connector: str, is_live: bool) -> None:
    origin = Origin(source_id="redis-1", instance_name="q", connector_name=connector, producer="quantum")
    fields = {"order_id": "1", "symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "size": "1", "price": "2.5"}
    event = adapted("trades.order.submitted", fields, origin)
    assert event["payload"]["is_live"] is is_live
    assert (event["payload"]["side"], event["payload"]["order_type"]) == ("sell", "limit")
    assert sorted(event["assumed"]) == ["is_live", "ts_utc"]


@pytest.mark.req("S4-01")
def test_what_is_missing_and_cannot_be_assumed_is_evidence_with_its_reason() -> None:
    event = adapted("trades.order.filled", {name: text for name, text in FILLED.items() if name != "fees"})
    assert event["event_type"] == TYPE
    assert event["payload"]["error"] == "missing_payload_key: fee_amount"
    assert json.loads(event["native"])["fields"]["fill_id"] == "f-1"


@pytest.mark.req("S3-10")
@pytest.mark.parametrize("spelling", ["TradesOrderFilled", "TRADES_ORDER_FILLED", "trades_order_filled"])
def test_spellings_are_one_type(spelling: str) -> None:
    event = adapted(spelling, FILLED)
    assert event["event_type"] == "order_filled"
    assert event["native_type"] == spelling
    assert is_stream_name(spelling)


@pytest.mark.req("S4-01")
@pytest.mark.parametrize(
    "fields",
    [
        FILLED,
        {"payload": json.dumps(FILLED)},
        {"data": json.dumps(FILLED), "event_type": "trades.order.filled"},
        {"event": json.dumps({"event_type": "TradesOrderFilled", "payload": FILLED, "service": "execution_engine"})},
        {"data": json.dumps({"event_id": "e-7", "data": FILLED, "correlation_id": "c-7"})},
        {**FILLED, "event": "trades.order.filled", "publisher": "execution_engine"},
    ],
)
def test_all_forms_of_an_entry_say_the_same(fields: dict[str, str]) -> None:
    event = adapted("trades.order.filled", fields)
    assert event["payload"] == adapted("trades.order.filled", FILLED)["payload"]
    assert event["ts_utc"] == adapted("trades.order.filled", FILLED)["ts_utc"]
    assert event["extra"] is None


@pytest.mark.req("S4-01", "S3-02")
def test_metadata_is_the_envelopes() -> None:
    metadata = {"event_id": "e-1", "correlation_id": "c-1", "causation_id": "e-0", "service": "execution_engine"}
    for fields in (FILLED | metadata, {"payload": json.dumps(FILLED), **metadata, "shard": "7"}):
        event = adapted("trades.order.filled", fields)
        assert event["native_event_id"] == "e-1"
        assert (event["correlation_id"], event["causation_id"]) == ("c-1", "e-0")
        assert event["source"] == "execution_engine"
    assert json.loads(event["extra"]) == {"metadata": {"shard": "7"}}
    nested = adapted("trades.order.filled", FILLED | {"metadata": '{"correlation_id": "c-2", "host": "h"}'})
    assert nested["correlation_id"] == "c-2"
    assert json.loads(nested["extra"]) == {"metadata": {"host": "h"}}


@pytest.mark.req("S4-01")
def test_a_payload_key_is_no_metadata() -> None:
    beat = adapted("system.health.heartbeat", {"service": "risk_kernel", "publisher": "host-1"})
    assert (beat["payload"]["service"], beat["source"]) == ("risk_kernel", "host-1")
    alert = adapted("system.alert.triggered", {"severity": "ERROR", "message": "m", "source": "risk_kernel"})
    assert (alert["payload"]["alert_source"], alert["source"]) == ("risk_kernel", None)


@pytest.mark.req("S4-01")
def test_decisions_and_directions_are_the_contracts() -> None:
    vetoed = adapted("risk.evaluation.complete", {"decision": "VETOED", "veto_reason": "too large"})["payload"]
    assert (vetoed["decision"], vetoed["reasons"]) == ("rejected", ["too large"])
    assert (
        adapted("risk.evaluation.complete", {"decision": "APPROVED", "veto_reason": ""})["payload"]["reasons"] is None
    )
    signal = adapted("signals.advisory.new", {"recommended_action": "NO_SIGNAL", "execution_power": "FULL"})["payload"]
    assert (signal["direction"], signal["action"], signal["execution_power"]) == ("none", "NO_SIGNAL", "FULL")
    request = adapted("trades.request.new", {"direction": "SHORT", "size": "1"})
    assert (request["payload"]["side"], request["extra"]) == ("sell", None)


@pytest.mark.req("S4-11")
@pytest.mark.parametrize(("power", "expected"), [("NONE", []), ("FULL", ["execution_power_not_none"])])
def test_a_signal_with_power_is_found(power: str, expected: list[str]) -> None:
    event = adapted("signals.advisory.new", {"execution_power": power, "recommended_action": "LONG"})
    (output,) = folding.fold([event])
    assert [found["code"] for found in output.audited["findings"] if found["severity"] == "critical"] == expected


@pytest.mark.req("S4-01")
def test_an_entry_without_a_time_has_its_ids() -> None:
    event = adapted("market.tick.price", {"symbol": "ETHUSDT", "price": "1800"})
    assert event["ts_utc"] == ENTRY.ms * 1000
    assert event["assumed"] == ["ts_utc"]
    bad = adapted("market.tick.price", {"symbol": "ETHUSDT", "price": "1800", "timestamp": "soon"})
    assert bad["event_type"] == TYPE and "ts_unparseable" in bad["payload"]["error"]


@pytest.mark.req("S4-01")
def test_an_unknown_stream_of_the_convention_is_evidence() -> None:
    assert is_stream_name("market.depth.update") and not is_stream_name("celery.task") and not is_stream_name("cache")
    event = adapted("market.depth.update", {"bids": "[]"})
    assert event["event_type"] == TYPE
    assert event["ts_utc"] == ENTRY.ms * 1000
    assert event["native_type"] == "market.depth.update"


@pytest.mark.req("S4-01")
def test_ids_that_do_not_fit_a_position_have_none_and_stay_apart() -> None:
    many = [EntryId(5, number) for number in (0, 2**20 - 1, 2**20, 2**20 + 1)] + [EntryId(2**63, 0), EntryId(2**63, 1)]
    placed = [found.position for found in many]
    assert placed == [5 << 20, (6 << 20) - 1, None, None, None, None]
    fields = [(name.encode(), text.encode()) for name, text in FILLED.items()]
    ids = {quantum.from_entry(ORIGIN, "trades.order.filled", each, fields)["event_id"] for each in many}
    assert len(ids) == len(many)


@pytest.mark.req("S4-04")
def test_the_same_entry_has_the_same_event_id_with_and_without_its_place() -> None:
    late = adapted("trades.order.filled", FILLED, placed=False)
    assert late["source_position"] is None
    assert late["event_id"] == adapted("trades.order.filled", FILLED)["event_id"]
    fields = [(name.encode(), text.encode()) for name, text in FILLED.items()]
    refused = quantum.refused(ORIGIN, "trades.order.filled", ENTRY, fields, "KeyError: 'x'")
    assert refused["event_id"] == late["event_id"]
    assert (refused["event_type"], refused["payload"]["error"]) == (TYPE, "KeyError: 'x'")


@pytest.mark.req("S4-01")
def test_a_stream_made_anew_is_another_stream() -> None:
    again = adapted("trades.order.filled", FILLED, generation=1)
    assert again["source_stream"] == "trades.order.filled@1"
    assert again["event_id"] != adapted("trades.order.filled", FILLED)["event_id"]


PATHS = {path for rule in rules("quantum").values() for take in rule.payload.values() for path in take.paths}
WRAPPED = ("payload", "data", "event", "metadata", "event_type", "event_id", "correlation_id", "timestamp", "symbol")
KEYS = st.sampled_from([*sorted(PATHS), *WRAPPED])
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
HOSTILE = st.sampled_from(
    [b"\xff\xfe", b"[" * 5_000, b"9" * 5_000, b"1e999999999", b"-5.2%", b'{"a": "\\ud800"}', b"NaN"]
)
VALUES = st.binary(max_size=40) | st.text(max_size=20).map(str.encode) | JSONS.map(lambda v: json.dumps(v).encode())
FIELDS = st.lists(st.tuples(KEYS.map(str.encode) | st.binary(max_size=8), VALUES | HOSTILE), max_size=8)
IDS = st.builds(EntryId, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))


@pytest.mark.req("S3-10", "P-08")
@settings(max_examples=400)
@given(st.sampled_from([*FLOW, "market.new.thing", "TRADES_ORDER_FILLED"]), IDS, FIELDS)
def test_whatever_an_entry_holds_it_becomes_one_event_with_its_bytes(
    stream: str, entry_id: EntryId, fields: list[tuple[bytes, bytes]]
) -> None:
    event = quantum.from_entry(ORIGIN, stream, entry_id, fields)
    assert event == quantum.from_entry(ORIGIN, stream, entry_id, fields)
    assert event["event_type"] in (TYPE, rules("quantum").get(type_of(stream), rules("quantum")[FLOW[0]]).event)
    assert event["native"] == content(str(entry_id), fields)
    kept = json.loads(event["native"])["fields"]
    for name, value in fields:
        held = kept[name.decode("utf-8", "surrogateescape")]
        texts = held if isinstance(held, list) else [held]
        assert value in [text.encode("utf-8", "surrogateescape") for text in texts]
    folding.encode(event)
    quantum.symbol_of(fields, stream)
