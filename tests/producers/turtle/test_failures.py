"""Turtle's store away, hung, cut off, or with content that is foreign (S0-01, P-06, P-08)."""

from __future__ import annotations

import json
import os
import signal

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.producers.turtle_rows import drain, insert, origin, sequences, write
from tests.producers.turtle_store import checked
from tests.stores import Postgres
from tests.support import eventually

from tradetape.producers.connectors.turtle import connection as turtle_connection
from tradetape.producers.connectors.turtle import source as turtle
from tradetape.producers.connectors.turtle.source import TurtleSource
from tradetape.producers.connectors.turtle.store import Store
from tradetape.schemas.errors import TradetapeError

pytestmark = [pytest.mark.integration, pytest.mark.req("S0-01")]


def test_a_store_that_is_away_or_locked_or_foreign_is_said(postgres: Postgres, url: str) -> None:
    with pytest.raises(TradetapeError, match="check that Postgres runs") as away:
        turtle.open_source("postgresql://me:s3cret@127.0.0.1:1/turtle", origin(), None)
    assert "s3cret" not in str(away.value)
    with pytest.raises(TradetapeError, match="no address of a Postgres database") as odd:
        turtle.open_source("not an address s3cret", origin(), None)
    assert "s3cret" not in str(odd.value)
    with pytest.raises(TradetapeError, match="has no table events"):
        turtle.open_source(postgres.database(), origin(), None)
    foreign = postgres.database()
    with psycopg.connect(foreign, autocommit=True) as connection:
        connection.execute("CREATE TABLE events (id INT)")
    with pytest.raises(TradetapeError, match="has no context, event_type, outcome, run_id, sequence, timestamp"):
        turtle.open_source(foreign, origin(), None)
    with psycopg.connect(foreign, autocommit=True) as connection:
        connection.execute("DROP TABLE events; CREATE VIEW events AS SELECT 1 AS id")
    with pytest.raises(TradetapeError, match="no ordinary table"):
        turtle.open_source(foreign, origin(), None)
    write(url, checked(1))
    source = turtle.open_source(url, origin(), None)
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TradetapeError, match="is locked"):
            source.poll(1)
    source.close()
    assert "postgres" in source.name
    assert make_conninfo(url) != source.name


def test_a_connection_that_is_cut_is_said_and_the_source_opens_again(url: str) -> None:
    write(url, *(checked(n) for n in range(1, 6)))
    source = TurtleSource(url, origin(), None)
    first = list(source.poll(2))
    saved = source.state()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tradetape' "
            "AND datname = current_database()"
        )
    with pytest.raises(TradetapeError, match="cannot be read"):
        eventually(lambda: source.poll(2) and False, 10)
    source.close()
    source = TurtleSource(url, origin(), saved)
    assert sequences(first + drain(source)) == [1, 2, 3, 4, 5]
    source.close()


def test_a_server_that_hangs_is_an_error_and_the_source_opens_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turtle_connection, "SILENT_SECONDS", 1.0)
    write(url, *(checked(n) for n in range(1, 6)))
    source = TurtleSource(url, origin(), None)
    first = list(source.poll(2))
    saved = source.state()
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'tradetape' AND datname = current_database()"
        ).fetchone()
        assert found is not None
        os.kill(found[0], signal.SIGSTOP)
        try:
            with pytest.raises(TradetapeError, match="does not answer") as hangs:
                source.poll(2)
            source.close()
        finally:
            os.kill(found[0], signal.SIGCONT)
    assert "goes on where it stopped" in hangs.value.hint
    source = TurtleSource(url, origin(), saved)
    assert sequences(first + drain(source)) == [1, 2, 3, 4, 5]
    source.close()


@pytest.mark.parametrize("slow", ["FETCH", "row_to_json"])
def test_a_look_may_be_silent_for_longer_than_the_reading_of_a_row(
    url: str, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """A row security rule that takes its time stands for a big table, and for a server that hangs."""
    write(url, checked(1))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION waits() RETURNS BOOLEAN LANGUAGE plpgsql AS $$ BEGIN IF current_query() LIKE "
            f"'%{slow}%' THEN PERFORM pg_sleep(3); END IF; RETURN true; END $$".encode()
        )
        role = f"patient_{slow.lower()}"
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'r'; GRANT SELECT ON events TO {role}".encode())
        connection.execute("ALTER TABLE events ENABLE ROW LEVEL SECURITY")
        connection.execute("CREATE POLICY p ON events USING (waits())")
    monkeypatch.setattr(turtle_connection, "SILENT_SECONDS", 1.0)
    source = TurtleSource(make_conninfo(url, user=role, password="r"), origin(), None)
    if slow == "FETCH":
        assert sequences(list(source.poll(10))) == [1]
    else:
        with pytest.raises(TradetapeError, match="does not answer"):
            source.poll(10)
    source.close()


def test_the_connection_ends_with_a_machine_that_is_gone_and_a_statement_without_end(url: str) -> None:
    connection = turtle_connection.connect(url)
    set_for = connection.info.get_parameters()
    assert {"keepalives_idle", "keepalives_interval", "keepalives_count"} <= set_for.keys()
    assert set_for["tcp_user_timeout"] == "30000"
    connection.close()
    store = Store(url)
    assert store._value("SHOW statement_timeout") == "10min"
    store.close()


def test_a_row_that_the_server_cannot_read_spoils_no_other(url: str) -> None:
    """A row security rule that fails as a damaged row does: only when this row's content is read."""
    write(url, *(checked(n) for n in range(1, 6)))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION fails(n INT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$ BEGIN IF n = 3 AND current_query() "
            "LIKE '%row_to_json(e) FROM \"public\"%' THEN RAISE 'missing chunk number 0' USING ERRCODE = "
            "'data_corrupted'; "
            "END IF; RETURN true; END $$"
        )
        connection.execute("DROP ROLE IF EXISTS watched")
        connection.execute("CREATE ROLE watched LOGIN PASSWORD 'r'")
        connection.execute("GRANT SELECT ON events TO watched")
        connection.execute("ALTER TABLE events ENABLE ROW LEVEL SECURITY")
        connection.execute("CREATE POLICY p ON events USING (fails(sequence))")
    source = TurtleSource(make_conninfo(url, user="watched", password="r"), origin(), None)
    taken = drain(source)
    source.close()
    assert sequences(taken) == [1, 2, 3, 4, 5]
    assert [event["event_type"] for event in taken].count("unmapped_record") == 1
    assert "missing chunk number 0" in taken[2]["payload"]["error"]
    assert json.loads(taken[2]["native"])["symbol"] == "QQQ"


@pytest.mark.parametrize(
    "context",
    [
        "[]",
        "null",
        '"text"',
        "7",
        "[" * 2000 + "]" * 2000,
        '{"market": {"price": 1e400}}',
        '{"n": 9' + "9" * 5000 + "}",
    ],
)
def test_foreign_content_is_evidence_and_stops_nothing(source: TurtleSource, url: str, context: str) -> None:
    with psycopg.connect(url) as connection:
        insert(connection, [checked(1), checked(2), checked(3)])
        connection.execute("UPDATE events SET context = %s WHERE sequence = 2", [context])
        found = connection.execute("SELECT row_to_json(e)::text FROM events e WHERE sequence = 2").fetchone()
    taken = drain(source)
    assert len(taken) == 3
    assert found is not None
    (odd,) = [
        event for event in taken if event["event_id"] not in {checked(1)["id"], checked(3)["id"]} or event["extra"]
    ]
    assert odd["native"] == found[0].encode()
    assert sequences([event for event in taken if event is not odd]) == [1, 3]


def test_a_column_of_the_owners_own_is_kept(source: TurtleSource, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE events ADD COLUMN desk TEXT DEFAULT 'alpha', ADD COLUMN weight NUMERIC")
        insert(connection, [checked(1, weight="1.50")])
    (event,) = drain(source)
    assert json.loads(event["extra"]) == {"desk": "alpha", "weight": "1.5"}
