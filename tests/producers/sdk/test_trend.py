"""Trend's bus: on record, then the handlers."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest
from tests.producers.sdk.recording import recorder
from tests.producers.support import Listed

from tradetape.producers.sdk.trend import Event, EventBus
from tradetape.schemas.errors import TradetapeError

PLACED = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "quantity": 0.001,
    "price": 42000.0,
    "order_type": "LIMIT",
    "client_order_id": "entry_123",
}


@pytest.mark.req("S2-01", "S2-04")
def test_an_event_is_on_record_before_its_handlers_run() -> None:
    emitted = Listed()
    bus = EventBus(recorder(emitted))
    heard: list[tuple[str, int]] = []

    async def handler(event: Event) -> None:
        heard.append((event.payload["symbol"], len(emitted.events)))

    def fails(event: Event) -> None:
        raise RuntimeError(event.event_type)

    bus.register("ORDER_PLACED", fails)
    bus.register("OrderPlaced", handler)
    bus.register("ORDER_FILLED", handler)
    event = asyncio.run(bus.publish("ORDER_PLACED", PLACED, {"source": "execution_engine"}))
    assert heard == [("BTCUSDT", 1)]
    assert event.sequence_num == 1
    (recorded,) = emitted.events
    assert (recorded["event_type"], recorded["trading_pair"], recorded["source"]) == (
        "order_created",
        "BTC-USDT",
        "execution_engine",
    )
    assert recorded["payload"]["amount_base"] == Decimal("0.001")
    assert recorded["event_id"] == event.event_id


@pytest.mark.req("S3-02")
def test_what_a_handler_publishes_follows_what_it_handles() -> None:
    emitted = Listed()
    bus = EventBus(recorder(emitted))

    async def halt(event: Event) -> None:
        await bus.publish("CIRCUIT_BREAKER_TRIGGERED", {"reason": "loss"})

    bus.register("RISK_REJECTED", halt)
    asyncio.run(bus.publish("RISK_REJECTED", {"symbol": "BTCUSDT", "reasons": ["daily loss"]}))
    rejected, tripped = emitted.events
    assert (tripped["correlation_id"], tripped["causation_id"]) == (rejected["event_id"], rejected["event_id"])


@pytest.mark.req("S2-01")
@pytest.mark.parametrize(("kind", "payload"), [("IMAGINED", {}), ("SYSTEM_STARTED", {"at": object()})])
def test_what_is_refused_is_neither_recorded_nor_handled(kind: str, payload: dict[str, Any]) -> None:
    emitted = Listed()
    bus = EventBus(recorder(emitted))
    heard: list[Event] = []
    bus.register(kind, heard.append)
    with pytest.raises(TradetapeError):
        asyncio.run(bus.publish(kind, payload))
    assert (emitted.events, heard) == ([], [])
    assert asyncio.run(bus.publish("SYSTEM_STARTED", {"version": "1"})).sequence_num == 1


@pytest.mark.req("S2-03")
def test_the_settings_that_a_state_follows_from_are_recorded_like_any_event() -> None:
    emitted = Listed()
    payload = {"initial_equity": 100.0, "cooldown_seconds": 900, "settings": {"news": {"feeds": ["wire"]}}}
    asyncio.run(EventBus(recorder(emitted)).publish("CONFIGURATION_RECORDED", payload))
    (recorded,) = emitted.events
    assert recorded["event_type"] == "configuration_recorded"
    assert (recorded["payload"]["initial_equity"], recorded["payload"]["cooldown_seconds"]) == (Decimal(100), 900)
    assert json.loads(recorded["payload"]["settings"]) == payload["settings"]
    assert recorded["extra"] is None
