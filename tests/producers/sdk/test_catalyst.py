"""Catalyst's emitter: on record first, then the listeners, whatever they do."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.producers.sdk.recording import recorder
from tests.producers.support import Listed

from tradetape.producers.sdk.catalyst import CatalystEvent, EventEmitter, EventMetadata
from tradetape.schemas.errors import TradetapeError

OPENED = {"position_id": "pos_123", "ticker": "AAPL", "side": "long", "quantity": 100, "entry_price": 150.0}


def opened(**metadata: Any) -> CatalystEvent:
    return CatalystEvent("POSITION_OPENED", "position", "pos_123", OPENED, EventMetadata(**metadata))


def priced(price: float) -> CatalystEvent:
    return CatalystEvent("POSITION_PRICE_UPDATED", "position", "pos_123", {"new_price": price})


@pytest.mark.req("S1-04")
def test_it_is_on_record_before_any_listener_hears_of_it() -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    heard: list[tuple[str, int]] = []
    emitter.on("POSITION_OPENED", lambda event: heard.append((event.event_type, len(emitted.events))))
    emitter.on_all(lambda event: heard.append(("all", len(emitted.events))))
    emitter.emit(opened())
    assert heard == [("POSITION_OPENED", 1), ("all", 1)]


@pytest.mark.req("S1-04")
def test_a_failing_listener_loses_nothing_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    heard: list[str] = []

    def fails(_: CatalystEvent) -> None:
        raise RuntimeError("listener")

    emitter.on("POSITION_OPENED", fails)
    emitter.on("POSITION_OPENED", lambda event: heard.append("second"))
    emitter.on_all(lambda event: heard.append("all"))
    assert emitter.emit(opened()) is not None
    assert heard == ["second", "all"]
    assert len(emitted.events) == 1
    assert "POSITION_OPENED" in caplog.text


@pytest.mark.req("S1-04")
def test_a_listener_can_be_taken_off_and_only_hears_its_type() -> None:
    emitter = EventEmitter(recorder(Listed()))
    heard: list[str] = []
    emitter.on("POSITION_CLOSED", lambda event: heard.append("closed"))
    listener = heard.append
    emitter.on("POSITION_OPENED", lambda event: listener("opened"))
    emitter.on("POSITION_OPENED", print)
    emitter.off("POSITION_OPENED", print)
    emitter.off("POSITION_OPENED", print)
    emitter.emit(opened())
    assert heard == ["opened"]


@pytest.mark.req("S1-02", "S1-03")
def test_aggregates_are_numbered_and_metadata_is_kept() -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    emitter.emit(opened(source="position_manager", correlation_id="sig-1", causation_id="ord-1", user_id="ann"))
    emitter.emit(priced(160.0), source="prices")
    first, second = emitted.events
    assert [(e["aggregate_type"], e["aggregate_id"], e["aggregate_sequence"]) for e in emitted.events] == [
        ("position", "pos_123", 1),
        ("position", "pos_123", 2),
    ]
    assert (first["source"], first["correlation_id"], first["causation_id"], first["user_id"]) == (
        "position_manager",
        "sig-1",
        "ord-1",
        "ann",
    )
    assert second["source"] == "prices"
    assert second["payload"]["new_price"] == Decimal(160)


@pytest.mark.req("S1-05")
def test_small_price_moves_are_left_out_counted_and_not_told() -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    heard: list[Any] = []
    emitter.on_all(lambda event: heard.append(event.payload.get("new_price")))
    prices = [100.0, 100.05, 99.95, 100.2]
    assert [emitter.emit(priced(price)) is None for price in prices] == [False, True, True, False]
    assert heard == [100.0, 100.2]
    assert [event["payload"]["suppressed"] for event in emitted.events] == [0, 2]
    assert [event["aggregate_sequence"] for event in emitted.events] == [1, 2]
    emitter.emit(priced(100.21))
    emitter.emit(CatalystEvent("POSITION_CLOSED", "position", "pos_123", {"position_id": "pos_123"}))
    closed = emitted.events[-1]
    assert 1 in (closed["payload"].get("suppressed"), json.loads(closed["extra"] or "{}").get("suppressed"))


@pytest.mark.req("S1-05")
def test_the_change_is_configurable() -> None:
    emitter = EventEmitter(recorder(Listed()), min_price_change=Decimal("0.1"))
    assert [emitter.emit(priced(price)) is None for price in (100.0, 109.0, 111.0)] == [False, True, False]
    every = EventEmitter(recorder(Listed()), min_price_change=None)
    assert [every.emit(priced(price)) is None for price in (100.0, 100.0)] == [False, False]


@pytest.mark.req("S1-01")
def test_a_fill_knows_its_order() -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    submitted = {"order_id": "o1", "ticker": "AAPL", "side": "buy", "quantity": 10, "order_type": "market"}
    emitter.emit(CatalystEvent("ORDER_SUBMITTED", "order", "o1", submitted))
    emitter.emit(CatalystEvent("ORDER_FILLED", "order", "o1", {"filled_quantity": 10, "filled_price": 150.25}))
    assert [event["event_type"] for event in emitted.events] == ["order_created", "order_filled"]
    assert [event["trading_pair"] for event in emitted.events] == ["AAPL-USD", "AAPL-USD"]


def test_an_unknown_type_is_refused_and_nobody_is_told() -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    heard: list[CatalystEvent] = []
    emitter.on_all(heard.append)
    with pytest.raises(TradetapeError, match="IMAGINED"):
        emitter.emit(CatalystEvent("IMAGINED", "position", "p", {}))
    assert (heard, emitted.events) == ([], [])
