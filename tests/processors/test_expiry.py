"""What a partition forgets, when, and that it says so; and that it stays small however long the stream."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import INGEST, Partition, encode, open_findings
from tests.processors.events import created, ended, event, filled
from tests.processors.test_correlation import fill, order, position, priced, requested, signal

from tradetape.processors import expiry
from tradetape.processors.core import Output
from tradetape.processors.expiry import PER_EVENT, Expiring
from tradetape.processors.horizons import Horizons
from tradetape.processors.state import PartitionState

SECOND = 1_000_000
SHORT = Horizons(
    bucket=10 * SECOND,
    closed_order=60 * SECOND,
    open_order=300 * SECOND,
    link=60 * SECOND,
    cause=30 * SECOND,
    seen_id=60 * SECOND,
    history=120 * SECOND,
)


class Thing(Expiring):
    KEY: ClassVar[str] = "T"

    def lasts(self, horizons: Horizons) -> int:
        return 60 * SECOND

    def called(self) -> str:
        return "thing"


KINDS = {Thing.KEY: Thing}


def told(outputs: Iterable[Output]) -> Counter[str]:
    """What was said to be forgotten, by kind."""
    counts: Counter[str] = Counter()
    for output in outputs:
        for found in output.audited["findings"]:
            if found["code"] == "state_expired":
                assert found["status"] == "noted"
                detail = json.loads(found["detail"])
                counts[detail["kind"]] += detail["count"]
    return counts


def at(partition: Partition, seconds: float, *events: dict[str, Any]) -> list[Output]:
    partition.now = INGEST + int(seconds * SECOND)
    return partition.take(encode(each) for each in events)


def tick() -> dict[str, Any]:
    return event("market_price", {"price": "2"})


def kept(partition: Partition, kind: bytes) -> int:
    return sum(1 for key in partition.store if key[1:2] == kind)


def test_a_record_is_kept_for_its_horizon_and_forgotten_within_two_buckets_of_it() -> None:
    state = PartitionState(0, {}, SHORT)
    expiry.touch(state, Thing(), INGEST, "a")
    for seconds in range(0, 61, 5):
        expiry.work_off(state, INGEST + seconds * SECOND, KINDS)
        assert state.find(Thing, "a") is not None
    assert expiry.work_off(state, INGEST + 80 * SECOND, KINDS) == {"thing": 1}
    assert state.find(Thing, "a") is None


def test_a_record_that_is_touched_lives_on_and_has_one_entry() -> None:
    state = PartitionState(0, {}, SHORT)
    for seconds in range(0, 600, 7):
        expiry.work_off(state, INGEST + seconds * SECOND, KINDS)
        expiry.touch(state, state.get(Thing, "a"), INGEST + seconds * SECOND, "a")
    assert sum(1 for key, value in state.changes() if key[1:2] == b"d" and value is not None) == 1
    assert state.find(Thing, "a") is not None


def test_one_event_forgets_few_and_all_are_forgotten_in_the_end() -> None:
    state = PartitionState(0, {}, SHORT)
    names = [str(number) for number in range(10 * PER_EVENT)]
    for name in names:
        expiry.touch(state, Thing(), INGEST, name)
    counts: Counter[str] = Counter()
    for number in range(1, 30):
        before = sum(1 for name in names if state.find(Thing, name) is not None)
        counts.update(expiry.work_off(state, INGEST + 200 * SECOND, KINDS))
        after = sum(1 for name in names if state.find(Thing, name) is not None)
        assert before - after <= PER_EVENT, number
    assert counts == {"thing": len(names)}


def test_time_that_runs_backwards_forgets_nothing_early_and_leaves_nothing_behind() -> None:
    state = PartitionState(0, {}, SHORT)
    expiry.work_off(state, INGEST + 500 * SECOND, KINDS)
    expiry.touch(state, Thing(), INGEST, "a")
    assert state.find(Thing, "a") is not None
    counts: Counter[str] = Counter()
    for seconds in range(500, 1_000, 10):
        counts.update(expiry.work_off(state, INGEST + seconds * SECOND, KINDS))
    assert counts == {"thing": 1}


@pytest.mark.req("P-02")
def test_positions_that_open_and_close_again_and_again_have_one_entry() -> None:
    partition = Partition(horizons=SHORT)
    for number in range(60):
        entry = filled(f"o{number}", side="buy") | {"ts_utc": INGEST + number * 20 * SECOND}
        entry["payload"]["purpose"] = "entry"
        leaving = filled(f"p{number}", side="sell") | {"ts_utc": INGEST + number * 20 * SECOND + 1}
        leaving["payload"]["purpose"] = "exit"
        at(partition, number * 20, *[tick() for _ in range(9)], entry, leaving)
    entries = [value for key, value in partition.store.items() if key[1:2] == b"d"]
    assert sum(msgspec.msgpack.decode(entry)[0] == "X" for entry in entries) == 1


def test_a_record_that_is_touched_by_the_event_that_forgot_it_is_forgotten_later() -> None:
    state = PartitionState(0, {}, SHORT)
    thing = Thing()
    expiry.touch(state, thing, INGEST, "a")
    assert expiry.work_off(state, INGEST + 80 * SECOND, KINDS) == {"thing": 1}
    expiry.touch(state, thing, INGEST + 80 * SECOND, "a")
    assert expiry.work_off(state, INGEST + 200 * SECOND, KINDS) == {"thing": 1}


@pytest.mark.req("P-02", "P-04")
def test_an_ended_order_is_forgotten_before_an_open_one_and_both_are_told() -> None:
    partition = Partition(horizons=SHORT)
    outputs = at(partition, 0, created("a"), created("b"), ended("a", "order_cancelled"))
    outputs += at(partition, 100, tick())
    assert told(outputs)["order"] == 1 and "open order" not in told(outputs)
    assert kept(partition, b"o") == 1
    outputs += at(partition, 350, tick())
    assert told(outputs)["open order"] == 1
    assert kept(partition, b"o") == 0


@pytest.mark.req("P-04")
def test_what_comes_after_an_order_was_forgotten_is_without_an_order() -> None:
    partition = Partition(horizons=SHORT)
    outputs = at(partition, 0, created("a"), ended("a", "order_cancelled"))
    outputs += at(partition, 100, tick())
    outputs += at(partition, 101, filled("a", side="buy"))
    assert open_findings(outputs)["fill_without_order"] == 1


@pytest.mark.req("N-01")
def test_an_unresolved_link_that_nothing_came_for_is_told_when_it_is_given_up() -> None:
    partition = Partition(horizons=SHORT)
    lost = fill()
    outputs = at(partition, 0, lost)
    outputs += at(partition, 100, tick())
    assert told(outputs)["unresolved link"] == 1
    outputs += at(partition, 101, order(request=None))
    assert not outputs[-1].derived
    assert open_findings(outputs)["link_unresolved"] == 1


@pytest.mark.req("N-01")
def test_a_chain_that_is_used_lives_on() -> None:
    partition = Partition(horizons=SHORT)
    root = position(signal_id=None)
    at(partition, 0, root)
    for seconds in range(10, 300, 10):
        (output,) = at(partition, seconds, priced())
        assert output.audited["correlation_id"] == root["event_id"]


@pytest.mark.req("S1-02")
def test_a_history_that_ended_is_forgotten_and_that_of_a_whole_source_is_not() -> None:
    def numbered(number: int, **fields: Any) -> dict[str, Any]:
        return event("system_started", {}, sequence=number, source_id="s", **fields)

    partition = Partition(horizons=SHORT)
    outputs = at(partition, 0, numbered(1, run_id="r"), numbered(1))
    outputs += at(partition, 300, tick(), numbered(2))
    assert told(outputs)["history"] == 1
    assert kept(partition, b"n") == 1
    assert "sequence_gap" not in open_findings(outputs)


def endless(start: int = 0) -> Iterator[tuple[float, dict[str, Any]]]:
    """Decisions of a source without chains, each with ids of its own; some orders stay open, some fills stay lost."""
    number = start
    while True:
        name, second = str(number), number * 2.0
        yield second, fill(f"lost-{name}")
        yield second, signal(name)
        yield second, requested(name, evaluation=f"none-{name}")
        yield second, order(name, request=name, aggregate_type="order", aggregate_id=name, aggregate_sequence=1)
        yield second, fill(name)
        if number % 7:
            yield second, ended(name, "order_cancelled")
        yield second, position(name, name)
        yield second, priced(name)
        number += 1


@pytest.mark.req("P-02", "N-01")
def test_state_stays_below_a_bound_on_an_endless_stream() -> None:
    partition, sizes = Partition(horizons=SHORT), []
    stream = endless()
    for number in range(8_000):
        second, each = next(stream)
        at(partition, second, each)
        if number % 1_000 == 999:
            sizes.append((len(partition.store), sum(len(k) + len(v) for k, v in partition.store.items())))
    settled = sizes[2:]
    assert max(keys for keys, _ in settled) < 1.1 * min(keys for keys, _ in settled), sizes
    assert max(size for _, size in settled) < 1.1 * min(size for _, size in settled), sizes


STREAM = [(second, encode(each)) for (second, each), _ in zip(endless(), range(700), strict=False)]


def run(cuts: Iterable[int], restarts: Iterable[bool]) -> tuple[list[Output], dict[bytes, bytes]]:
    partition, outputs, position_ = Partition(horizons=SHORT), [], 0
    for cut, restart in zip(cuts, restarts, strict=False):
        for second, value in STREAM[position_ : position_ + cut]:
            partition.now = INGEST + int(second * SECOND)
            outputs += partition.fold([value])
        partition.commit()
        position_ += cut
        if restart:
            partition.restart()
    return outputs, partition.store


@pytest.mark.req("P-06", "N-01")
@settings(max_examples=15)  # each folds a long stream
@given(st.lists(st.integers(1, 90), min_size=1, max_size=10), st.lists(st.booleans(), min_size=10, max_size=10))
def test_what_is_forgotten_and_resolved_is_the_same_however_the_stream_is_cut(
    cuts: list[int], restarts: list[bool]
) -> None:
    assert run([*cuts, len(STREAM)], [*restarts[: len(cuts)], False]) == WHOLE


WHOLE = run([len(STREAM)], [False])
