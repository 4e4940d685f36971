"""The SDK: chains, numbering, exact numbers, and evidence of what broke the contract."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.producers.support import Listed

from tradetape.producers import events, unmapped
from tradetape.producers.emitter import OVERHEAD_BYTES
from tradetape.producers.recorder import Recorded, Recorder
from tradetape.schemas import envelope_json
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.topics import MAX_EVENT_BYTES

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
CREATED: dict[str, Any] = {
    "client_order_id": "c1",
    "side": "buy",
    "order_type": "limit",
    "price": "27000.5",
    "amount_base": Decimal("0.01"),
    "is_live": True,
}


def numbered() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"00000000-0000-4000-8000-{number:012d}"


@pytest.fixture
def emitter() -> Listed:
    return Listed()


@pytest.fixture
def recorder(emitter: Listed) -> Recorder:
    ids = numbered()
    return Recorder(
        instance_name="bot1",
        producer="strategy",
        connector_name="kucoin",
        trading_pair="BTC-USDT",
        emitter=emitter,
        clock=lambda: NOW,
        new_id=lambda: next(ids),
    )


@pytest.mark.req("S3-01", "S3-02")
def test_a_chain(recorder: Recorder, emitter: Listed) -> None:
    with recorder as r:
        order = r.order_created(**CREATED)
        r.order_cancelled(client_order_id="c1", follows=order)
        r.risk_decision(approved=True, decision="allow", reason="ok", correlation_id="signal-7")
    created, cancelled, decision = emitter.acknowledged
    assert order == Recorded(created["event_id"], created["event_id"])
    assert created["correlation_id"] == created["event_id"]
    assert (cancelled["correlation_id"], cancelled["causation_id"]) == (order.event_id, order.event_id)
    assert decision["correlation_id"] == "signal-7"
    assert [event["sequence"] for event in emitter.events] == [1, 2, 3]
    assert [event["source_position"] for event in emitter.events] == [1, 2, 3]
    assert {event["source_id"] for event in emitter.events} == {recorder.run_id}
    assert created["ts_utc"] == 1_714_564_800_000_000
    assert (created["environment"], created["source_system"], created["ingest_source"]) == ("live", "sdk", "sdk")


@pytest.mark.req("S3-06")
def test_unknown_payload_keys_are_kept(recorder: Recorder, emitter: Listed) -> None:
    recorder.order_created(**CREATED, leverage=5, tags=["a"], ratio=0.5)
    assert json.loads(emitter.events[0]["extra"]) == {"leverage": 5, "tags": ["a"], "ratio": "0.5"}


def test_rounding_is_recorded(recorder: Recorder, emitter: Listed) -> None:
    recorder.order_created(**{**CREATED, "amount_base": "0.1234567890123456785"})
    assert emitter.events[0]["precision_rounded"] == ["amount_base"]


def test_floats_are_refused(recorder: Recorder, emitter: Listed) -> None:
    with pytest.raises(TradetapeError, match="pass Decimal or str"):
        recorder.order_created(**{**CREATED, "price": 27000.5})
    assert emitter.events == []


@pytest.mark.req("S3-05")
def test_what_breaks_the_contract_is_still_evidence(recorder: Recorder, emitter: Listed) -> None:
    recorder.order_created(**{**CREATED, "side": "long", "price": None})
    (record,) = emitter.events
    assert record["event_type"] == "unmapped_record"
    assert (record["instance_name"], record["source_position"], record["native_type"]) == ("bot1", 1, "order_created")
    reading = envelope_json.read(record["native"], source_id=recorder.run_id)
    assert {violation.code for violation in reading.violations} == {"not_in_enumeration", "price_required"}
    recorder.order_status(client_order_id="c1", status="x", ts_utc="noon")
    assert emitter.events[1]["event_type"] == "unmapped_record"
    assert emitter.events[1]["source_position"] == 2


def test_control_and_unknown_types_cannot_be_recorded(recorder: Recorder) -> None:
    for name in ("source_ended", "unmapped_record", "nonsense"):
        with pytest.raises(TradetapeError, match="no event type"):
            recorder.record(name, {})


def test_values_that_json_cannot_hold(recorder: Recorder) -> None:
    nested: dict[str, Any] = {}
    nested["again"] = nested
    for value in (object(), b"bytes", nested, 10**2000):
        with pytest.raises(TradetapeError):
            recorder.order_status(client_order_id="c1", status="x", more=value)


def test_environment_comes_from_the_connector(emitter: Listed) -> None:
    paper = Recorder(instance_name="b", producer="p", connector_name="kucoin_paper_trade", emitter=emitter)
    paper.state_snapshot(state="running", equity_quote=100)
    assert emitter.events[0]["environment"] == "paper"


@pytest.mark.req("S3-04")
def test_every_type_that_bots_emit_has_a_method_with_its_required_keys() -> None:
    for event_type in event_types().values():
        if event_type.control:
            assert not hasattr(Recorder, event_type.name)
            continue
        parameters = inspect.signature(getattr(Recorder, event_type.name)).parameters
        explicit = parameters.keys() - {"self", "more"}
        assert explicit <= event_type.payload_keys
        assert set(event_type.required) <= explicit


def test_a_recorder_without_addresses() -> None:
    with pytest.raises(TradetapeError, match="bootstrap_servers"):
        Recorder(instance_name="b", producer="p")


def test_unmapped_keeps_only_what_fits() -> None:
    event = unmapped.unmapped(
        format="x",
        error="bad \ud800",
        native=b"n" * (unmapped.MAX_NATIVE_BYTES + 1),
        fields={"instance_name": "i" * 2000, "producer": "p", "event_type": "order_created", "payload": {}},
    )
    assert (event["instance_name"], event["producer"], event["native_type"]) == ("", "p", "order_created")
    assert event["payload"]["native_bytes"] == unmapped.MAX_NATIVE_BYTES + 1
    Listed(largest=unmapped.MAX_NATIVE_BYTES + 65536).emit(event, "unmapped_record")


def test_an_event_too_large_even_alone_becomes_an_unmapped_record(recorder: Recorder, emitter: Listed) -> None:
    emitter.largest = MAX_EVENT_BYTES - OVERHEAD_BYTES
    recorder.order_status(client_order_id="c1", status="s" * MAX_EVENT_BYTES)
    recorder.order_status(client_order_id="c1", status="short")
    assert emitter.types() == {"unmapped_record": 1, "order_status": 1}
    assert emitter.events[0]["payload"]["native_bytes"] > MAX_EVENT_BYTES


def test_new_event_fills_every_field() -> None:
    event = events.new_event(
        "state_snapshot",
        ts_utc=NOW,
        producer="p",
        instance_name="i",
        payload={"state": "running"},
        event_id="a",
        correlation_id="a",
    )
    assert event.keys() == events.TEMPLATE.keys() | {"payload"}
    with pytest.raises(TypeError, match="no envelope field"):
        events.envelope(nonsense=1)
    with pytest.raises(events.EventRefused, match="missing_payload_key"):
        events.new_event(
            "state_snapshot", ts_utc=NOW, producer="p", instance_name="i", payload={}, event_id="a", correlation_id="a"
        )
