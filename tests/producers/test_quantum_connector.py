"""The Quantum connector on a real Valkey: order, acknowledgement, restarts, and what is missing."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest
from tests import folding
from tests.producers.quantum_redis import (
    PAST,
    client_of,
    drain,
    entries_in_order,
    gaps,
    opened,
    origin_of,
    place,
    positions,
    taken,
    through,
    tick,
)
from tests.stores import Valkey

from tradetape.producers.adapters.quantum_entries import FLOW
from tradetape.producers.connectors.quantum import source as quantum
from tradetape.producers.connectors.quantum import streams as quantum_streams
from tradetape.producers.connectors.quantum.store import SOURCE_KEY, Read, Store
from tradetape.producers.events import Event
from tradetape.producers.simulator.quantum import fleet as simulator
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.integration

TICKS = "market.tick.price"
CANDLES = "market.candle.new"


def scatter(url: str, seed: int, entries: int = 120) -> None:
    """Entries over all streams, many in the same millisecond."""
    rng = random.Random(seed)
    client = client_of(url)
    ms, numbers = PAST, dict.fromkeys(FLOW, 0)
    for _ in range(entries):
        ms += rng.choice((0, 0, 1, 700))
        stream = rng.choice(FLOW)
        numbers[stream] += 1
        client.xadd(stream, {"n": str(numbers[stream])}, id=f"{ms}-{numbers[stream]}")


def group_of(url: str) -> str:
    return f"tradetape:{client_of(url).get(SOURCE_KEY)}"


@pytest.mark.req("S4-01")
@pytest.mark.parametrize("limit", [1, 7, 2000])
def test_the_streams_of_a_bot_come_merged_by_entry_id(valkey: Valkey, limit: int) -> None:
    url = valkey.database()
    scatter(url, seed=limit)
    source = opened(url)
    assert positions(drain(source, limit)) == entries_in_order(url)
    assert source.lag() == (0, 0.0)
    source.close()


@pytest.mark.req("S4-01")
def test_an_entry_is_pending_until_it_is_acknowledged(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    for number in range(5):
        client.xadd(TICKS, tick(), id=f"{PAST + number}-0")
    source = opened(url)
    assert len(source.poll(3)) == 3
    assert client.xpending(TICKS, group_of(url))["pending"] >= 3
    source.acknowledge()
    assert client.xpending_range(TICKS, group_of(url), f"{PAST}-0", f"{PAST + 2}-0", 10) == []
    drain(source)
    assert client.xpending(TICKS, group_of(url))["pending"] == 0
    source.close()


@pytest.mark.req("S4-01", "P-06")
@pytest.mark.parametrize("seed", range(5))
def test_a_connector_that_is_killed_anywhere_loses_and_doubles_nothing(valkey: Valkey, seed: int) -> None:
    url = valkey.database()
    rng = random.Random(seed)
    kafka: list[Event] = []
    saved: dict[str, Any] | None = None
    for _ in range(6):
        simulator.simulate(url, bots=1, steps=2, seed=seed)
        source = opened(url, saved)
        for _ in range(rng.randrange(4)):
            polled = source.poll(rng.choice((5, 60)))
            sent = rng.choice((0, len(polled), rng.randrange(len(polled) + 1)))
            kafka += polled[:sent]
            if sent < len(polled) or rng.random() < 0.2:
                break
            saved = through(source.state())
            if rng.random() < 0.3:
                break
            source.acknowledge()
        source.close()
    kafka += taken(url, saved)
    outputs = folding.fold(kafka)
    kept = [o.audited for o in outputs if o.audited["disposition"] != "duplicate"]
    expected = entries_in_order(url)
    assert [(row["source_stream"], row["source_position"]) for row in kept if row["source_position"]] == expected
    assert gaps(kafka, "trimmed") == gaps(kafka, "removed") == []
    assert client_of(url).xpending(TICKS, group_of(url))["pending"] == 0


@pytest.mark.req("S4-01", "P-06")
def test_without_its_checkpoint_everything_comes_again_as_it_was(valkey: Valkey) -> None:
    url = valkey.database()
    simulator.simulate(url, bots=1, steps=6, seed=1)
    assert taken(url) == taken(url)


@pytest.mark.req("S4-01")
def test_what_a_dead_consumer_holds_is_taken_over_in_its_place(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    opened(url).close()
    for number in range(6):
        client.xadd(TICKS, tick(), id=f"{PAST + number * 1000}-0")
    client.xreadgroup(group_of(url), "another-host", {TICKS: ">"}, count=4)
    assert positions(taken(url)) == entries_in_order(url)
    assert client.xpending(TICKS, group_of(url))["pending"] == 0


@pytest.mark.req("S4-10")
def test_entries_trimmed_unread_are_counted_exactly(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    stream = "position.state.update"
    for number in range(1, 21):
        client.xadd(stream, {"n": str(number)}, id=f"{PAST + number}-0")
    client.xtrim(stream, maxlen=15, approximate=False)
    source = opened(url)
    events = drain(source)
    (first,) = gaps(events, "trimmed")
    assert (first["count"], first["first"], first["last"]) == (5, "0-0", f"{PAST + 6}-0")
    assert events[0]["event_type"] == "system_gap"
    saved = through(source.state())
    source.close()
    for number in range(21, 61):
        client.xadd(stream, {"n": str(number)}, id=f"{PAST + number}-0", maxlen=10, approximate=False)
    events = taken(url, saved)
    (second,) = gaps(events, "trimmed")
    assert (second["count"], second["first"], second["last"]) == (30, f"{PAST + 20}-0", f"{PAST + 51}-0")
    assert len(positions(events)) == 10


@pytest.mark.req("S4-10")
@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_removed_before_it_is_read_is_in_the_count(valkey: Valkey, seed: int) -> None:
    url = valkey.database()
    client = client_of(url)
    rng = random.Random(seed)
    stream, written, came, missing = "position.state.update", 0, 0, 0
    saved = None
    for _ in range(8):
        for _ in range(rng.randrange(30)):
            written += 1
            client.xadd(stream, {"n": str(written)}, id=f"{PAST + written}-0")
        if rng.random() < 0.6:
            client.xtrim(stream, maxlen=rng.randrange(12), approximate=False)
        for _ in range(rng.randrange(3)):
            client.xdel(stream, f"{PAST + rng.randrange(1, written + 2)}-0")
        source = opened(url, saved)
        events = drain(source, rng.choice((3, 500)))
        saved = through(source.state())
        source.close()
        came += len(positions(events))
        missing += sum(gap["count"] for reason in ("trimmed", "removed") for gap in gaps(events, reason))
    assert came + missing == written


@pytest.mark.req("S4-10")
def test_entries_that_are_read_may_go(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    source = opened(url)
    for number in range(1, 11):
        client.xadd("position.state.update", {"n": str(number)}, id=f"{PAST + number}-0")
    drain(source)
    client.xtrim("position.state.update", maxlen=0, approximate=False)
    assert drain(source) == []
    client.xadd("position.state.update", {"n": "11"}, id=f"{PAST + 11}-0")
    assert len(positions(drain(source))) == 1
    source.close()


@pytest.mark.req("S4-10")
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("seen_empty", [False, True])
def test_a_stream_made_anew_is_told_and_none_of_its_entries_taken_for_old_ones(
    valkey: Valkey, restarted: bool, seen_empty: bool
) -> None:
    url = valkey.database()
    client = client_of(url)
    for number in range(1, 4):
        client.xadd(TICKS, tick(), id=f"{PAST + number * 1000}-0")
    source = opened(url)
    events = drain(source)
    client.delete(TICKS)
    if seen_empty:
        events += drain(source)
    if restarted:
        saved = through(source.state())
        source.close()
        source = opened(url, saved)
    for number in range(1, 6):
        client.xadd(TICKS, tick("1900"), id=f"{number * 1000 + 946_684_800_000}-0")
    events += drain(source)
    source.close()
    (gap,) = gaps(events, "removed")
    assert gap["count"] is None and gap["first"] == f"{PAST + 3000}-0"
    outputs = folding.fold(events)
    assert [o.audited["disposition"] for o in outputs] == ["accepted"] * 9
    assert [e["source_stream"] for e in events if e["payload"].get("price") == 1900] == [f"{TICKS}@1"] * 5


@pytest.mark.req("S4-10", "P-06")
def test_a_stream_made_anew_keeps_its_name_when_the_checkpoint_is_lost(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    for number in range(3):
        client.xadd(TICKS, tick(), id=f"{PAST + number * 1000}-0")
    source = opened(url)
    events = drain(source)
    client.delete(TICKS)
    for number in range(3):
        client.xadd(TICKS, tick("1900"), id=f"{PAST + number * 1000 - 5000}-0")
    events += drain(source)
    source.close()
    client.xadd(TICKS, tick("1900"), id=f"{PAST}-5")  # below what was on record before the deletion
    events += taken(url)
    kept = [o.audited for o in folding.fold(events) if o.audited["disposition"] == "accepted"]
    new = [row for row in kept if row["source_stream"] == f"{TICKS}@1"]
    assert len([row for row in kept if row["source_stream"] == TICKS]) == 3
    assert [row["source_position"] >> 20 for row in new] == [PAST - 5000, PAST - 4000, PAST - 3000, PAST]


@pytest.mark.req("S4-10")
def test_a_group_that_was_destroyed_is_no_gap(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    client.xadd(TICKS, tick(), id=f"{PAST}-0")
    source = opened(url)
    drain(source)
    client.xgroup_destroy(TICKS, group_of(url))
    client.xadd(TICKS, tick(), id=f"{PAST + 5000}-0")
    assert positions(drain(source)) == entries_in_order(url)[1:]
    source.close()


@pytest.mark.req("S4-03")
def test_ticks_over_the_limit_are_counted_not_lost_silently(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    for number in range(35):
        symbol = "ETHUSDT" if number % 5 else "BTCUSDT"
        client.xadd(TICKS, tick(symbol=symbol), id=f"{PAST + number * 20}-0")
    client.xadd(TICKS, tick(), id=f"{PAST + 1000}-0")
    whole = taken(url)
    (gap,) = gaps(whole, "rate_limited")
    assert (gap["count"], gap["stream"], gap["last"]) == (18, TICKS, f"{PAST + 680}-0")
    assert "ETHUSDT" in gap["detail"]
    assert len(positions(whole)) == 36 - 18
    assert client.xpending(TICKS, group_of(url))["pending"] == 0
    saved: dict[str, Any] | None = None
    pieces: list[Event] = []
    for _ in range(12):
        source = opened(url, saved)
        pieces += source.poll(3)
        saved = through(source.state())
        source.close()
    assert pieces == whole
    assert len(positions(taken(f"{url}?rate_limit={TICKS}:100"))) == 18, "a location's limit is given to open_source"
    source = quantum.open_source(f"{url}?rate_limit={TICKS}:100", origin_of(url), None)
    assert len(positions(drain(source))) == 36
    source.close()


@pytest.mark.req("S4-03")
def test_what_is_dropped_in_the_second_at_hand_is_told_before_the_store_is_at_its_end(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    pipeline = client.pipeline()
    for _ in range(50):
        pipeline.xadd(TICKS, tick())
    pipeline.execute()
    events = taken(url)
    assert len(positions(events)) + sum(gap["count"] for gap in gaps(events, "rate_limited")) == 50
    assert len(positions(events)) <= 20


@pytest.mark.req("S4-01")
def test_a_fresh_entry_and_one_from_the_future_come_in_one_poll_each(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    source = opened(url)
    client.xadd(TICKS, tick())
    assert len(source.poll(10)) == 1
    client.xadd(TICKS, tick(), id="4070908800000-0")
    assert len(source.poll(10)) == 1
    source.close()


@pytest.mark.req("S4-01")
def test_a_burst_of_fresh_entries_waits_until_it_may_go_and_does_not_spin(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = valkey.database()
    client = client_of(url)
    source = opened(url)
    drain(source)
    reads, read = count(1), source._streams.read

    def counted(most: int, *, at_end: bool) -> list[tuple[str, str]]:
        assert next(reads) < 500, "it reads without an end"
        return read(most, at_end=at_end)

    monkeypatch.setattr(source._streams, "read", counted)
    pipeline = client.pipeline(transaction=False)
    for number in range(1000):
        pipeline.xadd(CANDLES, {"n": str(number)})
    pipeline.execute()
    assert positions(drain(source)) == entries_in_order(url)
    source.close()


@pytest.mark.req("S4-01")
def test_big_entries_come_in_small_batches(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read at once and what is handed out are bounded in bytes, also where small entries came before."""
    bound, big = 2**20, "x" * 50_000
    url = valkey.database()
    client = client_of(url)
    for number in range(1, 201):
        client.xadd(CANDLES, {"text": big if number > 100 else "small"}, id=f"{PAST + number}-0")
        client.xadd("position.opened", {"text": big}, id=f"{PAST + number}-0")
    monkeypatch.setattr(quantum_streams, "BATCH_BYTES", bound)
    monkeypatch.setattr(quantum, "BATCH_BYTES", bound)
    answers: list[int] = []
    read = Store.read

    def measured(store: Store, counts: dict[str, int], group: str) -> dict[str, Read]:
        answer = read(store, counts, group)
        answers.append(sum(len(value) for found in answer.values() for _, pair in found.entries for _, value in pair))
        return answer

    monkeypatch.setattr(Store, "read", measured)
    source = opened(url)
    came: list[Event] = []
    while polled := source.poll(2000):
        assert sum(len(event["native"]) for event in polled) < bound + 2 * len(big)
        came += polled
        source.acknowledge()
    source.close()
    assert positions(came) == entries_in_order(url)
    assert max(answers) < 4 * bound, "100 big entries would be five times the bound, all of them ten times"


@pytest.mark.req("S4-01")
@pytest.mark.parametrize("source_id", ["", "my store", "büro", "a\nb", "50%"])
def test_a_second_connector_is_refused_while_the_first_is_there(valkey: Valkey, source_id: str) -> None:
    url = valkey.database()
    first = opened(url, source_id=source_id)
    with pytest.raises(TradetapeError, match="another connector") as refused:
        opened(url, source_id=source_id, sleep=lambda seconds: None)
    assert "CLIENT KILL" in refused.value.hint
    first.close()
    opened(url, source_id=source_id).close()


@pytest.mark.req("S4-01", "P-06")
def test_a_redis_that_is_full_is_read_and_said_to_be_full_where_it_must_be_written(valkey: Valkey) -> None:
    known, unknown = valkey.database(), valkey.database()
    client = client_of(known)
    client.xadd(TICKS, tick(), id=f"{PAST}-0")
    assert len(taken(known)) == 1
    client.xadd(TICKS, tick(), id=f"{PAST + 1}-0")
    client.config_set("maxmemory", "1")
    try:
        assert len(taken(known)) == 2
        with pytest.raises(TradetapeError, match="is full") as full:
            quantum.fingerprint(unknown)
        assert "maxmemory" in full.value.hint
        with pytest.raises(TradetapeError, match="is full"):
            opened(known, source_id="another")
    finally:
        client.config_set("maxmemory", "0")


@pytest.mark.req("S4-01", "P-08")
def test_a_key_that_is_no_stream_is_told_once_and_read_when_it_is_one(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    client.set(TICKS, "oops")
    client.xadd("position.opened", {"n": "1"}, id=f"{PAST}-0")
    now = 0.0
    source = opened(url, clock=lambda: now)
    events = drain(source)
    (gap,) = gaps(events, "unreadable")
    assert gap["stream"] == TICKS
    assert len(positions(events)) == 1
    now += quantum.LOOK_EVERY
    assert drain(source) == []
    saved = through(source.state())
    source.close()
    client.delete(TICKS)
    client.xadd(TICKS, tick(), id=f"{PAST}-0")
    assert positions(taken(url, saved)) == [(TICKS, PAST << 20)]


@pytest.mark.req("S4-01")
def test_new_streams_of_the_convention_are_found_and_others_left_alone(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    client.xadd("celery.task.queue", {"n": "1"})
    now = 0.0
    source = opened(url, clock=lambda: now)
    assert drain(source) == []
    client.xadd("MarketTickPrice", tick(), id=f"{PAST}-0")
    client.xadd("market.depth.update", {"bids": "[]"}, id=f"{PAST}-0")
    now += quantum.LOOK_EVERY
    events = drain(source)
    assert [(e["source_stream"], e["event_type"]) for e in events] == [
        ("MarketTickPrice", "market_price"),
        ("market.depth.update", "unmapped_record"),
    ]
    assert client.xinfo_groups("celery.task.queue") == []
    source.close()


@pytest.mark.req("S4-01", "P-08")
def test_an_entry_keeps_every_field_and_byte(valkey: Valkey) -> None:
    url = valkey.database()
    client_of(url).execute_command("XADD", TICKS, f"{PAST}-0", "price", "1", "price", "2", b"\xff", b"\xfe\x00")
    (event,) = taken(url)
    assert event["event_type"] == "unmapped_record"
    assert event["native"] == b'{"id":"1714564800000-0","fields":{"price":["1","2"],"\\udcff":"\\udcfe\\u0000"}}'


@pytest.mark.req("S4-01", "S3-09")
def test_the_end_says_what_was_taken_and_only_once(valkey: Valkey) -> None:
    url = valkey.database()
    simulator.simulate(url, bots=1, steps=3, seed=1)
    source = opened(url)
    events = drain(source)
    (ended,) = source.ended()
    assert source.ended() == []
    counts = {name: sum(e["event_type"] == name for e in events) for name in {e["event_type"] for e in events}}
    assert ended["payload"]["events"] == counts
    assert ended["payload"]["rows"] == {name: n for name in FLOW if (n := client_of(url).xlen(name))}
    saved = through(source.state())
    source.close()
    again = opened(url, saved)
    assert drain(again) == []
    assert again.ended() == []
    again.close()


@pytest.mark.req("S4-01")
def test_a_database_that_was_emptied_is_another_source(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    client.xadd(TICKS, tick(), id=f"{PAST}-0")
    before = quantum.fingerprint(url)
    assert quantum.fingerprint(url) == before
    source = opened(url)
    drain(source)
    client.flushdb()
    with pytest.raises(TradetapeError, match="emptied or replaced"):
        source.poll(10)
    source.close()
    assert quantum.fingerprint(url) != before


@pytest.mark.req("S4-10")
def test_a_database_emptied_under_way_is_told_also_where_more_came_than_there_was(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    client.xadd(TICKS, tick())
    source = opened(url, source_id="given")
    drain(source)
    saved = through(source.state())
    client.xadd(TICKS, tick())
    client.flushdb()
    for _ in range(5):
        client.xadd(TICKS, tick())
    with pytest.raises(TradetapeError, match="emptied or replaced"):
        drain(source)
    source.close()
    events = taken(url, saved, source_id="given")
    (gap,) = gaps(events, "removed")
    assert (gap["stream"], gap["count"]) == (TICKS, None)
    assert positions(events) == entries_in_order(url)


@pytest.mark.req("S4-01", "P-06")
def test_a_redis_that_goes_away_is_an_error_with_a_hint_and_nothing_is_lost(valkey: Valkey) -> None:
    url = valkey.database()
    simulator.simulate(url, bots=1, steps=4, seed=2)
    source = opened(url)
    first = source.poll(20)
    saved = through(source.state())
    valkey.kill()
    try:
        with pytest.raises(TradetapeError) as away:
            source.acknowledge()
            source.poll(20)
        assert away.value.hint
        assert url.split(":")[2].split("@")[0] not in str(away.value), "the password is in the message"
        with pytest.raises(TradetapeError, match="does not answer"):
            quantum.fingerprint(url)
    finally:
        source.close()
        valkey.restart()
    rest = taken(url, saved)
    kept = [place(event) for event in (*first, *rest)]
    assert len(kept) == len(set(kept))
    assert [each for each in entries_in_order(url) if each not in kept] == []


@pytest.mark.req("S4-01")
@pytest.mark.parametrize(
    "location",
    ["", "http://x/0", "redis://host:port/0", "redis://h/0?rate_limit=market.tick.price:x", "redis://:se/cret@h:1"],
)
def test_a_location_that_is_none_is_refused(location: str) -> None:
    with pytest.raises(TradetapeError, match="no location") as refused:
        quantum.fingerprint(location)
    assert "redis://" in refused.value.hint
    assert "cret" not in str(refused.value)


@pytest.mark.req("S4-01")
def test_a_wrong_password_is_said(valkey: Valkey) -> None:
    address = valkey.url.rpartition("@")[2]
    with pytest.raises(TradetapeError, match="password"):
        quantum.fingerprint(f"redis://:wrong@{address}")
