"""Reading canonical JSON: every rule of S3-05, and nothing that raises."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schemas import examples

from tradetape.schemas import codec, envelope_json, identity, rules
from tradetape.schemas.catalogue import event_types

GOOD: dict[str, Any] = examples.load("order_created")["valid"][0]["event"]


def read(event: Any, **more: Any) -> envelope_json.Reading:
    content = event if isinstance(event, bytes) else json.dumps(event).encode()
    return envelope_json.read(content, source_id="s", **more)


def codes(event: Any, **more: Any) -> list[str]:
    return [violation.code for violation in read(event, **more).violations]


@pytest.mark.req("S3-01", "S3-05")
@pytest.mark.parametrize("name", [name for name in rules.REQUIRED_KEYS if name != "correlation_id"])
def test_every_key_of_the_envelope_must_be_there(name: str) -> None:
    assert "missing_field" in codes({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.req("S3-05")
@pytest.mark.parametrize("name", rules.SCOPES["order"])
def test_what_the_scope_needs_must_not_be_empty(name: str) -> None:
    assert codes({**GOOD, name: ""}) == ["empty_field"]
    assert codes({**GOOD, name: None}) == ["empty_field"]


@pytest.mark.req("S3-05")
def test_what_the_scope_does_not_need_may_be_empty() -> None:
    decision = examples.load("risk_decision")["valid"][1]["event"]
    assert codes({**decision, "connector_name": "", "trading_pair": "", "controller_id": ""}) == []
    assert codes({**GOOD, "controller_id": ""}) == []


@pytest.mark.req("S3-01")
def test_native_ids_become_uuids_and_stay() -> None:
    for uuid in ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "0190b1f2-7d2a-7000-8000-000000000000"):
        assert read({**GOOD, "event_id": uuid}).event["event_id"] == uuid
    event = read({**GOOD, "event_id": "evt-17", "correlation_id": "evt-17"}).event
    assert event["event_id"] == identity.derive("s", "envelope", "evt-17")
    assert event["native_event_id"] == "evt-17"
    assert event["correlation_id"] == "evt-17"


@pytest.mark.req("S3-03")
def test_a_missing_correlation_id_needs_a_legacy_source() -> None:
    without = {key: value for key, value in GOOD.items() if key != "correlation_id"}
    for event in (without, {**GOOD, "correlation_id": ""}, {**GOOD, "correlation_id": None}):
        assert codes(event) == ["missing_correlation_id"]
        reading = read(event, legacy=True)
        assert reading.ok
        assert (reading.event["correlation_id"], reading.event["legacy"]) == ("", True)


@pytest.mark.req("S3-05")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T12:00:00Z", []),
        ("2024-05-01T12:00:00.123456+00:00", []),
        ("2024-05-01 12:00:00+00:00", []),
        ("2024-05-01T12:00:00", ["ts_not_utc"]),
        ("2024-05-01T12:00:00+01:00", ["ts_not_utc"]),
        ("1999-12-31T23:59:59Z", ["ts_out_of_range"]),
        ("2100-01-01T00:00:00Z", ["ts_out_of_range"]),
        ("2024-13-01T12:00:00Z", ["ts_unparseable"]),
        ("", ["ts_unparseable"]),
        (1714564800, ["ts_unparseable"]),
        (None, ["ts_unparseable"]),
    ],
)
def test_times(text: object, expected: list[str]) -> None:
    assert codes({**GOOD, "ts_utc": text}) == expected


@pytest.mark.req("S3-04", "S3-05")
@pytest.mark.parametrize("name", [name for name, kind in event_types().items() if name != "unmapped_record"])
def test_required_keys_and_enumerations_of_every_type(name: str) -> None:
    event = examples.load(name)["valid"][0]["event"]
    for key in event_types()[name].required:
        assert codes({**event, "payload": {**event["payload"], key: None}}) == ["missing_payload_key"]
    for key in event_types()[name].enumerations:
        assert "not_in_enumeration" in codes({**event, "payload": {**event["payload"], key: "elsewhere"}})
    assert codes({**event, "payload": None}) == ["wrong_type"]


@pytest.mark.req("S3-04")
def test_the_payloads_of_the_document() -> None:
    required = {
        "order_created": {"client_order_id", "side", "order_type", "amount_base", "is_live"},
        "order_cancelled": {"client_order_id"},
        "order_failed": {"error_message"},
        "order_filled": {
            "client_order_id",
            "fill_price",
            "fill_qty_base",
            "fill_qty_quote",
            "fee_asset",
            "fee_amount",
            "liquidity_side",
        },
        "risk_decision": {"approved", "decision", "reason"},
        "state_snapshot": {"state"},
    }
    optional = {
        "order_created": {"price", "amount_quote"},
        "order_cancelled": {"reason", "cancel_source"},
        "order_failed": {"client_order_id", "error_code", "failure_stage"},
        "order_filled": {"fill_id"},
        "risk_decision": {"max_notional_quote", "policy_name"},
        "state_snapshot": {"regime", "net_edge_pct", "spread_pct", "base_pct", "target_base_pct", "equity_quote"},
    }
    for name, keys in required.items():
        assert set(event_types()[name].required) == keys
        assert optional[name] <= event_types()[name].payload_keys
    assert event_types()["order_created"].enumerations["side"] == {"buy", "sell"}
    assert event_types()["order_created"].enumerations["order_type"] == {"limit", "market", "limit_maker"}
    assert event_types()["risk_decision"].enumerations["decision"] == {"allow", "soft_pause", "hard_stop", "reduce"}
    assert event_types()["state_snapshot"].enumerations["state"] == {"running", "soft_pause", "hard_stop"}
    assert event_types()["order_cancelled"].enumerations["cancel_source"] == {"strategy", "risk", "ops", "exchange"}
    assert event_types()["order_failed"].enumerations["failure_stage"] == {"create", "cancel", "update"}
    assert event_types()["order_filled"].enumerations["liquidity_side"] == {"maker", "taker", "unknown"}


@pytest.mark.req("S3-06")
def test_additional_payload_keys_are_kept() -> None:
    reading = read({**GOOD, "payload": {**GOOD["payload"], "leverage": 5, "nested": {"a": [1, "x"]}, "ratio": 0.1}})
    assert reading.ok
    assert json.loads(reading.event["extra"]) == {"leverage": 5, "nested": {"a": [1, "x"]}, "ratio": "0.1"}


def test_numbers_are_exact_and_rounding_is_recorded() -> None:
    content = json.dumps({**GOOD, "payload": {**GOOD["payload"], "price": 0}}).replace('"price": 0', '"price": 0.1')
    assert read(content.encode()).event["payload"]["price"] == Decimal("0.1")
    fine = read({**GOOD, "payload": {**GOOD["payload"], "price": "0.1234567890123456785"}})
    assert fine.event["precision_rounded"] == ["price"]
    assert fine.event["payload"]["price"] == Decimal("0.123456789012345678")


@pytest.mark.req("S3-06")
def test_additional_keys_of_records_in_lists_are_kept_in_their_place() -> None:
    fill = examples.load("order_filled")["valid"][0]["event"]
    fees = [{"asset": "BNB", "amount": "1"}, {"asset": "KCS", "amount": "2", "tier": "vip"}]
    event = read({**fill, "payload": {**fill["payload"], "other_fees": fees}}).event
    assert json.loads(event["extra"])["other_fees"] == [{}, {"tier": "vip"}]
    levels = [{"level": 1, "note": "first"}]
    checked = examples.load("position_checked")["valid"][0]["event"]
    context = {"position": {"pyramid_levels": levels}}
    event = read({**checked, "payload": {**checked["payload"], "context": context}}).event
    assert json.loads(event["extra"])["context"]["position"]["pyramid_levels"] == [{"note": "first"}]


@pytest.mark.req("S0-02", "P-02")
def test_a_dry_run_without_an_environment_is_not_live() -> None:
    assert read({**GOOD, "dry_run": True}).event["environment"] == "paper"
    assert read({**GOOD, "dry_run": False}).event["environment"] == "live"


@pytest.mark.req("P-08")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b"7", "not_an_object"),
        (b"[" * 100_000, "not_json"),
        (b'{"a":' * 100_000, "not_json"),
        (b"1" * 5000, "not_json"),
        (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "not_json"),
        (b'{"a": 1e999999999999999999999}', "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"x" * (envelope_json.MAX_LINE_BYTES + 1), "line_too_long"),
    ],
)
def test_poison(content: bytes, expected: str) -> None:
    assert codes(content) == [expected]


def nested(depth: int) -> Any:
    deep: Any = '"[[['
    for _ in range(depth):
        deep = [deep, {}]
    return {**GOOD, "payload": {**GOOD["payload"], "deep": deep}}


@pytest.mark.req("P-08")
def test_nesting_has_a_limit_of_its_own() -> None:
    most = envelope_json.MAX_NESTING - 3
    assert codes(nested(most)) == []
    (found,) = read(nested(most + 1)).violations
    assert found == ("not_json", "nested deeper than 200")
    assert codes(json.dumps(nested(most)).encode("utf-16")) == []
    assert codes(json.dumps(nested(most + 1)).encode("utf-16")) == ["not_json"]


@pytest.mark.req("P-08", "P-06")
@pytest.mark.parametrize("depth", [100, 700, 930, 975, 5000])
@pytest.mark.parametrize("content", [b'{"extra":%s}', b'{"payload":%s}', b"%s"])
def test_a_verdict_does_not_depend_on_what_is_on_the_stack(content: bytes, depth: int) -> None:
    def below(frames: int) -> list[rules.Violation]:
        return below(frames - 1) if frames else read(content % (b"[" * depth + b"]" * depth)).violations

    assert below(0) == below(100)


@pytest.mark.req("P-08")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"9" * 5000, "a number that cannot be read"),
        (b'{"a": 1e999999999999999999999}', "a number that cannot be read"),
        (b"\xff", "byte 0 is not utf-8"),
        (b'{"a":\n 1 "b"}', "at line 2, column 4"),
    ],
)
def test_why_a_line_is_no_json_is_worded_here(content: bytes, said: str) -> None:
    assert read(content).violations == [("not_json", said)]


def test_depth_in_memory_has_the_same_limit() -> None:
    for depth, expected in ((150, []), (250, ["not_json"]), (5_000, ["not_json"])):
        found = envelope_json.read_document(nested(depth), source_id="s").violations
        assert [violation.code for violation in found] == expected


@pytest.mark.req("P-08")
def test_texts_that_identify_have_a_bound() -> None:
    assert codes({**GOOD, "producer": "x" * 1_024}) == []
    assert codes({**GOOD, "producer": "x" * 1_025}) == ["text_too_long"]
    assert codes({**GOOD, "payload": {**GOOD["payload"], "client_order_id": "x" * 1_025}}) == ["text_too_long"]


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2)
    | st.sampled_from(["NaN", "Infinity", "-0", "1e400", "1" * 500, "2024-05-01T12:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = [*rules.REQUIRED_KEYS, "environment", "sequence", "dry_run", "extra", "native", "legacy"]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    name, example = draw(st.sampled_from(examples.cases("valid")))
    event = {**example["event"], "payload": dict(example["event"]["payload"])}
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=2)):
        event[key] = draw(ANYTHING)
    if isinstance(event["payload"], dict):
        for key in draw(st.lists(st.sampled_from([*sorted(event_types()[name].payload_keys), "more"]), max_size=2)):
            event["payload"][key] = draw(ANYTHING)
    return json.dumps(event).encode()


@pytest.mark.req("S3-05", "P-08")
@settings(max_examples=400)
@given(st.binary(max_size=200) | spoilt() | ANYTHING.map(lambda value: json.dumps(value).encode()), st.booleans())
def test_it_never_raises_and_what_it_accepts_encodes(content: bytes, legacy: bool) -> None:
    reading = envelope_json.read(content, source_id="s", legacy=legacy)
    assert all(violation.code in rules.REASONS for violation in reading.violations)
    if reading.ok:
        assert reading.event_type is not None
        schema = reading.event_type.schema
        assert codec.Decoder(schema).decode(codec.Encoder(schema, 1).encode(reading.event)) == reading.event
        assert not list(rules.violations(reading.event, reading.event_type))
