"""Times, prices and digits that are not true to life: on the event where it is at fault, else once a source."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import INGEST, Partition, encode, fold
from tests.processors.events import START, created, event, filled

from tradetape.processors.semantics import fidelity

pytestmark = pytest.mark.req("N-07")

MINUTE = 60 * 1_000_000
SOURCE = {"source_id": "store-1", "source_stream": "events"}


def notes(partition: Partition, events: list[dict[str, Any]], code: str) -> list[tuple[str, str, str]]:
    """(status, subject, detail) of the findings of ``code``."""
    outputs = partition.take(map(encode, events))
    found = [f for output in outputs for f in output.audited["findings"] if f["code"] == code]
    return [(f["status"], f["subject"], f["detail"]) for f in found]


def at(minutes: float, **fields: Any) -> dict[str, Any]:
    return event("heartbeat", {"service": "x"}, ts_utc=START + int(minutes * MINUTE) + 1, **{**SOURCE, **fields})


def test_a_clock_that_falls_back_is_found_once_and_followed() -> None:
    partition = Partition()
    back, follows, again = at(3), at(4), at(20)
    events = [at(0), at(10), at(6), back, follows, again, at(14)]
    found = notes(partition, events, "clock_behind")
    assert found == [
        ("opened", back["event_id"], '{"behind_seconds":420}'),
        ("opened", events[-1]["event_id"], '{"behind_seconds":360}'),
    ]


def test_a_clock_is_remembered_after_a_restart_and_written_once_a_minute() -> None:
    partition = Partition()
    notes(partition, [at(10), at(10.2), at(10.9)], "clock_behind")
    key = next(key for key in partition.store if key.startswith(b"0f"))
    kept = partition.store[key]
    notes(partition, [at(10.95)], "clock_behind")
    assert partition.store[key] == kept
    partition.restart()
    assert len(notes(partition, [at(2)], "clock_behind")) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"source_stream": "other"},
        {"source_id": "other"},
        {"instance_name": "bot2"},
        {"environment": "backtest"},
        {"supersedes": "00000000-0000-4000-8000-000000000001"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_only_the_clock_of_one_bot_in_one_stream_falls_back(fields: dict[str, Any]) -> None:
    assert notes(Partition(), [at(10), at(1, **fields)], "clock_behind") == []


def test_a_time_in_the_future_sets_no_clock_and_a_snapshot_tells_an_old_one() -> None:
    partition = Partition()
    ahead = at(0) | {"ts_utc": INGEST + 6 * MINUTE}
    assert len(notes(partition, [at(0), ahead], "clock_ahead")) == 1
    old = event("order_snapshot", {"client_order_id": "a"}, ts_utc=START - 60 * MINUTE, **SOURCE)
    assert notes(partition, [at(1), old, at(2)], "clock_behind") == []


def test_a_source_in_whole_seconds_is_noted_once() -> None:
    whole = [event("heartbeat", {"service": "x"}, ts_utc=START + n * 1_000_000, **SOURCE) for n in range(60)]
    partition = Partition()
    assert notes(partition, whole[:19], "whole_seconds") == []
    partition.restart()
    assert notes(partition, whole[19:], "whole_seconds") == [("noted", "store-1", '{"times":20}')]
    fine = [at(0), *whole]
    assert notes(Partition(), fine, "whole_seconds") == []


@pytest.mark.parametrize(
    ("number", "is_float"),
    [
        ("0.30000000000000004", True),
        ("0.111299999999999996", True),  # what is left of Decimal(0.1113) in 18 decimals
        ("26999.999999999996", True),
        ("0.1113", False),
        ("27000.12345678", False),
        ("1234567890.12345", False),
        ("1.234567890123456789", False),  # eighteen decimals of a token, exactly
        ("0", False),
    ],
)
def test_a_float_shows_in_its_digits(number: str, is_float: bool) -> None:
    assert fidelity.is_float_origin(Decimal(number)) is is_float


@given(st.decimals("-99999", "99999", places=8))
def test_what_an_exchange_prints_is_no_float(number: Decimal) -> None:
    assert not fidelity.is_float_origin(number)


def test_floats_are_noted_once_for_each_key_of_a_source() -> None:
    bad = {"price": "0.30000000000000004", **SOURCE}
    events = [created("a", **bad), created("b", amount="0.7000000000000001", **bad)]
    computed = created("c", price="0.30000000000000004", source_id="other") | {"assumed": ["price"]}
    assert notes(Partition(), [*events, computed], "float_origin") == [
        ("noted", "store-1:price", '{"key":"price","recorded":"0.30000000000000004"}'),
        ("noted", "store-1:amount_base", '{"key":"amount_base","recorded":"0.7000000000000001"}'),
    ]


def test_prices_cut_off_at_six_decimals_are_noted_once_for_each_pair() -> None:
    small = {"source_system": "hummingbot", **SOURCE}
    events = [
        filled("a", price="0.000017", side="buy", **small),
        filled("b", price="0.000018", side="buy", **small),
        filled("c", price="0.000018", side="buy", **small, trading_pair="ALGO-BTC"),
        filled("d", price="0.00001734", side="buy", **small, trading_pair="LRC-BTC"),
        filled("e", price="0.25", side="buy", **small, trading_pair="LRC-USDT"),
        filled("f", price="0.000017", side="buy", source_id="another"),
    ]
    found = notes(Partition(), events, "price_truncated")
    assert [(status, subject) for status, subject, _ in found] == [
        ("noted", "store-1:ONE-USDT"),
        ("noted", "store-1:ALGO-BTC"),
    ]


def test_notes_of_one_source_are_bounded() -> None:
    made = [
        filled(f"o{n}", price="0.000017", side="buy", source_system="hummingbot", **SOURCE, trading_pair=f"A{n}-BTC")
        for n in range(80)
    ]
    assert len(notes(Partition(), made, "price_truncated")) == fidelity.TOLD


def test_findings_on_the_event_keep_their_details() -> None:
    ahead = created("a", price="0", ts_utc=INGEST + 600 * 1_000_000) | {
        "precision_rounded": ["price"],
        "assumed": ["side"],
    }
    (output,) = fold([ahead])
    assert [(f["code"], f["status"], f["detail"]) for f in output.audited["findings"]] == [
        ("precision_rounded", "opened", '{"keys":["price"]}'),
        ("clock_ahead", "opened", '{"ahead_seconds":600}'),
        ("zero_price", "opened", "{}"),
        ("value_assumed", "noted", '{"keys":["side"]}'),
    ]


def test_a_control_record_is_nobodys_clock() -> None:
    gap = event("system_gap", {"stream": "events", "reason": "trimmed"}, ts_utc=START - 60 * MINUTE, **SOURCE)
    partition = Partition()
    assert notes(partition, [at(1), gap], "clock_behind") == []
    assert sum(key.startswith(b"0f") for key in partition.store) == 1
