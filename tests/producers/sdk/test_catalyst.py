"""Catalyst's emitter: on record first, then the listeners, whatever they do."""

from __future__ import annotations

import json
import logging
import os
import threading
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from tests.producers.sdk.recording import recorder
from tests.producers.support import Listed

from tradetape.producers.adapters import catalyst
from tradetape.producers.recorder import Recorder, Turn
from tradetape.producers.sdk.aggregates import Aggregates
from tradetape.producers.sdk.catalyst import CatalystEvent, EventEmitter, EventMetadata
from tradetape.producers.spool import Spool, SpoolFull
from tradetape.producers.spool import log as files
from tradetape.schemas.errors import TradetapeError

SECONDS = 20.0

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
    emitter.flush(SECONDS)
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
    emitter.flush(SECONDS)
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
    emitter.flush(SECONDS)
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
    emitter.flush(SECONDS)
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
    emitter.flush(SECONDS)
    assert (heard, emitted.events) == ([], [])


class Refusing(Listed):
    """Takes nothing while ``away``."""

    away = False

    def emit(self, event: dict[str, Any], event_type_name: str) -> None:
        if self.away:
            raise SpoolFull("no room")
        super().emit(event, event_type_name)


def closed() -> CatalystEvent:
    return CatalystEvent("POSITION_CLOSED", "position", "pos_123", {"position_id": "pos_123"})


def suppressed(event: dict[str, Any]) -> Any:
    return {**json.loads(event["extra"] or "{}"), **event["payload"]}.get("suppressed")


@pytest.mark.req("S1-05", "P-07")
def test_a_price_that_was_not_recorded_is_judged_anew_and_loses_no_count() -> None:
    emitted = Refusing()
    emitter = EventEmitter(recorder(emitted))
    emitter.emit(priced(100))
    assert emitter.emit(priced(100.05)) is None
    emitted.away = True
    for _ in range(2):
        with pytest.raises(SpoolFull):
            emitter.emit(priced(101))
    emitted.away = False
    assert emitter.emit(priced(101)) is not None
    assert emitter.emit(priced(101.05)) is None
    emitted.away = True
    with pytest.raises(SpoolFull):
        emitter.emit(closed())
    emitted.away = False
    emitter.emit(closed())
    assert [suppressed(event) for event in emitted.events] == [0, 1, 1]
    assert [event["aggregate_sequence"] for event in emitted.events] == [1, 2, 3]


@pytest.mark.req("S1-05")
@pytest.mark.parametrize("kind", ["POSITION_PRICE_UPDATED", "PRICE_UPDATED", "PriceUpdated", "price.updated"])
@pytest.mark.parametrize("key", ["new_price", "new"])
def test_every_spelling_that_the_table_takes_passes_the_throttle(kind: str, key: str) -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))

    def emit(price: float) -> bool:
        return emitter.emit(CatalystEvent(kind, "position", "p", {key: price})) is not None

    assert [emit(price) for price in (100.0, 100.05, 101.0)] == [True, False, True]
    assert [(event["payload"]["new_price"], suppressed(event)) for event in emitted.events] == [(100, 0), (101, 1)]


@pytest.mark.req("S1-05")
@pytest.mark.parametrize("price", ["dear", float("nan"), {"amount": 1}])
def test_a_price_that_is_no_number_is_evidence(price: Any) -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    for _ in range(2):
        emitter.emit(CatalystEvent("PRICE_UPDATED", "position", "p", {"new": price}))
    assert [event["event_type"] for event in emitted.events] == ["unmapped_record"] * 2


@pytest.mark.req("P-07", "S1-04")
def test_a_disk_that_hangs_under_one_thread_holds_no_other_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Listed()
    hangs, goes_on = threading.Event(), threading.Event()
    write = os.write

    def slow(descriptor: int, data: bytes) -> int:
        hangs.set()
        assert goes_on.wait(SECONDS)
        return write(descriptor, data)

    with Spool(tmp_path / "spool") as spool:
        emitter = EventEmitter(Recorder(instance_name="b", producer="p", connector_name="ibkr", spool=spool))
        emitter.emit(opened())
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "write", slow)
            first = threading.Thread(target=emitter.emit, args=(priced(1),))
            first.start()
            assert hangs.wait(SECONDS)
            for price in (2, 3):
                with pytest.raises(SpoolFull, match="in time"):
                    emitter.emit(priced(price))
            assert first.is_alive()
            assert spool.health().refused == 2
            goes_on.set()
            first.join()
        emitter.emit(priced(4))
        spool.start(lambda: sent)
        spool.flush(SECONDS)
    assert [event["aggregate_sequence"] for event in sent.events if event["aggregate_id"]] == [1, 2, 3]
    assert [(gap["instance_name"], gap["payload"]["count"]) for gap in sent.of("system_gap")] == [("b", 2)]


class Scripted:
    """The lock of a Turn: how often it changes hands while it is waited for, and whether it comes then."""

    def __init__(self, turn: Turn, *script: tuple[int, bool]) -> None:
        self.turn, self.script, self.waits = turn, iter(script), 0

    def acquire(self, timeout: float) -> bool:
        self.waits += 1
        others, comes = next(self.script)
        self.turn._came += others
        return comes


@pytest.mark.req("P-07")
@pytest.mark.parametrize(
    ("script", "comes", "waits"),
    [
        ([(0, True)], True, 1),
        ([(0, False)], False, 1),
        ([(2, False), (1, False), (0, True)], True, 3),
        ([(2, False), (0, False)], False, 2),
    ],
)
def test_a_turn_that_moves_is_waited_for_and_one_that_hangs_is_not(
    script: list[tuple[int, bool]], comes: bool, waits: int
) -> None:
    turn = Turn()
    turn._lock = lock = Scripted(turn, *script)  # type: ignore[assignment]
    assert turn.come(60.0) is comes
    assert lock.waits == waits


@pytest.mark.req("P-07")
def test_a_turn_is_not_waited_for_without_end() -> None:
    turn = Turn()
    turn._lock = Scripted(turn, *[(1, False)] * 1_000_000)  # type: ignore[assignment]
    assert not turn.come(0.001)


@pytest.mark.req("S1-02", "S1-04")
def test_threads_share_an_emitter_and_listeners_hear_the_order_of_the_record() -> None:
    emitted = Listed()
    heard: list[Any] = []
    with EventEmitter(recorder(emitted), min_price_change=None) as emitter:
        emitter.on_all(lambda event: heard.append(event.payload["new_price"]))

        def emit(first: int) -> None:
            for price in range(first, first + 50):
                emitter.emit(priced(price))

        threads = [threading.Thread(target=emit, args=(first,)) for first in (1_000, 2_000, 3_000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [event["aggregate_sequence"] for event in emitted.events] == list(range(1, 151))
    assert heard == [event["payload"]["new_price"] for event in emitted.events]


@pytest.mark.req("S1-04")
def test_a_slow_listener_does_not_hold_up_who_emits() -> None:
    emitted = Listed()
    goes_on = threading.Event()
    heard: list[str] = []

    def slow(event: CatalystEvent) -> None:
        assert goes_on.wait(SECONDS)
        heard.append(event.event_type)

    emitter = EventEmitter(recorder(emitted))
    emitter.on_all(slow)
    emitter.emit(opened())
    emitter.emit(closed())
    assert (len(emitted.events), heard) == (2, [])
    for wait in (emitter.flush, emitter.close):
        with pytest.raises(TradetapeError, match="not told 2 events"):
            wait(0.01)
    goes_on.set()
    emitter.flush(SECONDS)
    assert heard == ["POSITION_OPENED", "POSITION_CLOSED"]


@pytest.mark.req("S1-04", "S1-03")
def test_what_a_listener_emits_follows_the_event_and_is_told_too() -> None:
    emitted = Listed()
    heard: list[str] = []
    with EventEmitter(recorder(emitted)) as emitter:

        def reacts(event: CatalystEvent) -> None:
            emitter.emit(CatalystEvent("POSITION_OPENED", "position", event.aggregate_id, OPENED))

        emitter.on("SIGNAL_GENERATED", reacts)
        emitter.on_all(lambda event: heard.append(f"{event.event_type} {event.aggregate_id}"))
        signals = [
            emitter.emit(CatalystEvent("SIGNAL_GENERATED", "signal", name, {"ticker": "AAPL", "action": "buy"}))
            for name in ("s1", "s2")
        ]
    assert sorted(heard) == [
        f"{kind} {name}" for kind in ("POSITION_OPENED", "SIGNAL_GENERATED") for name in ("s1", "s2")
    ]
    reactions = {event["aggregate_id"]: event for event in emitted.of("position_opened")}
    for signal, name in zip(signals, ("s1", "s2"), strict=True):
        assert signal is not None
        assert (reactions[name]["correlation_id"], reactions[name]["causation_id"]) == (
            signal.correlation_id,
            signal.event_id,
        )


@pytest.mark.req("S1-04")
def test_a_listener_that_wants_to_end_the_process_ends_no_telling(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def leaves(_: CatalystEvent) -> None:
        raise SystemExit(1)

    with EventEmitter(recorder(Listed())) as emitter:
        emitter.on_all(leaves)
        emitter.on_all(lambda event: heard.append(event.event_type))
        emitter.emit(opened())
        emitter.emit(closed())
    assert heard == ["POSITION_OPENED", "POSITION_CLOSED"]
    assert "SystemExit" in caplog.text


@pytest.mark.req("S1-04")
def test_listeners_hear_what_was_emitted_though_the_bot_goes_on_with_its_payload() -> None:
    goes_on = threading.Event()
    heard: list[Any] = []

    def slow(event: CatalystEvent) -> None:
        assert goes_on.wait(SECONDS)
        heard.append(event.payload)

    payload: dict[str, Any] = {**OPENED, "levels": [1, (2, [3])], "more": MappingProxyType({"tags": {"a"}})}
    with EventEmitter(recorder(Listed())) as emitter:
        emitter.on_all(slow)
        emitter.emit(CatalystEvent("POSITION_OPENED", "position", "p", payload))
        payload["ticker"] = "MSFT"
        payload["levels"][1][1].append(4)
        goes_on.set()
    assert heard == [{**OPENED, "levels": [1, (2, [3])], "more": {"tags": {"a"}}}]


@pytest.mark.req("S1-04")
def test_a_listener_cannot_wait_for_itself_and_a_closed_emitter_still_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    emitted = Listed()
    heard: list[str] = []
    with EventEmitter(recorder(emitted)) as emitter:
        emitter.on_all(lambda _: emitter.flush())
        emitter.on_all(lambda _: emitter.close())
        emitter.on_all(lambda event: heard.append(event.event_type))
        emitter.emit(opened())
        emitter.flush(SECONDS)
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [isinstance(error, TradetapeError) and "cannot wait" in error.message for error in errors] == [True, True]
    emitter.close()
    assert emitter.emit(closed()) is not None
    emitter.flush(0)
    assert (len(emitted.events), heard) == (2, ["POSITION_OPENED"])
    with pytest.raises(TradetapeError, match="closed"):
        emitter.on_all(print)


@pytest.mark.req("S1-04")
def test_a_failing_block_keeps_its_error_whatever_the_listeners_do(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untold(timeout: float = 5.0) -> None:
        raise TradetapeError("untold")

    with caplog.at_level(logging.WARNING), pytest.raises(KeyError), EventEmitter(recorder(Listed())) as emitter:
        monkeypatch.setattr(emitter, "close", untold)
        raise KeyError
    assert "untold" in caplog.text
    with pytest.raises(TradetapeError, match="untold"), EventEmitter(recorder(Listed())) as emitter:
        monkeypatch.setattr(emitter, "close", untold)


@pytest.mark.req("S1-04")
def test_listeners_of_a_type_hear_every_spelling_of_it() -> None:
    heard: list[str] = []
    listener = lambda event: heard.append(event.event_type)  # noqa: E731
    emitter = EventEmitter(recorder(Listed()))
    emitter.on("POSITION_OPENED", listener)
    emitter.emit(CatalystEvent("PositionOpened", "position", "p", OPENED))
    emitter.emit(CatalystEvent("position.opened", "position", "p", OPENED))
    emitter.off("positionOpened", listener)
    emitter.emit(opened())
    emitter.close()
    assert heard == ["PositionOpened", "position.opened"]


def submitted(order_id: str) -> CatalystEvent:
    payload = {"order_id": order_id, "ticker": "AAPL", "side": "buy", "quantity": 10, "order_type": "market"}
    return CatalystEvent("ORDER_SUBMITTED", "order", order_id, payload)


def filled(order_id: str) -> CatalystEvent:
    return CatalystEvent("ORDER_FILLED", "order", order_id, {"filled_quantity": 10, "filled_price": 150.25})


ENDS = {
    "order": ["ORDER_FILLED", "ORDER_CANCELLED", "ORDER_REJECTED", "ORDER_EXPIRED"],
    "position": ["POSITION_CLOSED"],
}


@pytest.mark.req("S1-01", "S1-02")
@pytest.mark.parametrize(("aggregate", "ends"), [(kind, end) for kind, ends in ENDS.items() for end in ends])
def test_every_end_makes_an_opening_one_to_be_forgotten(aggregate: str, ends: str) -> None:
    emitter = EventEmitter(recorder(Listed()))
    emitter._aggregates = remembered = Aggregates(most=50, late=20)
    for number in range(200):
        opens = catalyst.OPENERS[aggregate]
        emitter.emit(CatalystEvent(opens, aggregate, f"a{number}", {**OPENED, "ticker": "AAPL"}))
        emitter.emit(CatalystEvent(ends, aggregate, f"a{number}", {"filled_quantity": 1, "filled_price": 1}))
    assert (len(remembered.open), len(remembered.others), len(remembered.ended)) == (0, 50, 20)
    assert sum(kept.opening is not None for kept in remembered.others.values()) == 20


@pytest.mark.req("S1-01", "S1-02")
def test_an_open_position_outlives_any_number_of_orders_and_a_fill_told_under_it() -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    emitter._aggregates = Aggregates(most=10, late=5)
    emitter.emit(opened())
    emitter.emit(CatalystEvent("ORDER_FILLED", "position", "pos_123", {"filled_quantity": 1, "filled_price": 1}))
    for number in range(100):
        emitter.emit(submitted(f"o{number}"))
        emitter.emit(filled(f"o{number}"))
    emitter.emit(closed())
    last = emitted.events[-1]
    assert (last["aggregate_sequence"], last["trading_pair"]) == (3, "AAPL-USD")


@pytest.mark.req("S1-01", "S1-02")
def test_what_comes_after_the_end_of_an_order_still_knows_it_and_goes_on_in_number() -> None:
    emitted = Listed()
    emitter = EventEmitter(recorder(emitted))
    for event in (submitted("o"), filled("o"), filled("o"), CatalystEvent("ORDER_CANCELLED", "order", "o", {})):
        emitter.emit(event)
    assert [(event["event_type"], event["trading_pair"]) for event in emitted.events] == [
        ("order_created", "AAPL-USD"),
        ("order_filled", "AAPL-USD"),
        ("order_filled", "AAPL-USD"),
        ("order_cancelled", "AAPL-USD"),
    ]
    assert [event["aggregate_sequence"] for event in emitted.events] == [1, 2, 3, 4]


@pytest.mark.req("S1-02")
def test_the_least_recently_used_aggregates_are_forgotten_and_none_that_are_used() -> None:
    aggregates = Aggregates(most=3, late=1)
    opening = {"ticker": "AAPL"}

    def advance(key: tuple[str, str], opening: dict[str, Any] | None, *, ends: bool) -> tuple[str, str] | None:
        return aggregates.advance(key, aggregates.get(key), opening, ends=ends)

    keys = [("alert", str(number)) for number in range(4)]
    assert [advance(key, None, ends=False) for key in keys[:3]] == [None] * 3
    assert aggregates.get(keys[0]).number == 1
    assert advance(keys[3], None, ends=False) == keys[1]
    assert [aggregates.get(key).number for key in keys] == [1, 0, 1, 1]

    order, other = ("order", "a"), ("order", "b")
    assert advance(order, opening, ends=False) is None
    assert advance(order, None, ends=True) == keys[0]
    assert (aggregates.get(order).number, aggregates.get(order).opening) == (2, opening)
    advance(order, None, ends=True)
    advance(order, {"ticker": "MSFT"}, ends=False)
    assert (list(aggregates.open), list(aggregates.ended)) == ([order], [])
    advance(order, None, ends=True)
    advance(other, opening, ends=False)
    advance(other, None, ends=True)
    assert (aggregates.get(order).opening, aggregates.get(other).opening) == (None, opening)
    assert (aggregates.get(order).number, list(aggregates.ended)) == (5, [other])


@pytest.mark.req("S1-05")
def test_a_forgotten_position_is_forgotten_by_the_throttle_too() -> None:
    emitter = EventEmitter(recorder(Listed()))
    emitter._aggregates = Aggregates(most=2, late=1)
    for position in range(50):
        assert emitter.emit(CatalystEvent("PRICE_UPDATED", "position", str(position), {"new": 1})) is not None
    assert emitter._throttle is not None
    assert len(emitter._throttle._last) == 2
