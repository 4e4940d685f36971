"""The SDK: chains, numbering, exact numbers, and evidence of what broke the contract."""

from __future__ import annotations

import inspect
import json
import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.producers.support import Listed
from tests.support import eventually

from tradetape.producers import events, unmapped
from tradetape.producers.emitter import OVERHEAD_BYTES
from tradetape.producers.recorder import Recorded, Recorder
from tradetape.producers.sdk.chains import following
from tradetape.producers.spool import Spool, SpoolFull, to_event
from tradetape.schemas import envelope_json
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.rules import REASONS
from tradetape.schemas.topics import MAX_EVENT_BYTES

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECONDS = 20.0
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


@pytest.mark.req("S3-02", "S1-03")
def test_a_chain_is_carried_along(recorder: Recorder, emitter: Listed) -> None:
    with following(recorder.order_created(**CREATED)) as order:
        recorder.order_cancelled(client_order_id="c1")
        recorder.state_snapshot(state="running", correlation_id="apart")
    recorder.state_snapshot(state="running")
    links = [(event["correlation_id"], event["causation_id"]) for event in emitter.events[1:]]
    own = emitter.events[3]["event_id"]
    assert links == [(order.correlation_id, order.event_id), ("apart", None), (own, None)]


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
def test_methods_are_typed_after_their_event_types() -> None:
    typed = {name: event_type for name, event_type in event_types().items() if hasattr(Recorder, name)}
    assert typed.keys() >= {
        "order_created",
        "order_cancelled",
        "order_failed",
        "order_filled",
        "risk_decision",
        "state_snapshot",
    }
    for event_type in typed.values():
        assert not event_type.control
        explicit = inspect.signature(getattr(Recorder, event_type.name)).parameters.keys() - {"self", "more"}
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


Record = Callable[[Recorder], Recorded]

FILLED: dict[str, Any] = {
    "client_order_id": "c1",
    "fill_price": "1",
    "fill_qty_base": 1,
    "fill_qty_quote": Decimal("1E+3"),
    "fee_asset": "X",
    "fee_amount": Decimal("-0"),
}


class Side(StrEnum):
    BUY = "buy"


def outcome(record: Record, spool: Path | None) -> tuple[list[dict[str, Any]], object]:
    """The events that ``record`` becomes, through a spool or not, and what it returned or the error it raised."""
    emitter, ids = Listed(), numbered()
    options: dict[str, Any] = {"clock": lambda: NOW, "new_id": lambda: next(ids)}
    who = {"instance_name": "bot1", "producer": "strategy", "connector_name": "kucoin", "trading_pair": "BTC-USDT"}
    if spool is None:
        recorder = Recorder(**who, emitter=emitter, **options)
    else:
        shared = Spool(spool)
        shared.start(lambda: emitter)
        recorder = Recorder(**who, spool=shared, **options)
    found: object
    try:
        found = record(recorder)
    except (TradetapeError, TypeError) as error:
        found = (type(error), str(error))
    if spool is not None:
        recorder.flush(SECONDS)
        assert shared.close() == 0
    return emitter.events, found


def same(record: Record) -> list[dict[str, Any]]:
    """Assert that ``record`` is recorded alike with and without a spool, and return the events."""
    with TemporaryDirectory() as folder:
        direct, spooled = outcome(record, None), outcome(record, Path(folder))
    assert spooled[1] == direct[1]
    for event in (*direct[0], *spooled[0]):
        if event["event_type"] == "unmapped_record":
            # One tells of values, the other of their text; a time that is none is left to the processor.
            error = event["payload"]["error"]
            event["payload"]["error"] = [code for code in REASONS if f"{code}: " in error]
            event["native"] = sorted(json.loads(event["native"]))
            event["ts_utc"] = 0 if "ts_utc" in error else event["ts_utc"]
    assert spooled[0] == direct[0]
    return spooled[0]


@pytest.mark.req("P-07")
@pytest.mark.parametrize(
    "record",
    [
        lambda r: r.order_created(**CREATED, leverage=5, tags=["a"], ratio=0.5, none=None, exact=Decimal("1.50")),
        lambda r: r.order_created(**{**CREATED, "amount_base": Decimal("0.1234567890123456785"), "side": Side.BUY}),
        lambda r: r.order_cancelled(client_order_id="c1", follows=r.order_created(**CREATED)),
        lambda r: r.order_created(**{**CREATED, "side": "long", "price": None}),
        lambda r: r.order_created(**{**CREATED, "price": 27000.5}),
        lambda r: r.order_status(client_order_id="c1", status="x", ts_utc="noon"),
        lambda r: r.order_status(client_order_id="c1", status="x", ts_utc=NOW.replace(tzinfo=None)),
        lambda r: r.order_status(
            client_order_id="c1", status="x", ts_utc=1_714_564_800_123_456, account="a", owner="o"
        ),
        lambda r: r.order_status(client_order_id="c1", status="x", event_id="order-7", correlation_id="signal-7"),
        lambda r: r.order_status(client_order_id="c1", status="x", event_id="{" + "0" * 32 + "}"),
        lambda r: r.order_status(client_order_id="c1", status="\ud800"),
        lambda r: r.order_status(client_order_id="c1", status="x", big=2**70, odd=float("nan"), when=NOW),
        lambda r: r.record("order_status", {"client_order_id": "c1", "status": "x"}, connector_name="x_paper_trade"),
        lambda r: r.record("order_status", {"client_order_id": "c1", "status": "x"}, nonsense=1),
        lambda r: r.record("order_status", {7: "c1"}),
        lambda r: r.record("source_ended", {}),
        lambda r: r.record("heartbeat", {"service": "s", "uptime_seconds": Decimal("7.0")}),
        lambda r: r.record("heartbeat", {"service": "s", "uptime_seconds": Decimal("7.5")}),
        lambda r: r.order_filled(**FILLED, executed_ts_utc=1_714_564_800_000_000),
        lambda r: r.record("order_filled", {"executed_ts_utc": NOW, "other_fees": [{"asset": "X", "amount": 7}]}),
        lambda r: r.order_filled(**FILLED, other_fees=[{"asset": "Y", "amount": Decimal("0.10")}]),
    ],
)
def test_a_spool_changes_nothing_of_what_is_recorded(record: Record) -> None:
    same(record)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=20),
    st.decimals(),
    st.floats(),
    st.lists(st.decimals(allow_nan=False), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
KEYS = st.sampled_from(["client_order_id", "side", "price", "amount_base", "is_live", "more", "other"])


@pytest.mark.req("P-07", "P-08")
@settings(max_examples=100)
@given(st.dictionaries(KEYS, VALUES))
def test_a_spool_changes_nothing_whatever_the_payload(payload: dict[str, Any]) -> None:
    assume(not isinstance(payload.get("client_order_id"), Decimal))  # text in a spool: as the contract writes decimals
    assume(not isinstance(payload.get("side"), Decimal))
    same(lambda r: r.record("order_created", CREATED | payload))


@pytest.mark.req("P-07")
def test_values_that_json_cannot_hold_are_refused_before_the_spool(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        recorder = Recorder(instance_name="b", producer="p", spool=spool)
        for more in ({"more": object()}, {"more": b"bytes"}, {"more": 10**2000}, {"native": b"{}"}):
            with pytest.raises(TradetapeError):
                recorder.record(
                    "order_status",
                    {"client_order_id": "c1", "status": "x"} | more,
                    **({"native": b"{}"} if "native" in more else {}),
                )
        assert spool.health().accepted == 0


@pytest.mark.req("P-07")
def test_positions_reach_the_spool_in_order_from_many_threads(tmp_path: Path) -> None:
    emitter = Listed()
    spool = Spool(tmp_path, max_wait=SECONDS)
    recorder = Recorder(instance_name="b", producer="p", spool=spool)

    def record() -> None:
        for _ in range(200):
            recorder.state_snapshot(state="running")

    threads = [Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.start(lambda: emitter)
    recorder.flush(SECONDS)
    spool.close()
    assert [event["source_position"] for event in emitter.events] == list(range(1, 801))
    assert [event["sequence"] for event in emitter.events] == list(range(1, 801))
    assert len({event["event_id"] for event in emitter.events}) == 800


@pytest.mark.req("P-07")
def test_a_refused_event_takes_no_number(tmp_path: Path) -> None:
    emitter = Listed()
    with Spool(tmp_path, max_bytes=3_000) as spool:
        recorder = Recorder(instance_name="b", producer="p", spool=spool)
        with pytest.raises(SpoolFull):
            for _ in range(100):
                recorder.state_snapshot(state="running")
        spool.start(lambda: emitter)
        recorder.flush(SECONDS)
        eventually(lambda: emitter.of("system_gap"))
        recorder.state_snapshot(state="running")
        recorder.flush(SECONDS)
    numbers = [event["sequence"] for event in emitter.events if event["event_type"] != "system_gap"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert emitter.of("system_gap")[0]["payload"]["count"] == 1
    assert emitter.of("system_gap")[0]["run_id"] == recorder.run_id


@pytest.mark.req("P-07")
def test_a_recorder_with_a_folder_needs_no_kafka_and_leaves_its_events_to_the_next(tmp_path: Path) -> None:
    nowhere = {"bootstrap_servers": "127.0.0.1:1", "registry_url": "http://127.0.0.1:1"}
    with Recorder(instance_name="b", producer="p", spool=tmp_path, **nowhere) as recorder:
        recorder.state_snapshot(state="running")
        with pytest.raises(TradetapeError, match="kept and sent later"):
            recorder.flush(0.01)
        recorder.close(0)
    emitter = Listed()
    with Spool(tmp_path) as spool:
        spool.start(lambda: emitter)
        spool.flush(SECONDS)
    assert [event["run_id"] for event in emitter.events] == [recorder.run_id]


def test_a_recorder_takes_one_way() -> None:
    with pytest.raises(TradetapeError, match="emitter or a spool"):
        Recorder(instance_name="b", producer="p", emitter=Listed(), spool=Path("nowhere"))
    with pytest.raises(TradetapeError, match="bootstrap_servers"):
        Recorder(instance_name="b", producer="p", spool=Path("nowhere"))


def test_ids_are_uuids_of_version_4() -> None:
    from tradetape.producers import recorder

    for _ in range(100):
        made = recorder._new_id()
        assert (str(UUID(made)), UUID(made).version, UUID(made).variant) == (made, 4, "specified in RFC 4122")


@pytest.mark.req("S3-01")
def test_ids_differ_in_a_forked_process_and_in_a_bot_that_seeds_random() -> None:
    from tradetape.producers import recorder

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, recorder._new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    made = {os.read(reading, 36).decode()}
    os.close(reading)
    os.close(writing)
    for _ in range(2):
        random.seed(1)
        made.add(recorder._new_id())
    assert len(made) == 3


@pytest.mark.req("P-07")
@pytest.mark.parametrize("zone", [UTC, ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), None])
@pytest.mark.parametrize("microsecond", [0, 7])
@pytest.mark.parametrize("status", ["x", "\ud800"])
def test_times_are_written_as_isoformat_does(
    zone: tzinfo | None, microsecond: int, status: str, tmp_path: Path
) -> None:
    moment = datetime(2024, 5, 1, 12, 0, 0, microsecond, tzinfo=zone)
    bodies: list[bytes] = []
    with Spool(tmp_path, to_event=lambda body: bodies.append(body) or to_event(body)) as spool:
        spool.start(Listed)
        recorder = Recorder(instance_name="b", producer="p", spool=spool)
        recorder.order_status(client_order_id="c1", status=status, ts_utc=moment)
        recorder.flush(SECONDS)
    assert [json.loads(body)["ts_utc"] for body in bodies] == [moment.isoformat()]
