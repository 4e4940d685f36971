"""Turtle's event logger: runs, numbers, chains, and the same events as from its table."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from tests.producers.sdk.recording import recorder
from tests.producers.support import Listed

from tradetape.producers.sdk import contexts
from tradetape.producers.sdk.turtle import EventLogger
from tradetape.schemas.errors import TradetapeError


class EventType(StrEnum):
    """As a bot has it."""

    SIGNAL_DETECTED = "signal_detected"


SIGNAL = contexts.signal_context(
    direction="SHORT", system="S2", trigger_price=500, signal_price=499.5, channel_period=55
)
SIZING = contexts.sizing_context(
    price=499.5, n_value=8.52, equity_actual=50000, equity_notional=50000, system="S2", direction="SHORT",
    risk_percent=0.005,
)  # fmt: skip


def entry(logger: EventLogger) -> None:
    """The document's successful entry."""
    order = {"order_id": "12345", "order_type": "MARKET", "action": "SELL", "quantity": 29}

    async def run() -> None:
        logger.start_run("scanner")
        await logger.log("SCANNER_STARTED", "submitted", context={"symbols": ["SPY", "QQQ"]})
        await logger.log(EventType.SIGNAL_DETECTED, "breakout_55", "QQQ", context={"signal": SIGNAL})
        await logger.log("signal_evaluated", "approved", "QQQ", context={"signal": SIGNAL})
        await logger.log("ENTRY_ATTEMPTED", "submitted", "QQQ", context={"order": order, "sizing": SIZING})
        filled = {**order, "fill_price": 499.5, "commission": 0.65}
        await logger.log("ENTRY_FILLED", "filled", "QQQ", context={"order": filled})
        await logger.log("SCANNER_COMPLETED", "submitted", context={"signals_found": 1, "duration_sec": 45})

    asyncio.run(run())


@pytest.mark.req("S0-09", "S0-03", "S0-07")
def test_an_entry_is_logged_in_order_and_linked() -> None:
    emitter = Listed()
    entry(EventLogger(recorder(emitter)))
    assert [event["event_type"] for event in emitter.events] == [
        "run_started",
        "signal_generated",
        "signal_evaluated",
        "order_created",
        "order_filled",
        "run_completed",
    ]
    assert [event["sequence"] for event in emitter.events] == [1, 2, 3, 4, 5, 6]
    assert len({event["run_id"] for event in emitter.events}) == 1
    qqq = emitter.events[1:5]
    assert {event["correlation_id"] for event in qqq} == {qqq[0]["event_id"]}
    assert [event["causation_id"] for event in qqq] == [None, *(event["event_id"] for event in qqq[:3])]
    assert {event["trading_pair"] for event in qqq} == {"QQQ-USD"}
    filled = qqq[3]["payload"]
    assert (filled["client_order_id"], filled["fill_price"], filled["purpose"]) == ("12345", Decimal("499.5"), "entry")
    assert qqq[2]["payload"]["context"]["sizing"]["initial_stop"] == Decimal("516.54")
    assert (qqq[0]["outcome"], qqq[0]["native_type"], qqq[0]["source"]) == (
        "breakout_55",
        "signal_detected",
        "scanner",
    )


@pytest.mark.req("S0-09", "S0-02")
def test_each_run_has_its_id_and_its_numbers() -> None:
    emitter = Listed()
    logger = EventLogger(recorder(emitter))
    first = logger.start_run("scanner")
    asyncio.run(logger.log("SCANNER_STARTED", "submitted"))
    second = logger.start_run("monitor")
    asyncio.run(logger.log("MONITOR_STARTED", "submitted", dry_run=True))
    assert isinstance(first, UUID) and first != second
    assert [(event["run_id"], event["sequence"]) for event in emitter.events] == [(str(first), 1), (str(second), 1)]
    assert [event["dry_run"] for event in emitter.events] == [False, True]


@pytest.mark.req("S0-09")
@pytest.mark.parametrize(
    "arguments",
    [("IMAGINED", "submitted"), ("SCANNER_STARTED", "submitted", None, None, {"at": object()})],
)
def test_what_is_refused_uses_no_number(arguments: tuple[Any, ...]) -> None:
    emitter = Listed()
    logger = EventLogger(recorder(emitter))
    with pytest.raises(TradetapeError, match="start_run"):
        asyncio.run(logger.log("SCANNER_STARTED", "submitted"))
    logger.start_run("scanner")
    with pytest.raises(TradetapeError):
        asyncio.run(logger.log(*arguments))
    asyncio.run(logger.log("SCANNER_STARTED", "submitted"))
    assert [event["sequence"] for event in emitter.events] == [1]


@pytest.mark.req("S0-03")
def test_a_context_value_of_another_kind_is_kept_beside() -> None:
    emitter = Listed()
    logger = EventLogger(recorder(emitter))
    logger.start_run("monitor")
    asyncio.run(logger.log("POSITION_CHECKED", "hold", "QQQ", context={"market": {"price": "dear", "bid": 1.5}}))
    (event,) = emitter.events
    assert event["payload"]["context"]["market"]["bid"] == Decimal("1.5")
    assert "dear" in event["extra"]
