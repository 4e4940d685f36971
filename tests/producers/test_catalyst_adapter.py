"""Catalyst rows as events: what each column and key becomes, and that nothing raises or is dropped."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import fold, open_findings
from tests.producers.catalyst_rows import START, origin, row, uuid
from tests.producers.support import Listed

from tradetape.processors.core import Output
from tradetape.producers import unmapped
from tradetape.producers.adapters import catalyst
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.events import Event
from tradetape.schemas.catalogue import event_types

AAPL = {"ticker": "AAPL", "side": "sell"}
SUBMITTED = {"order_id": "o-1", "ticker": "AAPL", "side": "buy", "quantity": 100, "order_type": "market"}
FILLED = {"order_id": "o-1", "filled_quantity": 100, "filled_price": 150.25}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=True).map(str) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
SURROGATES = st.text(st.characters(codec=None), max_size=20)
CELLS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=20) | SURROGATES
KEYS = sorted(
    {path for rule in rules("catalyst").values() for take in rule.payload.values() for path in take.paths}
    | {"side", "order_type", "action", "reason", "limit", "ticker", "state"}
)


def event(event_type: str, payload: Any = None, related: dict[str, Any] | None = None, **columns: Any) -> Event:
    return catalyst.from_row(origin(), row(event_type, payload, **columns), 7, related)


def accepted(found: Event, event_type: str) -> Event:
    assert found["event_type"] == event_type, found["payload"]
    return found


@pytest.mark.req("S1-01", "S3-10")
@pytest.mark.parametrize(
    "spelling", ["ORDER_FILLED", "OrderFilled", "order_filled", "order.filled", "Order-Filled", "orderFilled"]
)
def test_spellings_of_a_type_are_the_same_type(spelling: str) -> None:
    found = accepted(event(spelling, FILLED, AAPL), "order_filled")
    assert found["native_type"] == spelling


@pytest.mark.req("S1-01")
def test_a_fill_takes_instrument_and_side_from_its_order_and_lists_what_is_assumed() -> None:
    found = accepted(event("ORDER_FILLED", {**FILLED, "fill_time": "2024-10-27T03:33:20"}, AAPL), "order_filled")
    assert found["trading_pair"] == "AAPL-USD"
    payload = found["payload"]
    assert (payload["client_order_id"], payload["side"]) == ("o-1", "sell")
    assert (payload["fill_price"], payload["fill_qty_base"]) == (Decimal("150.25"), Decimal(100))
    assert payload["fill_qty_quote"] == Decimal("15025")
    assert (payload["fee_asset"], payload["fee_amount"], payload["liquidity_side"]) == ("USD", 0, "unknown")
    assert payload["executed_ts_utc"] == 1_730_000_000_000_000
    assert sorted(found["assumed"]) == ["fee_amount", "fee_asset", "fill_qty_quote", "liquidity_side"]
    assert found["extra"] is None


def test_a_fee_that_a_bot_writes_is_taken_as_it_is() -> None:
    found = event("ORDER_FILLED", {**FILLED, "commission": 0.35, "liquidity": "MAKER"}, AAPL)
    assert found["payload"]["fee_amount"] == Decimal("0.35")
    assert found["payload"]["liquidity_side"] == "maker"
    assert "fee_amount" not in found["assumed"]


@pytest.mark.req("S1-01")
def test_a_fill_whose_order_is_nowhere_is_kept_with_the_reason() -> None:
    found = event("ORDER_FILLED", FILLED)
    assert found["event_type"] == unmapped.TYPE
    assert "trading_pair" in found["payload"]["error"]
    assert json.loads(found["native"])["event_log"]["payload"] == json.dumps(FILLED)
    assert (found["aggregate_id"], found["aggregate_sequence"]) == ("a-1", 1)
    assert found["source_position"] == 7


@pytest.mark.parametrize(
    ("native", "order_type", "word"),
    [
        ("market", "market", None),
        ("LIMIT", "limit", None),
        ("stop", "market", "stop"),
        ("stop_limit", "limit", "stop_limit"),
        ("Stop-Limit", "limit", "Stop-Limit"),
        ("trailing_stop", "market", "trailing_stop"),
    ],
)
def test_order_types_are_canonical_and_keep_the_bots_word(native: str, order_type: str, word: str | None) -> None:
    payload = {**SUBMITTED, "order_type": native, "limit_price": 150, "stop_price": "149.5"}
    found = accepted(event("ORDER_SUBMITTED", payload), "order_created")["payload"]
    assert (found["order_type"], found["native_order_type"]) == (order_type, word)
    assert (found["price"], found["stop_price"]) == (Decimal(150), Decimal("149.5"))


def test_an_order_without_a_type_is_assumed_to_be_a_market_order() -> None:
    found = accepted(event("ORDER_SUBMITTED", {**SUBMITTED, "order_type": None}), "order_created")
    assert found["payload"]["order_type"] == "market"
    assert "order_type" in found["assumed"]


@pytest.mark.parametrize("side", ["BUY", "long", "buy_to_cover", "BuyToOpen"])
def test_sides_are_canonical(side: str) -> None:
    assert accepted(event("ORDER_SUBMITTED", {**SUBMITTED, "side": side}), "order_created")["payload"]["side"] == "buy"


def test_a_side_that_says_neither_is_not_guessed() -> None:
    found = event("ORDER_SUBMITTED", {**SUBMITTED, "side": "close"})
    assert found["event_type"] == unmapped.TYPE
    assert "side" in found["payload"]["error"]


def test_paper_trading_is_not_live() -> None:
    paper = catalyst.from_row(origin(environment="paper"), row("ORDER_SUBMITTED", SUBMITTED), 1)
    assert (paper["environment"], paper["payload"]["is_live"]) == ("paper", False)
    assert "is_live" in paper["assumed"]


def test_a_plain_sell_signal_points_nowhere_and_keeps_its_action() -> None:
    payload = {"signal_id": "s", "ticker": "AAPL"}
    found = {a: event("SIGNAL_GENERATED", {**payload, "action": a}) for a in ("buy", "sell", "short", "hold")}
    assert [found[action]["payload"]["direction"] for action in found] == ["long", None, "short", "none"]
    assert [found[action]["payload"]["action"] for action in found] == list(found)


@pytest.mark.req("S1-03")
def test_metadata_goes_to_the_envelope() -> None:
    metadata = {
        "source": "order_executor",
        "version": "1.0",
        "correlation_id": "sig_123",
        "causation_id": uuid("cause"),
        "user_id": "kim",
        "host": "box-1",
    }
    found = event("ORDER_SUBMITTED", SUBMITTED, metadata=json.dumps(metadata))
    assert (found["source"], found["source_version"]) == ("order_executor", "1.0")
    assert (found["correlation_id"], found["causation_id"]) == ("sig_123", uuid("cause"))
    assert found["user_id"] == "kim"
    assert json.loads(found["extra"]) == {"metadata": {"host": "box-1"}}


@pytest.mark.req("S1-03", "S3-03")
@pytest.mark.parametrize("metadata", [None, "", "{}", "null"])
def test_without_metadata_the_correlation_stays_empty_and_is_said_to_be_none(metadata: str | None) -> None:
    found = event("POSITION_PRICE_UPDATED", {"new_price": 1}, metadata=metadata)
    assert found["correlation_id"] == ""
    verdict = fold([found])[0].audited
    assert verdict["link"] == "unresolved", "the position that it names is not on record"
    assert verdict["correlation_id"] == found["event_id"]


def test_metadata_that_is_no_json_is_kept_and_hides_nothing() -> None:
    found = accepted(event("POSITION_PRICE_UPDATED", {"new_price": 1}, metadata="{broken"), "position_priced")
    assert json.loads(found["extra"]) == {"metadata": "{broken"}


@pytest.mark.req("S1-02")
def test_aggregate_columns_and_created_at_become_envelope_fields() -> None:
    found = event("POSITION_PRICE_UPDATED", {"new_price": 1}, sequence_number=5)
    assert (found["aggregate_type"], found["aggregate_id"], found["aggregate_sequence"]) == ("position", "a-1", 5)
    assert found["ts_utc"] == START * 1000
    assert (found["event_id"], found["source_stream"], found["source_position"]) == (
        uuid("POSITION_PRICE_UPDATED"),
        "event_log",
        7,
    )
    assert found["payload"]["position_id"] == "a-1"
    assert event("POSITION_PRICE_UPDATED", {"new_price": 1}, sequence_number=None)["aggregate_sequence"] is None


@pytest.mark.req("S1-02")
def test_gaps_repeats_and_regressions_of_an_aggregate_are_found() -> None:
    def numbered(numbers: list[int]) -> list[Event]:
        return [
            catalyst.from_row(
                origin(),
                row("POSITION_PRICE_UPDATED", {"new_price": 1}, event_id=uuid(at), sequence_number=number),
                at,
            )
            for at, number in enumerate(numbers)
        ]

    def numbers_of(outputs: list[Output]) -> dict[str, int]:
        return {code: count for code, count in open_findings(outputs).items() if code.startswith("sequence")}

    assert numbers_of(fold(numbered([1, 2, 4, 5]))) == {"sequence_gap": 1}
    assert numbers_of(fold(numbered([1, 2, 2, 3]))) == {"sequence_repeated": 1}
    regressed = fold(numbered([1, 3, 2, 4]))
    assert numbers_of(regressed) == {}
    assert "sequence_regressed" in {found["code"] for output in regressed for found in output.audited["findings"]}


@pytest.mark.req("S1-07")
def test_a_snapshot_names_the_last_event_included() -> None:
    snapshot = {
        "snapshot_id": "snap-1",
        "aggregate_type": "position",
        "aggregate_id": "p-1",
        "state": '{"status": "open", "price": 150.10}',
        "last_event_id": uuid("last"),
        "last_sequence_number": 12,
        "created_at": START,
    }
    found = accepted(catalyst.from_snapshot(origin(), snapshot), "entity_snapshot")
    assert found["payload"] == {
        "state": '{"status":"open","price":"150.1"}',
        "last_event_id": uuid("last"),
        "last_sequence": 12,
        "snapshot_id": "snap-1",
    }
    assert (found["aggregate_type"], found["aggregate_id"], found["aggregate_sequence"]) == ("position", "p-1", None)
    assert (found["source_stream"], found["source_position"]) == ("event_snapshots", None)
    assert catalyst.from_snapshot(origin(), snapshot)["event_id"] == found["event_id"]
    later = catalyst.from_snapshot(origin(), snapshot | {"last_sequence_number": 13})
    assert later["event_id"] != found["event_id"]


@pytest.mark.req("S1-01")
def test_risk_types_say_by_their_name_what_they_mean() -> None:
    passed = accepted(event("RISK_CHECK_PASSED", {"check": "size"}), "risk_evaluated")["payload"]
    failed = accepted(event("RISK_CHECK_FAILED", {"reason": "too big"}), "risk_evaluated")["payload"]
    assert (passed["decision"], passed["check"]) == ("approved", "size")
    assert (failed["decision"], failed["reasons"]) == ("rejected", ["too big"])
    warned = accepted(event("DAILY_LOSS_LIMIT_WARNING", {"value": -3, "limit": -5}), "risk_limit_reached")["payload"]
    assert (warned["limit"], warned["level"], warned["value"], warned["threshold"]) == ("daily_loss", "warning", -3, -5)
    other = accepted(event("RISK_LIMIT_EXCEEDED", {"limit": "sector"}), "risk_limit_reached")["payload"]
    assert (other["limit"], other["level"], other["threshold"]) == ("sector", "exceeded", None)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"payload": '{"new_price": 1'}, "not_json"),
        ({"payload": "[1]"}, "not_an_object"),
        ({"payload": b"\xff\x00"}, "not_json"),
        ({"event_type": "SOMETHING_NEW"}, "SOMETHING_NEW"),
        ({"event_type": None}, "None"),
        ({"created_at": "yesterday"}, "ts_unparseable"),
        ({"created_at": 5}, "ts_unparseable"),
        ({"sequence_number": "three"}, "wrong_type"),
        ({"payload": '{"new_price": NaN}'}, "number_invalid"),
        ({"payload": '{"new_price": 1e400}'}, "number_out_of_range"),
        ({"aggregate_id": "\udcff"}, "text_invalid"),
    ],
)
def test_what_cannot_be_mapped_keeps_its_bytes_and_says_why(columns: dict[str, Any], reason: str) -> None:
    values = row("POSITION_PRICE_UPDATED", {"new_price": 1}) | columns
    found = catalyst.from_row(origin(), values, 7)
    assert found["event_type"] == unmapped.TYPE
    assert reason in found["payload"]["error"]
    Listed().emit(found, unmapped.TYPE)
    (verdict,) = fold([found])
    assert list(verdict.audited["reasons"]) == ["unmapped"]


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(rules("catalyst"))),
    st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), VALUES, max_size=6),
    st.dictionaries(st.sampled_from(["metadata", "created_at", "sequence_number", "aggregate_id", "event_id"]), CELLS),
    st.dictionaries(st.sampled_from(["ticker", "side"]), st.text(max_size=5)),
)
@pytest.mark.req("S3-10", "P-08")
def test_whatever_the_row_it_becomes_one_event_that_encodes_and_loses_no_key(
    event_type: str, payload: dict[str, Any], columns: dict[str, Any], related: dict[str, Any]
) -> None:
    values = row(event_type, payload) | columns
    found = catalyst.from_row(origin(), values, 3, related)
    assert found == catalyst.from_row(origin(), values, 3, related)
    Listed().emit(found, found["event_type"])
    kept = json.loads(found["native"])["event_log"]
    assert kept.keys() == values.keys()
    assert kept["payload"] == values["payload"]
    (verdict,) = fold([found])
    accepted_type = found["event_type"] != unmapped.TYPE
    assert verdict.audited["disposition"] == ("accepted" if accepted_type else "rejected")
    if accepted_type:
        assert found["payload"].keys() == event_types()[found["event_type"]].payload_keys


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["event_type", "payload", "metadata", "created_at"]) | st.text(), CELLS))
@pytest.mark.req("P-08")
def test_any_cells_in_any_columns_become_evidence(values: dict[str, Any]) -> None:
    for found in (catalyst.from_row(origin(), values, 1), catalyst.from_snapshot(origin(), values)):
        Listed().emit(found, found["event_type"])
        catalyst.opener(values)
        catalyst.opening(values)
