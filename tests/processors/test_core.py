"""The core as a whole: verdicts, links, repeats, figures, and the same outputs however the stream is cut."""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import ENCODERS, IDS, INGEST, Partition, encode, fold, open_findings
from tests.processors.events import START, created, ended, event, filled

from tradetape.processors import core, repeats
from tradetape.processors.core import Output
from tradetape.processors.horizons import Horizons
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.state import PartitionState, StateVersionMismatch
from tradetape.producers import unmapped
from tradetape.schemas import codec
from tradetape.schemas.catalogue import event_types


def verdict(output: Output) -> tuple[str, list[str]]:
    return output.audited["disposition"], list(output.audited["reasons"])


def judge_bytes(*values: bytes) -> list[Output]:
    return Partition().take(values)


@pytest.mark.req("S3-02", "S3-03", "N-01")
def test_links() -> None:
    root = event("risk_decision", {"approved": True, "decision": "allow", "reason": "ok"})
    next_one = event(
        "risk_decision", {"approved": True, "decision": "allow", "reason": "ok"}, correlation_id=root["event_id"]
    )
    legacy = {**root, "event_id": next_one["event_id"], "correlation_id": "", "legacy": True}
    outputs = fold([root, {**next_one, "event_id": "00000000-0000-4000-8000-0000000000aa"}, legacy])
    assert [o.audited["link"] for o in outputs] == ["root", "asserted", "backfilled"]
    assert outputs[2].audited["correlation_id"] == legacy["event_id"]


@pytest.mark.req("S3-03", "S3-05")
def test_a_missing_correlation_id_is_rejected_unless_legacy() -> None:
    bad = {**created("a"), "correlation_id": ""}
    assert verdict(fold([bad])[0]) == ("rejected", ["missing_correlation_id"])


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "enumeration": ({"payload": {**created("a")["payload"], "side": "long"}}, "not_in_enumeration"),
    "price": ({"payload": {**created("a")["payload"], "price": None}}, "price_required"),
    "year 1999": ({"ts_utc": START - 10**15}, "ts_out_of_range"),
    "far future": ({"ts_utc": 2**62}, "ts_out_of_range"),
    "empty instance": ({"instance_name": ""}, "empty_field"),
    "version": ({"event_version": "v9"}, "unsupported_event_version"),
    "other record": ({"event_type": "order_filled"}, "type_mismatch"),
    "environment": ({"environment": "moon"}, "not_in_enumeration"),
}


@pytest.mark.req("S3-05")
@pytest.mark.parametrize("name", BROKEN)
def test_typed_records_go_through_the_same_rules(name: str) -> None:
    changes, reason = BROKEN[name]
    value = ENCODERS["order_created"].encode({**created("a"), **changes})
    output = judge_bytes(value)[0]
    assert output.audited["disposition"] == "rejected"
    assert reason in output.audited["reasons"]
    assert output.audited["raw"] == value
    assert output.risk is None


@pytest.mark.req("P-08")
@given(st.binary(max_size=200), st.sampled_from([b"", b"\0", b"\0" + struct.pack(">I", IDS["order_filled"])]))
def test_no_bytes_stop_a_partition(noise: bytes, prefix: bytes) -> None:
    partition = Partition()
    bad, good = partition.take([prefix + noise, encode(created("a"))])
    assert bad.audited["raw"] == prefix + noise
    assert good.audited["disposition"] == "accepted"


@pytest.mark.req("P-08")
@given(st.data())
def test_a_flipped_bit_gets_a_verdict(data: st.DataObject) -> None:
    value = bytearray(encode(filled("a", side="buy")))
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    output = judge_bytes(bytes(value))[0]
    codec.Encoder(core.outputs.output_schema("audited"), 1).encode(output.audited)
    if output.risk is not None:
        codec.Encoder(core.outputs.output_schema("risk"), 1).encode(output.risk)


@pytest.mark.req("P-08")
def test_unknown_schema_id_is_a_verdict() -> None:
    assert verdict(judge_bytes(b"\0" + struct.pack(">I", 999) + b"x")[0]) == ("rejected", ["unknown_schema_id"])


@pytest.mark.req("P-08", "P-05")
def test_a_foreign_schema_under_our_name_is_rejected() -> None:
    schema = json.loads(json.dumps(event_types()["order_created"].schema))
    schema["fields"][0]["type"] = "long"
    foreign = WriterSchema(schema)
    value = codec.Encoder(schema, 77).encode({**created("a"), "event_id": 5})
    output = core.process(RawRecord(0, 0, INGEST, value), PartitionState(0, {}), {77: foreign}.get)
    assert verdict(output) == ("rejected", ["type_mismatch"])


@pytest.mark.req("P-05")
def test_a_newer_writer_keeps_its_new_field_and_an_older_one_gets_the_default() -> None:
    newer = json.loads(json.dumps(event_types()["order_cancelled"].schema))
    newer["fields"][-1]["type"]["fields"].append({"name": "desk", "type": ["null", "string"], "default": None})
    older = json.loads(json.dumps(event_types()["order_cancelled"].schema))
    older["fields"] = [f for f in older["fields"] if f["name"] not in ("legacy", "extra", "environment")]
    cancelled = ended("a", "order_cancelled")
    schemas = {1: WriterSchema(newer), 2: WriterSchema(older)}
    new = codec.Encoder(newer, 1).encode({**cancelled, "payload": {**cancelled["payload"], "desk": "fx"}})
    old = codec.Encoder(older, 2).encode(cancelled)
    outputs = [
        core.process(RawRecord(0, n, INGEST, v), PartitionState(0, {}), schemas.get) for n, v in enumerate([new, old])
    ]
    assert [o.audited["disposition"] for o in outputs] == ["accepted", "accepted"]
    assert json.loads(outputs[0].audited["payload"])["desk"] == "fx"
    assert outputs[1].audited["environment"] == "live"


@pytest.mark.req("S3-06")
def test_unknown_payload_keys_come_through_as_written() -> None:
    odd = created("a")
    odd["extra"] = '{"n": 123456789012345678901234567890, "deep": {"x": [1, "2"]}, "side": "ignored"}'
    payload = json.loads(fold([odd])[0].audited["payload"])
    assert payload["deep"] == {"x": [1, "2"]}
    assert payload["side"] == "buy"
    odd["extra"] = '{"n": 123456789012345678901234567890}'
    assert '"n": 123456789012345678901234567890' in fold([odd])[0].audited["payload"]


@pytest.mark.req("S3-05")
def test_an_unmapped_line_gets_its_reasons_from_the_rules() -> None:
    line = b'{"event_type": "order_filled", "event_id": "x"'
    record = unmapped.unmapped(format="envelope_json", error="not JSON", native=line, fields={})
    output = judge_bytes(encode(record))[0]
    assert verdict(output) == ("rejected", ["not_json"])
    assert output.audited["native"] == line


@pytest.mark.req("S1-11")
def test_a_repeated_position_is_a_duplicate_for_ever_and_folds_nothing() -> None:
    placed = {"source_id": "s", "source_stream": "lines"}
    events = [created("a", source_position=1, **placed), filled("a", source_position=2, **placed)]
    outputs = fold([*events, *events])
    assert [verdict(o)[0] for o in outputs] == ["accepted", "accepted", "duplicate", "duplicate"]
    assert outputs[2].risk is None and outputs[3].risk is None


@pytest.mark.req("S1-11")
def test_an_unplaced_event_is_known_again_by_its_id() -> None:
    fill = filled("a", side="buy")
    assert [verdict(o) for o in fold([fill, fill])] == [("accepted", []), ("duplicate", ["repeated"])]


@pytest.mark.req("S1-11", "S3-05")
def test_a_rejected_event_can_be_corrected_under_its_id() -> None:
    fill = filled("a", side="buy")
    broken = {**fill, "producer": ""}
    outputs = fold([broken, broken, fill, fill])
    assert [verdict(o)[0] for o in outputs] == ["rejected", "rejected", "accepted", "duplicate"]


@pytest.mark.req("S1-11")
def test_an_execution_seen_without_a_position_and_then_with_one_counts_once() -> None:
    fill = filled("a", side="buy", source_id="s", source_stream="TradeFill")
    again = {**fill, "source_stream": "OrderStatus", "source_position": 7}
    outputs = fold([fill, again])
    assert [verdict(o)[0] for o in outputs] == ["accepted", "duplicate"]


@pytest.mark.req("P-04")
def test_one_source_writing_an_id_twice_is_a_finding() -> None:
    first = created("a", source_system="envelope", source_id="s", source_stream="lines", source_position=1)
    outputs = fold([first, {**first, "source_position": 2}])
    assert verdict(outputs[1]) == ("duplicate", ["duplicate_event_id"])
    assert open_findings(outputs) == {"duplicate_event_id": 1}


@pytest.mark.req("S1-11")
def test_seen_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "SEEN_CAPACITY", 3)
    partition = Partition()
    fills = [filled("a", side="buy") for _ in range(9)]
    partition.take([encode(e) for e in fills])
    assert sum(1 for key in partition.store if key.startswith(b"0s")) == 3
    assert sum(1 for key in partition.store if key.startswith(b"0r")) == 3
    late, new = partition.take([encode(fills[8]), encode({**created("b"), "event_id": fills[0]["event_id"]})])
    assert [verdict(late)[0], verdict(new)[0]] == ["duplicate", "accepted"]


@pytest.mark.req("S1-11")
def test_a_seen_id_is_forgotten_after_its_horizon() -> None:
    partition = Partition(horizons=Horizons(seen_id=60_000_000))
    first = created("a")
    partition.take([encode(first)])
    partition.now += 60_000_000
    partition.take([encode(created("b"))])
    assert verdict(partition.take([encode(first)])[0])[0] == "duplicate"
    partition.now += 1
    partition.take([encode(created("c"))])
    assert verdict(partition.take([encode(first)])[0])[0] == "accepted"


@pytest.mark.req("P-02")
def test_figures_of_live_and_paper_stay_apart() -> None:
    outputs = fold([filled("a", side="buy"), filled("b", side="buy", environment="paper")])
    assert [o.risk["net_base"] for o in outputs if o.risk] == [Decimal(10), Decimal(10)]


@pytest.mark.req("P-02")
def test_an_execution_waits_for_its_direction() -> None:
    waiting, known = fold([filled("a"), created("a", side="sell")])
    assert waiting.risk is None
    assert known.risk is not None and known.risk["net_base"] == -10


@pytest.mark.req("P-08")
def test_overflow_is_a_finding_and_not_a_crash() -> None:
    outputs = fold([filled("a", quantity="1e20", price="1e20", side="buy"), filled("b", side="buy")])
    assert open_findings(outputs)["figure_out_of_range"] == 1
    assert outputs[0].risk is None
    assert outputs[1].risk is not None and outputs[1].risk["net_base"] == 10


@pytest.mark.req("N-07")
def test_fidelity_findings() -> None:
    zero = filled("a", price="0", side="buy")
    rounded = filled("b", quantity="0.1234567890123456789", side="buy")
    ahead = filled("c", side="buy", ts_utc=INGEST + 600_000_000)
    found = open_findings(fold([zero, rounded, ahead]))
    assert {"zero_price", "precision_rounded", "clock_ahead"} <= found.keys()


def test_state_of_another_layout_is_refused() -> None:
    partition = Partition()
    partition.state.progress.version = 999
    partition.commit()
    with pytest.raises(StateVersionMismatch):
        partition.restart()


@pytest.mark.req("S4-11")
@pytest.mark.parametrize(("power", "caught"), [("NONE", False), ("none", False), (None, False), ("LIMITED", True)])
def test_an_advisory_signal_must_not_claim_power_to_execute(power: str | None, caught: bool) -> None:
    output = fold([event("signal_generated", {"signal_id": "s1", "execution_power": power})])[0]
    found = [item for item in output.audited["findings"] if item["code"] == "execution_power_not_none"]
    assert len(found) == caught
    if caught:
        assert found[0]["severity"] == "critical"
        assert json.loads(found[0]["detail"]) == {"expected": "NONE", "recorded": power}
        assert [alert["code"] for alert in output.alerts] == ["execution_power_not_none"]


@pytest.mark.req("S3-10")
def test_what_an_adapter_assumed_is_told() -> None:
    output = fold([filled("a") | {"assumed": ["fee_amount", "liquidity_side"]}])[0]
    found = [item for item in output.audited["findings"] if item["code"] == "value_assumed"]
    assert [(item["status"], json.loads(item["detail"])) for item in found] == [
        ("noted", {"keys": ["fee_amount", "liquidity_side"]})
    ]


@pytest.mark.req("P-04")
def test_progress_of_an_order_is_no_execution_and_a_filled_order_is_not_open() -> None:
    opening = created("a")
    accepted = event("order_accepted", {"client_order_id": "a"}, correlation_id="chain-a")
    totals = {"client_order_id": "a", "filled_qty_base": "4", "remaining_qty_base": "6"}
    partial = event("order_partially_filled", totals, correlation_id="chain-a")
    outputs = fold([opening, accepted, partial, filled("a")])
    assert [item for output in outputs for item in output.audited["findings"]] == []
    assert [output.risk is None for output in outputs] == [False, True, True, False]
    last = outputs[-1].risk
    assert last is not None
    assert (last["net_base"], last["open_orders"]) == (Decimal(10), 0)


@pytest.mark.req("S0-03", "S3-06")
def test_nested_records_documents_and_unknown_keys_become_one_json_payload() -> None:
    context = {"market": {"n": {"value": "8.52", "model": "x"}, "source_timestamp": "2024-05-01T12:00:00Z"}}
    payload = json.loads(fold([event("position_checked", {"context": context})])[0].audited["payload"])
    assert payload == {
        "context": {"market": {"n": {"value": "8.52", "model": "x"}, "source_timestamp": "2024-05-01T12:00:00.000000Z"}}
    }
    beat = event("heartbeat", {"service": "risk", "metrics": {"lag": [1, {"p99": "2.50"}]}})
    payload = json.loads(fold([beat])[0].audited["payload"])
    assert payload == {"service": "risk", "metrics": {"lag": [1, {"p99": "2.50"}]}}


@pytest.mark.req("S3-05", "P-08")
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"market": {"price": Decimal("2e20")}}, "number_out_of_range"),
        ({"order": {"filled_at": 2**61}}, "ts_out_of_range"),
        ({"signal": {"direction": "sideways"}}, "not_in_enumeration"),
        ({"account": {"limits": {"units_by_market": {"QQQ": Decimal("-2e20")}}}}, "number_out_of_range"),
        ({"position": {"pyramid_levels": [{"entry_price": Decimal("2e20")}]}}, "number_out_of_range"),
    ],
)
def test_rules_hold_inside_nested_records(place: dict[str, Any], reason: str) -> None:
    good = event("position_checked", {"context": {name: {} for name in place}})
    (name,) = place
    for path, value in place[name].items():
        good["payload"]["context"][name][path] = _typed(good, name, path, value)
    assert verdict(fold([good])[0]) == ("rejected", [reason])


def _typed(good: dict[str, Any], name: str, path: str, value: Any) -> Any:
    """A nested value as fastavro takes it: every key of a nested record has to be there."""
    example = event("position_checked", {"context": {name: {path: _harmless(value)}}})
    return _overlay(example["payload"]["context"][name][path], value)


def _harmless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _harmless(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_harmless(inner) for inner in value]
    return {Decimal: "1", int: "2024-05-01T12:00:00Z", str: "LONG"}[type(value)]


def _overlay(typed: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return {**typed, **{key: _overlay(typed.get(key), inner) for key, inner in value.items()}}
    if isinstance(value, list):
        return [_overlay(one, inner) for one, inner in zip(typed, value, strict=True)]
    return value
