"""Turtle's connector against a real Postgres: concurrent transactions, in whatever order they commit (S0-01, S0-02)."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.producers.turtle_rows import RUN, drain, insert, origin, row, sequences, write
from tests.producers.turtle_store import Clock, checked, positions
from tests.stores import Postgres

from tradetape.producers.connectors.turtle import source as turtle
from tradetape.producers.connectors.turtle.source import LATE, STREAM, TurtleSource
from tradetape.producers.connectors.turtle.store import ORDINAL_BITS, WRAP, Span, Store
from tradetape.schemas.errors import TradetapeError

pytestmark = [pytest.mark.integration, pytest.mark.req("S0-01")]


@pytest.mark.req("S0-02", "S3-10")
def test_a_row_becomes_an_event_with_every_number_exact(source: TurtleSource, url: str) -> None:
    context = {"market": {"price": 523.45, "n": {"value": 8.52}}, "odd": 0.1000000000000000055511151231257827}
    with psycopg.connect(url) as connection:
        written = row("position_checked", "hold", context)
        insert(connection, [written])
        connection.execute(
            "UPDATE events SET context = jsonb_set(context, '{market,price}', '523.4500000000000012345')"
        )
    (event,) = drain(source)
    assert event["payload"]["context"]["market"]["price"] == Decimal("523.450000000000001234")
    assert event["precision_rounded"] == ["context.market.price"]
    assert (event["event_id"], event["run_id"], event["sequence"], event["source"]) == (
        written["id"],
        RUN,
        1,
        "scanner",
    )
    assert event["source_stream"] == STREAM
    native = json.loads(event["native"])
    assert native.keys() == written.keys()
    assert native["timestamp"] == "2026-02-12T14:30:00+00:00"


def test_rows_of_one_transaction_come_by_run_and_sequence(source: TurtleSource, url: str) -> None:
    other = "0b0f3a52-0000-4000-8000-00000000ffff"
    write(url, checked(3), checked(2, run_id=other), checked(1), checked(1, run_id=other), checked(2))
    taken = drain(source)
    assert [(event["run_id"], event["sequence"]) for event in taken] == [
        (RUN, 1),
        (RUN, 2),
        (RUN, 3),
        (other, 1),
        (other, 2),
    ]
    assert positions(taken) == sorted(set(positions(taken)))


def test_transactions_that_commit_in_another_order_than_they_began_are_all_taken(
    source: TurtleSource, url: str
) -> None:
    with psycopg.connect(url) as first, psycopg.connect(url) as second, psycopg.connect(url) as undone:
        insert(first, [checked(1)])
        insert(undone, [checked(3)])
        insert(second, [checked(2)])
        second.commit()
        assert drain(source) == []  # what the first one writes has a place before it
        lag = source.lag()
        assert lag.records == 1
        undone.rollback()
        assert drain(source) == []
        first.commit()
    taken = drain(source)
    assert sequences(taken) == [1, 2]
    assert positions(taken) == sorted(positions(taken))
    assert source.lag().records == 0
    assert drain(source) == []


def test_a_long_transaction_delays_and_loses_nothing(source: TurtleSource, url: str) -> None:
    write(url, checked(1))
    assert sequences(drain(source)) == [1]
    with psycopg.connect(url) as long:
        insert(long, [checked(100)])
        for sequence in range(2, 8):
            write(url, checked(sequence, timestamp=f"2026-02-12T14:3{sequence}:00+00:00"))
        assert drain(source) == []
        lag = source.lag()
        assert lag.records == 6
        assert lag.seconds == 420.0
        long.commit()
    assert sequences(drain(source)) == [100, *range(2, 8)]
    assert source.lag() == (0, 0.0)


def test_a_savepoint_belongs_to_its_transaction(source: TurtleSource, url: str) -> None:
    with psycopg.connect(url) as connection:
        insert(connection, [checked(1)])
        with connection.transaction():
            insert(connection, [checked(2)])
        with contextlib.suppress(ZeroDivisionError), connection.transaction():
            insert(connection, [checked(9)])
            raise ZeroDivisionError
        insert(connection, [checked(3)])
        assert drain(source) == []
        connection.commit()
    assert sorted(sequences(drain(source))) == [1, 2, 3]


def test_many_writers_at_once_lose_and_double_nothing(url: str, clock: Clock) -> None:
    """Each poll is saved, and the source is opened again at random, as after a kill."""
    rng = random.Random(5)
    committed: set[tuple[str, int]] = set()

    def work(number: int) -> None:
        own = random.Random(number)
        run = f"0b0f3a52-0000-4000-8000-{number:012d}"
        sequence = 0
        with psycopg.connect(url) as connection:
            for _ in range(25):
                made = [checked(sequence + each, run_id=run) for each in range(1, own.randint(2, 6))]
                insert(connection, made)
                if own.random() < 0.25:
                    connection.rollback()
                    continue
                connection.commit()
                sequence += len(made)
                committed.update((run, each["sequence"]) for each in made)

    writers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    taken: list[dict[str, Any]] = []
    saved: dict[str, Any] | None = None
    source = TurtleSource(url, origin(), saved, clock=clock)
    idle = 0
    while idle < 2:
        working = any(writer.is_alive() for writer in writers)
        polled = source.poll(rng.randint(1, 40))
        if rng.random() < 0.2:  # killed before it was saved: it comes again
            source.close()
            source = TurtleSource(url, origin(), saved, clock=clock)
            continue
        taken += polled
        saved = json.loads(json.dumps(source.state()))
        source.acknowledge()
        clock.rest()
        idle = 0 if polled or working else idle + 1
    source.close()
    assert {(event["run_id"], event["sequence"]) for event in taken} == committed
    assert len(taken) == len(committed)
    for stream in (STREAM, LATE):
        assert (found := positions([e for e in taken if e["source_stream"] == stream])) == sorted(set(found))


def test_a_batch_that_was_not_saved_comes_again_the_same(url: str, clock: Clock) -> None:
    write(url, *(checked(sequence) for sequence in range(1, 8)))
    source = TurtleSource(url, origin(), None, clock=clock)
    first = list(source.poll(3))
    saved = source.state()
    second = list(source.poll(3))
    source.close()
    write(url, *(checked(sequence) for sequence in range(8, 12)))
    source = TurtleSource(url, origin(), saved, clock=clock)
    again = drain(source, 3)
    source.close()
    assert again[: len(second)] == second
    assert sequences(first + again) == list(range(1, 12))


@pytest.mark.parametrize("deleted", [2, 5, 6, 10])
@pytest.mark.parametrize("late", [False, True])
def test_a_row_deleted_from_a_transaction_that_is_half_taken_loses_no_other(
    url: str, clock: Clock, deleted: int, late: bool
) -> None:
    source = TurtleSource(url, origin(), None, clock=clock)
    write(url, checked(100))
    drain(source)
    runs = (RUN, "0b0f3a52-0000-4000-8000-00000000ffff")
    time = "2020-01-01T00:00:00+00:00" if late else "2026-02-12T14:31:00+00:00"
    write(url, *(checked(n, timestamp=time, run_id=runs[n > 5]) for n in range(1, 11)))
    clock.rest()
    taken = list(source.poll(5))
    saved = json.loads(json.dumps(source.state()))
    source.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM events WHERE sequence = %s", [deleted])
    clock.rest()
    source = TurtleSource(url, origin(), saved, clock=clock)
    taken += drain(source, 2)
    clock.rest()
    assert drain(source) == []
    source.close()
    assert sequences(taken) == [n for n in range(1, 11) if n <= 5 or n != deleted]
    assert positions(taken) == sorted(set(positions(taken)))
    assert {event["source_stream"] for event in taken} == {LATE if late else STREAM}


def test_rows_in_old_pages_come_as_fast_as_others(source: TurtleSource, url: str) -> None:
    """A vacuum offers the room in old pages to new rows: a reader by place would pass them by."""
    write(url, *(checked(sequence, context={"note": "x" * 2500}) for sequence in range(1, 30)))
    assert len(drain(source)) == 29
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM events")
        write(url, checked(30))
        place = connection.execute("SELECT (ctid::text::point)[0] FROM events WHERE sequence = 30").fetchone()
    assert place is not None
    assert place[0] < 5
    (event,) = source.poll(10)
    assert (event["sequence"], event["source_stream"]) == (30, STREAM)


@pytest.mark.req("S0-02")
def test_what_was_written_with_an_older_time_is_found_by_the_sweep(
    source: TurtleSource, url: str, clock: Clock
) -> None:
    write(url, checked(1), checked(2, timestamp="2099-01-01T00:00:00+00:00"))
    assert sequences(drain(source)) == [1, 2]
    write(url, checked(3, timestamp="2020-01-01T00:00:00+00:00"), checked(4, timestamp="2098-01-01T00:00:00+00:00"))
    taken = list(source.poll(10))
    assert [(e["sequence"], e["source_stream"]) for e in taken] == [(4, STREAM)]
    clock.rest()
    taken = drain(source)
    assert [(e["sequence"], e["source_stream"]) for e in taken] == [(3, LATE)]
    clock.rest()
    write(url, checked(5, timestamp="-infinity"), checked(6, timestamp="2020-01-01T00:00:01+00:00"))
    drain(source)
    clock.rest()
    (ended,) = source.ended()
    assert ended["payload"]["rows"] == {STREAM: 3, LATE: 3}
    assert source.state()["rows"] == {STREAM: 3, LATE: 3}


def test_a_sweep_killed_before_it_was_saved_keeps_streams_and_positions(url: str, clock: Clock) -> None:
    source = TurtleSource(url, origin(), None, clock=clock)
    write(url, checked(1))
    drain(source)
    write(url, *(checked(n, timestamp="2020-01-01T00:00:00+00:00") for n in range(2, 6)), checked(6))
    assert sequences(list(source.poll(10))) == [6]
    saved = source.state()
    source.acknowledge()
    clock.rest()
    first = list(source.poll(2))
    source.close()
    write(url, checked(7, timestamp="2020-01-01T00:00:00+00:00"))
    source = TurtleSource(url, origin(), saved, clock=clock)
    again = drain(source)
    clock.rest()
    again += drain(source)
    source.close()
    assert again[:2] == first
    assert sequences(again) == [2, 3, 4, 5, 7]
    assert {event["source_stream"] for event in again} == {LATE}


def test_a_poll_after_a_sweep_waits_for_the_place_to_be_saved(source: TurtleSource, url: str, clock: Clock) -> None:
    write(url, checked(1))
    assert sequences(list(source.poll(10))) == [1]
    assert source.poll(10) == ()
    write(url, checked(2))
    clock.rest()
    assert source.poll(10) == ()
    source.acknowledge()
    assert sequences(list(source.poll(10))) == [2]


def test_looks_and_sweeps_rest_in_proportion(url: str) -> None:
    """The clock runs one second at each glance: a look costs what it costs, and then rests twenty times that."""
    glances = iter(range(10_000))
    source = TurtleSource(url, origin(), None, clock=lambda: float(next(glances)))
    write(url, checked(1))
    drain(source)
    write(url, checked(2))
    polls = 0
    while not source.poll(10):
        polls += 1
        source.acknowledge()
    assert polls > turtle.LOOK_REST // 2
    source.close()


@pytest.mark.req("S3-10")
def test_the_source_tells_its_end_once(url: str) -> None:
    source = TurtleSource(url, origin(), None)
    assert source.ended() == ()
    write(url, checked(1), row("entry_filled", "filled", sequence=2))
    assert [event["event_type"] for event in drain(source)] == ["position_checked", "unmapped_record"]
    (ended,) = source.ended()
    assert ended["payload"] == {"rows": {STREAM: 2}, "events": {"position_checked": 1}}
    saved = source.state()
    source.close()
    source = TurtleSource(url, origin(), saved)
    assert drain(source) == []
    assert source.ended() == ()
    source.close()


def test_a_role_that_may_only_read_is_enough(url: str, postgres: Postgres) -> None:
    write(url, checked(1))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'r'")
        connection.execute("GRANT SELECT ON events TO reader")
        before = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        readers = make_conninfo(url, user="reader", password="r")
        assert turtle.fingerprint(readers) == turtle.fingerprint(url)
        source = turtle.open_source(readers, origin(), None)
        assert sequences(drain(source)) == [1]
        source.lag()
        source.close()
        after = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        assert before is not None
        assert after is not None
        assert after[0] == before[0] + 1  # reading used no transaction of its own
        connection.execute("REVOKE SELECT ON events FROM reader")
        with pytest.raises(TradetapeError, match=r"GRANT SELECT ON events"):
            turtle.open_source(readers, origin(), None).poll(1)
        connection.execute("DROP ROLE reader")


def test_without_the_right_to_the_system_identifier_there_is_still_a_fingerprint(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        known = turtle.fingerprint(url)
        connection.execute("CREATE ROLE lowly LOGIN PASSWORD 'r'")
        connection.execute("GRANT SELECT ON events TO lowly")
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        lowly = make_conninfo(url, user="lowly", password="r")
        assert turtle.fingerprint(lowly) == turtle.fingerprint(lowly) != known


def test_a_state_of_another_adapter_begins_anew(url: str) -> None:
    write(url, checked(1))
    source = TurtleSource(url, origin(), {"adapter": "turtle@0", "horizon": 10**6})
    assert sequences(drain(source)) == [1]
    source.close()


def test_transactions_are_told_apart_across_the_wrap(url: str) -> None:
    """A row's transaction is the last one before the next that ends in its 32 bits."""
    write(url, checked(1))
    store = Store(url)
    store.begin()
    snapshot = store.snapshot()
    xid = snapshot.next_xid - 1
    later = snapshot.next_xid + 3 * WRAP
    for next_xid, expected in ((snapshot.next_xid, xid), (later, xid + 3 * WRAP), (later - 1, xid + 2 * WRAP)):
        span = Span(0, next_xid, 0, None)
        (found,) = store.window(span, next_xid).take(10)
        assert found.position == (expected << ORDINAL_BITS) + 1
        assert store.count(span, next_xid) == 1
        store.end()
        store.begin()
    store.close()


def test_a_late_row_whose_transaction_came_round_again_is_evidence_only(url: str, clock: Clock) -> None:
    source = TurtleSource(url, origin(), None, clock=clock)
    write(url, checked(1))
    drain(source)
    saved = source.state()
    source.close()
    source = TurtleSource(url, origin(), {**saved, "oldest": saved["oldest"] - WRAP}, clock=clock)
    write(url, checked(2, timestamp="2020-01-01T00:00:00+00:00"))
    (event,) = drain(source)
    source.close()
    assert event["event_type"] == "unmapped_record"
    assert "came round again" in event["payload"]["error"]
    assert event["sequence"] == 2
    assert source.state()["rows"] == {STREAM: 1, LATE: 1}
    assert source.state()["events"] == {"position_checked": 1}
