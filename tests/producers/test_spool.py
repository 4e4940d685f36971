"""The disk spool: what it accepted arrives, in order, whatever fails; what it refused is told."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.producers.support import Listed
from tests.support import eventually

from tradetape.producers.emitter import EventTooLarge
from tradetape.producers.spool import NotYet, Spool, SpoolFull
from tradetape.producers.spool import log as files
from tradetape.schemas import envelope_json
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.rules import REQUIRED_KEYS

pytestmark = pytest.mark.req("P-07")

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECONDS = 20.0


def document(position: int, **more: Any) -> dict[str, Any]:
    """The envelope of a small event of bot ``b`` at ``position``."""
    event_id = f"00000000-0000-4000-8000-{position:012d}"
    return {
        **dict.fromkeys(REQUIRED_KEYS, ""),
        "event_id": event_id,
        "event_type": "state_snapshot",
        "event_version": "v1",
        "ts_utc": "2024-05-01T12:00:00Z",
        "producer": "p",
        "instance_name": "b",
        "correlation_id": event_id,
        "source_id": "run",
        "source_stream": "sdk",
        "source_position": position,
        "payload": {"state": "running", "equity_quote": "12.50"},
        **more,
    }


def away() -> Listed:
    raise TradetapeError("Kafka is away")


class Switched(Listed):
    """Kafka that a test switches on and off; while off it keeps what is sent, and acknowledges nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.on = threading.Event()

    def flush(self, timeout: float = 60.0) -> None:
        if not self.on.wait(min(timeout, 0.05)):
            raise NotYet("nothing acknowledged")
        super().flush(timeout)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Spool]]:
    """Makes spools in one folder, with a fixed clock and numbered ids; closes them."""
    made: list[Spool] = []
    numbers = count(1)

    def new(**options: Any) -> Spool:
        new_id = lambda: f"11111111-0000-4000-8000-{next(numbers):012d}"  # noqa: E731
        spool = Spool(tmp_path / "spool", **({"clock": lambda: NOW, "new_id": new_id, "name": "b"} | options))
        made.append(spool)
        return spool

    yield new
    for spool in made:
        spool.close(0)


def positions(emitter: Listed) -> list[int]:
    return [event["source_position"] for event in emitter.events if event["event_type"] != "system_gap"]


def fill(spool: Spool, first: int) -> int:
    """Append until the spool refuses, from position ``first``; returns the position refused."""
    for position in count(first):
        try:
            spool.append(document(position))
        except SpoolFull:
            return position
    raise AssertionError


def test_events_are_accepted_without_kafka_and_arrive_in_order_when_it_is_there(make: Callable[..., Spool]) -> None:
    spool, emitter, there = make(), Listed(), threading.Event()
    spool.start(lambda: emitter if there.is_set() else away())
    for position in range(1, 301):
        spool.append(document(position))
    assert eventually(lambda: spool.health().last_error) == "Kafka is away"
    assert (spool.health().accepted, spool.health().acknowledged, spool.health().connected) == (300, 0, False)
    with pytest.raises(TradetapeError, match="kept and sent later"):
        spool.flush(0.01)
    there.set()
    spool.flush(SECONDS)
    assert [event["source_position"] for event in emitter.acknowledged] == list(range(1, 301))
    assert emitter.events[0]["payload"]["equity_quote"] == Decimal("12.5")
    assert eventually(lambda: spool.health().last_error == "")
    assert (spool.health().acknowledged, spool.health().waiting_bytes) == (300, 0)


def test_a_restart_sends_what_was_left_first(make: Callable[..., Spool]) -> None:
    left = make()
    for position in (1, 2, 3):
        left.append(document(position))
    assert left.close(0) > 0
    spool, emitter = make(), Listed()
    spool.append(document(4))
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    assert positions(emitter) == [1, 2, 3, 4]
    assert spool.close() == 0
    assert {path.name for path in spool.folder.iterdir()} == {"lock", "cursor.json"}
    again, nothing = make(), Listed()
    again.start(lambda: nothing)
    again.append(document(5))
    again.flush(SECONDS)
    assert positions(nothing) == [5]


def test_a_full_spool_refuses_at_once_counts_and_tells_when_there_is_room(make: Callable[..., Spool]) -> None:
    spool, emitter = make(max_bytes=20_000), Switched()
    spool.start(lambda: emitter)
    refused = fill(spool, 1)
    for _ in range(4):
        with pytest.raises(SpoolFull, match="no room"):
            spool.append(document(refused))
    with pytest.raises(SpoolFull):
        spool.append(document(refused, instance_name="other"))
    assert spool.health().refused == 6
    assert sum(path.stat().st_size for path in spool.folder.glob("*.spool")) <= 20_000
    emitter.on.set()
    spool.flush(SECONDS)
    spool.append(document(refused))
    spool.flush(SECONDS)
    assert positions(emitter) == list(range(1, refused + 1))
    kinds = [event["event_type"] for event in emitter.events]
    gaps = emitter.of("system_gap")
    assert kinds.index("system_gap") < len(kinds) - 1, "told before the next accepted event"
    assert [(gap["instance_name"], gap["payload"]["count"]) for gap in gaps] == [("b", 5), ("other", 1)]
    assert gaps[0]["payload"] == {
        "stream": "sdk",
        "reason": "spool_full",
        "count": 5,
        "first": "2024-05-01T12:00:00.000000Z",
        "last": "2024-05-01T12:00:00.000000Z",
        "detail": "5 × no room",
    }
    assert (gaps[0]["source_id"], gaps[0]["source_position"], gaps[0]["producer"]) == ("run", None, "p")


def test_space_comes_back_while_the_spool_is_drained(make: Callable[..., Spool]) -> None:
    spool, emitter = make(max_bytes=8_000), Listed()
    spool.start(lambda: emitter)
    for position in range(1, 101):
        spool.append(document(position))
        if position % 5 == 0:
            spool.flush(SECONDS)
    assert positions(emitter) == list(range(1, 101))


def test_events_nearly_half_as_large_as_the_spool_go_through_one_by_one(make: Callable[..., Spool]) -> None:
    spool, emitter = make(max_bytes=8_000), Switched()
    spool.start(lambda: emitter)

    def large(position: int) -> dict[str, Any]:
        return document(position, payload={"state": "running", "more": "x" * 3_450})

    assert [spool.append(large(position)) for position in (1, 2)] == [None, None]
    with pytest.raises(SpoolFull):
        spool.append(large(3))
    emitter.on.set()
    for position in (3, 4, 5):

        def accepted(position: int = position) -> bool:
            try:
                spool.append(large(position))
            except SpoolFull:
                return False
            return True

        eventually(accepted, SECONDS)
    spool.flush(SECONDS)
    assert positions(emitter) == [1, 2, 3, 4, 5]
    with pytest.raises(TradetapeError, match="larger than the spool") as found:
        spool.append(document(6, payload={"state": "x" * 4_000}))
    assert not isinstance(found.value, SpoolFull)


def test_what_was_refused_is_told_by_the_next_process_too(make: Callable[..., Spool]) -> None:
    spool, emitter = make(max_bytes=20_000), Switched()
    spool.start(lambda: emitter)
    spool.append(document(1))
    eventually(lambda: spool.health().last_error == "nothing acknowledged", SECONDS)
    refused = fill(spool, 2)
    eventually((spool.folder / "refused.json").exists, SECONDS)
    spool.close(0)
    again, there = make(max_bytes=20_000), Listed()
    again.start(lambda: there)
    again.flush(SECONDS)
    assert eventually(lambda: again.close(SECONDS) == 0)
    assert positions(there) == list(range(1, refused))
    assert [gap["payload"]["count"] for gap in there.of("system_gap")] == [1]
    assert not (spool.folder / "refused.json").exists()


@pytest.mark.req("P-06")
def test_a_disk_that_takes_half_a_record_keeps_none_of_it(make: Callable[..., Spool]) -> None:
    spool, emitter = make(), Listed()
    spool.append(document(1))
    (segment,) = spool.folder.glob("*.spool")
    before = segment.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(SpoolFull, match="File too large"):
            spool.append(document(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert segment.read_bytes() == before
    spool.append(document(2))
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    assert [event["event_type"] for event in emitter.events] == ["state_snapshot", "system_gap", "state_snapshot"]
    assert emitter.events[1]["payload"]["detail"] == "1 × File too large"


def test_a_write_that_hangs_holds_no_other_caller_up(
    make: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, emitter = make(), Listed()
    hangs, goes_on = threading.Event(), threading.Event()
    write = os.write

    def slow(descriptor: int, data: bytes) -> int:
        hangs.set()
        assert goes_on.wait(SECONDS)
        return write(descriptor, data)

    monkeypatch.setattr(files.os, "write", slow)
    first = threading.Thread(target=spool.append, args=(document(1),))
    first.start()
    assert hangs.wait(SECONDS)
    with pytest.raises(SpoolFull, match="in time"):
        spool.append(document(2))
    assert first.is_alive()
    goes_on.set()
    first.join()
    spool.append(document(2))
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    assert positions(emitter) == [1, 2]
    assert [gap["payload"]["count"] for gap in emitter.of("system_gap")] == [1]


def test_damage_is_told_loudly_and_what_follows_is_read(
    make: Callable[..., Spool], caplog: pytest.LogCaptureFixture
) -> None:
    left = make()
    for position in (1, 2, 3):
        left.append(document(position))
    left.close(0)
    (segment,) = left.folder.glob("*.spool")
    content = bytearray(segment.read_bytes())
    start = content.index(b"\xf5\xfe\xff", 1)
    content[start + 200] ^= 1
    segment.write_bytes(content)
    spool, emitter = make(), Listed()
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    assert positions(emitter) == [1, 3]
    gap = emitter.events[1]
    assert (gap["event_type"], gap["payload"]["reason"], gap["payload"]["count"]) == (
        "system_gap",
        "spool_damaged",
        None,
    )
    assert gap["payload"]["first"] == f"{segment.name}:{start}"
    assert gap["instance_name"] == "b"
    assert f"{segment}: " in caplog.text
    assert f"at offset {start} are damaged" in caplog.text
    assert spool.health().damaged == 1
    assert segment.with_suffix(".damaged").read_bytes() == content


@pytest.mark.parametrize("content", ["", "{", "[]", '{"segment": 1}'])
def test_without_its_cursor_everything_comes_again_and_nothing_is_left_out(
    content: str, make: Callable[..., Spool]
) -> None:
    spool, emitter = make(), Listed()
    spool.start(lambda: emitter)
    for position in (1, 2):
        spool.append(document(position))
    spool.flush(SECONDS)
    spool.append(document(3))
    spool.flush(SECONDS)
    spool._log.forget()  # as a kill would: the segment stays
    spool._drain.stop(SECONDS)
    (spool.folder / "cursor.json").write_text(content)
    again, repeats = make(), Listed()
    again.start(lambda: repeats)
    again.append(document(4))
    again.flush(SECONDS)
    assert positions(repeats) == [1, 2, 3, 4]
    spool._closed = "is closed"


@pytest.mark.req("P-06")
def test_an_emitter_that_fails_is_replaced_and_nothing_is_left_out(make: Callable[..., Spool]) -> None:
    spool = make()
    for position in range(1, 11):
        spool.append(document(position))
    breaking, sound = Listed(fail_after=4), Listed()
    emitters = iter([breaking, sound])
    spool.start(lambda: next(emitters))
    spool.flush(SECONDS)
    assert (positions(breaking), breaking.acknowledged) == ([1, 2, 3, 4], [])
    assert positions(sound) == list(range(1, 11))


@pytest.mark.req("P-08")
def test_a_record_that_is_no_event_stops_none_behind_it(make: Callable[..., Spool]) -> None:
    class Picky(Listed):
        def emit(self, event: dict[str, Any], event_type_name: str) -> None:
            if event["source_position"] == 5 and event_type_name != "unmapped_record":
                raise ValueError("does not fit the schema")
            if event["assumed"]:
                raise EventTooLarge("too large whatever is left out")
            super().emit(event, event_type_name)

    spool, emitter = make(), Picky()
    poison = [
        document(1, event_type="source_ended", payload={"rows": {}, "events": {}}),
        document(2, event_type="unmapped_record"),
        document(3, ts_utc="noon", payload=None),
        document(4, payload={"state": "\ud800", "huge": 10**300, "odd": float("nan")}),
        document(5),
        {"nothing": "of an envelope", "deep": [[[[]]]]},
        document(6, assumed=["x"] * 10),
    ]
    for bad in poison:
        spool.append(bad)
    spool.append(document(7))
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    assert [event["event_type"] for event in emitter.events] == ["unmapped_record"] * 7 + ["state_snapshot"]
    for bad, event in zip(poison, emitter.events, strict=False):
        native = json.loads(event["native"])
        assert native.keys() == bad.keys()
        assert native.get("payload") == bad.get("payload") or "nan" in str(bad).lower()
    assert emitter.events[0]["payload"]["error"] == "source_ended is Tradetape's own to write"
    assert {v.code for v in envelope_json.read(emitter.events[3]["native"], source_id="run").violations} == {
        "text_invalid"
    }
    assert b'"odd":NaN' in emitter.events[3]["native"]
    assert emitter.events[6]["instance_name"] == "b"


def test_numbers_that_are_none_stay_what_they_were(make: Callable[..., Spool]) -> None:
    spool, emitter = make(), Listed()
    spool.append(document(1, payload={"state": "running", "odd": [float("nan")], "none": None, "half": 0.5}))
    spool.append(document(2, payload={"state": "running", "equity_quote": float("-inf")}))
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    assert json.loads(emitter.events[0]["extra"]) == {"odd": ["NaN"], "none": None, "half": "0.5"}
    assert emitter.events[1]["payload"]["error"].startswith("number_invalid: equity_quote")


def test_what_json_cannot_hold_is_refused_at_once(make: Callable[..., Spool]) -> None:
    spool = make()
    circular: dict[str, Any] = {}
    circular["again"] = circular
    for value in (object(), {1, 2}, circular, {(1, 2): 3}):
        with pytest.raises(TradetapeError, match="JSON cannot"):
            spool.append(document(1, payload={"x": value}))
    assert spool.health().accepted == 0


def test_a_mapping_of_ones_own_decides_what_is_sent(make: Callable[..., Spool]) -> None:
    from functools import partial

    from tradetape.producers.spool import to_event

    emitter = Listed()
    spool = make(to_event=partial(to_event, ingest_source="http", keep_native=True))
    spool.append(document(1, payload={"state": "running", "equity_quote": Decimal("1E-7")}))
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    (event,) = emitter.events
    assert event["ingest_source"] == "http"
    assert json.loads(event["native"])["payload"]["equity_quote"] == "0.0000001"


def test_a_closed_spool_takes_nothing(make: Callable[..., Spool]) -> None:
    spool = make()
    spool.close(0)
    spool.close(0)
    with pytest.raises(TradetapeError, match="is closed"):
        spool.append(document(1))
    with pytest.raises(TradetapeError, match="is closed"):
        spool.start(away)
    with pytest.raises(TradetapeError, match="was not started"):
        spool.flush(0)


def test_a_forked_process_leaves_the_spool_to_its_parent(make: Callable[..., Spool]) -> None:
    spool, emitter = make(), Listed()
    spool.append(document(1))
    child = os.fork()
    if child == 0:
        try:
            spool.append(document(2))
        except TradetapeError as error:
            os._exit(7 if "forked" in error.message else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with pytest.raises(TradetapeError, match="in use"):
        make()
    spool.append(document(2))
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    assert positions(emitter) == [1, 2]


def test_fsync_comes_before_acceptance(make: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def failing(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", failing)
    spool, emitter = make(fsync=True), Listed()
    spool.append(document(1))
    with pytest.raises(SpoolFull, match="Input/output"):
        spool.append(document(2))
    spool.start(lambda: emitter)
    spool.flush(SECONDS)
    assert positions(emitter) == [1]
    assert len(synced) >= 2


def test_troubles_are_warned_of_now_and_then(make: Callable[..., Spool], caplog: pytest.LogCaptureFixture) -> None:
    calls = threading.Semaphore(0)

    def refusing() -> Listed:
        calls.release()
        return away()

    with caplog.at_level(logging.WARNING, "tradetape.spool"):
        spool = make()
        spool.append(document(1))
        spool.start(refusing)
        for _ in range(3):
            assert calls.acquire(timeout=SECONDS)
        spool.close(0)
    assert [record.getMessage() for record in caplog.records] == [f"the spool {spool.folder} waits: Kafka is away"]


def test_a_fault_in_the_drain_is_told_and_tried_again(
    make: Callable[..., Spool], caplog: pytest.LogCaptureFixture
) -> None:
    emitter = Listed()
    faults = iter([RuntimeError("a fault"), None])

    def connect() -> Listed:
        fault = next(faults)
        if fault is not None:
            raise fault
        return emitter

    spool = make()
    spool.append(document(1))
    spool.start(connect)
    spool.flush(SECONDS)
    assert positions(emitter) == [1]
    assert "RuntimeError: a fault" in caplog.text
