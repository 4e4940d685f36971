"""Turtle's tables put back, emptied, written anew or replaced under their reader (S0-01)."""

from __future__ import annotations

import psycopg
import pytest
from tests.producers.turtle_rows import drain, origin, sequences, table, write
from tests.producers.turtle_store import Clock, checked
from tests.stores import Postgres

from tradetape.producers.connectors.turtle import source as turtle
from tradetape.producers.connectors.turtle.source import TurtleSource
from tradetape.producers.connectors.turtle.state import ANCHORS
from tradetape.schemas.errors import TradetapeError

pytestmark = [pytest.mark.integration, pytest.mark.req("S0-01")]


def test_a_table_made_anew_is_another_source(url: str) -> None:
    known = turtle.fingerprint(url)
    assert turtle.fingerprint(url) == known
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE events")
    assert turtle.fingerprint(table(url)) != known


def test_a_table_written_anew_is_not_taken_in_twice(url: str, clock: Clock) -> None:
    source = TurtleSource(url, origin(), None, clock=clock)
    write(url, checked(1), checked(2))
    drain(source)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM FULL events")  # keeps the transaction of each row
        clock.rest()
        assert drain(source) == []
        connection.execute("ALTER TABLE events ALTER COLUMN sequence TYPE BIGINT")
    clock.rest()
    with pytest.raises(TradetapeError, match=r"written anew.*source id of its own"):
        source.poll(10)
    source.close()


@pytest.mark.parametrize("statement", ["TRUNCATE events", "DELETE FROM events"])
def test_a_table_that_was_emptied_goes_on(source: TurtleSource, url: str, clock: Clock, statement: str) -> None:
    write(url, checked(1))
    drain(source)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
    write(url, checked(2))
    clock.rest()
    assert sequences(drain(source)) == [2]


def test_a_table_written_anew_is_found_also_where_its_last_rows_are_gone(
    source: TurtleSource, url: str, clock: Clock
) -> None:
    write(url, *(checked(n) for n in range(1, 5)))
    drain(source)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM events WHERE sequence > 2")
        connection.execute("ALTER TABLE events ALTER COLUMN sequence TYPE BIGINT")
    clock.rest()
    with pytest.raises(TradetapeError, match=r"written anew.*source id of its own"):
        source.poll(10)


@pytest.mark.parametrize("same_ids", [False, True])
def test_another_table_under_a_known_source_id_is_refused(postgres: Postgres, url: str, same_ids: bool) -> None:
    write(url, *(checked(n if same_ids else n + 50) for n in (1, 2, 3)))
    first = table(postgres.database())
    write(first, *(checked(n) for n in range(1, 6)))
    source = TurtleSource(first, origin(), None)
    assert len(drain(source)) == 5
    saved = source.state()
    source.close()
    source = TurtleSource(url, origin(), saved)
    with pytest.raises(TradetapeError, match="written anew" if same_ids else "none of the rows taken last"):
        source.poll(10)
    source.close()


def test_another_table_is_begun_anew_where_nothing_was_taken_yet(postgres: Postgres, url: str) -> None:
    write(url, checked(1))
    source = TurtleSource(table(postgres.database()), origin(), None)
    assert drain(source) == []
    saved = source.state()
    assert saved["horizon"]
    source.close()
    source = TurtleSource(url, origin(), saved)
    assert sequences(drain(source)) == [1]
    source.close()


def test_a_table_put_back_in_time_whose_server_went_on_is_refused(source: TurtleSource, url: str, clock: Clock) -> None:
    write(url, *(checked(n) for n in range(1, ANCHORS + 9)))
    drain(source)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM events WHERE sequence > 8")  # what a restored server no longer has
    write(url, checked(200))
    clock.rest()
    with pytest.raises(TradetapeError, match="was put back"):
        source.poll(10)


def test_a_bot_that_deletes_and_updates_some_of_its_rows_is_not_disturbed(
    source: TurtleSource, url: str, clock: Clock
) -> None:
    write(url, *(checked(n) for n in range(1, ANCHORS + 9)))
    drain(source)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM events WHERE sequence < %s", [ANCHORS + 7])
        clock.rest()
        assert drain(source) == []
        connection.execute("DELETE FROM events WHERE sequence = %s", [ANCHORS + 7])
        connection.execute("UPDATE events SET outcome_reason = 'again'")
    clock.rest()
    (updated,) = drain(source)
    assert updated["sequence"] == ANCHORS + 8
    write(url, checked(1))
    clock.rest()
    assert sequences(drain(source)) == [1]


def test_a_database_put_back_in_time_is_refused(url: str) -> None:
    source = TurtleSource(url, origin(), None)
    write(url, checked(1))
    drain(source)
    saved = source.state()
    source.close()
    source = TurtleSource(url, origin(), {**saved, "horizon": saved["horizon"] + 1000})
    with pytest.raises(TradetapeError, match="restored from a backup"):
        source.poll(1)
    source.close()
