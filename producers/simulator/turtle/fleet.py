"""Turtle bots that never were, in real Postgres tables: one schema a bot, the table as the document defines it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tradetape.producers.simulator.ledger import SILENT, START_MS, Injected, Ledger, spoken, to_inject
from tradetape.producers.simulator.turtle.bot import Turtle
from tradetape.producers.simulator.turtle.desk import Entry, new_uuid

TABLE = "events"

DEFECTS: dict[str, tuple[str, str]] = {
    "lost": ("sequence_gap", ""),
    "doubled": ("overfill", ""),
    "reordered": ("sequence_regressed", ""),
    "orphaned": ("fill_without_order", ""),
    "malformed": ("unmapped", ""),
    "clock_skewed": ("clock_ahead", ""),
    "truncated_price": ("zero_price", ""),
    "wrong_arithmetic": ("arithmetic_mismatch", ""),
    "conflicting_terminal": ("conflicting_terminals", ""),
    "silent": ("", "a table that ends says nothing about its bot; a watchdog would have to look at the clock"),
}
"""What can be injected: the code that must catch it, or why nothing can."""

_OF_ROWS = frozenset({"lost", "reordered", "clock_skewed"})
"""Defects of the rows of a run; the others are in what an order's events say."""

SKEW = timedelta(days=365 * 60)

DDL = """
CREATE TABLE events (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    timestamp TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    event_type VARCHAR(50) NOT NULL,
    outcome VARCHAR(50) NOT NULL,
    outcome_reason TEXT,
    run_id UUID NOT NULL,
    sequence INTEGER NOT NULL,
    symbol VARCHAR(20),
    context JSONB NOT NULL,
    source VARCHAR(20) NOT NULL,
    dry_run BOOLEAN DEFAULT FALSE,
    CONSTRAINT events_run_sequence UNIQUE (run_id, sequence)
);
CREATE INDEX idx_events_timestamp ON events(timestamp DESC);
CREATE INDEX idx_events_symbol ON events(symbol, timestamp DESC);
CREATE INDEX idx_events_type ON events(event_type, timestamp DESC);
CREATE INDEX idx_events_run ON events(run_id, sequence);
CREATE INDEX idx_events_outcome ON events(outcome) WHERE outcome != 'hold';
"""
_DIARY = (
    "CREATE TABLE simulated (call SERIAL PRIMARY KEY, seed BIGINT NOT NULL, steps INTEGER NOT NULL, "
    "defects TEXT[] NOT NULL, start_ms BIGINT NOT NULL)"
)
INSERT = (
    "INSERT INTO events (id, timestamp, event_type, outcome, outcome_reason, run_id, sequence, symbol, context, "
    "source, dry_run) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


def instance_name(number: int) -> str:
    """The name of bot ``number``, from 1; also its schema's."""
    return f"turtle_bot_{number}"


def bot_location(location: str, number: int) -> str:
    """The address of one bot's table in the database at ``location``, a Postgres URL."""
    parts = urlsplit(location)
    option = f"options=-csearch_path%3D{instance_name(number)}"
    return urlunsplit(parts._replace(query=f"{parts.query}&{option}" if parts.query else option))


def simulate(
    location: str,
    *,
    bots: int,
    steps: int,
    seed: int,
    defects: Mapping[str, int] | Iterable[str] = (),
    start_ms: int = START_MS,
) -> Ledger:
    """Let each bot trade for ``steps`` days, into a schema of its own at ``location``, or go on where it ends.

    ``defects`` names what to inject, once per bot, or how often per bot; each takes a day, and ``silent`` leaves out
    the days after the middle. A bot's first day is the one after ``start_ms`` (milliseconds since 1970) or after its
    last. Raises ValueError for an unknown defect and for more defects than days.
    """
    wanted = to_inject(defects, DEFECTS, room=steps, unit="days")
    kinds = spoken(wanted)
    days = max(steps // 2, len(kinds)) if SILENT in wanted else steps
    life = _Life(seed, days, kinds, start_ms)
    ledger = Ledger()
    for number in range(1, bots + 1):
        with psycopg.connect(location, autocommit=True) as connection:
            _prepare(connection, instance_name(number))
            turtle = _recall(connection, number)
            injected = life.live(turtle, number)
            _write(connection, turtle.desk.runs, new_ids(seed, number, _calls(connection)), injected)
            connection.execute(
                "INSERT INTO simulated (seed, steps, defects, start_ms) VALUES (%s, %s, %s, %s)",
                list(life),
            )
            row = connection.execute("SELECT count(*) FROM events").fetchone()
        for kind, subject, _ in injected:
            ledger.injected.append(Injected(kind, instance_name(number), subject, *DEFECTS[kind]))
        if SILENT in wanted:
            name = instance_name(number)
            ledger.injected.append(Injected(SILENT, name, name, *DEFECTS[SILENT]))
        ledger.rows[instance_name(number)] = {TABLE: row[0] if row else 0}
    return ledger


def new_ids(seed: int, number: int, call: int) -> Random:
    """Where the ids of one call's rows come from."""
    return Random(f"turtle ids:{seed}:{number}:{call}")


def _prepare(connection: psycopg.Connection[Any], schema: str) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    connection.execute(f"SET search_path = {schema}; SET synchronous_commit = off")
    row = connection.execute("SELECT to_regclass(%s)", [TABLE]).fetchone()
    if row is None or row[0] is None:
        with connection.transaction():
            connection.execute(DDL)
            connection.execute(_DIARY)


def _calls(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM simulated").fetchone()
    return int(row[0]) if row else 0


def _recall(connection: psycopg.Connection[Any], number: int) -> Turtle:
    """The bot as it was after its earlier calls: it lives through them again, without writing."""
    turtle = Turtle(Random(), number)
    rows = connection.execute("SELECT seed, steps, defects, start_ms FROM simulated ORDER BY call").fetchall()
    for row in rows:
        _Life(*row).live(turtle, number)
    turtle.desk.runs.clear()
    return turtle


Bent = tuple[str, str, int]
"""A defect, the order or run it is in, and the index of the run among those of the call."""


class _Life(NamedTuple):
    """What one call lets a bot live through: ``days`` days with the defects ``kinds`` spread over them."""

    seed: int
    days: int
    kinds: list[str]
    start_ms: int

    def live(self, turtle: Turtle, number: int) -> list[Bent]:
        """Do it; the defects with their places among the bot's runs."""
        turtle.desk.random.seed(f"turtle:{self.seed}:{number}:{turtle.desk.now.date()}")
        turtle.begin(datetime.fromtimestamp(self.start_ms // 1000, UTC))
        places = dict(zip(turtle.desk.random.sample(range(self.days), len(self.kinds)), self.kinds, strict=True))
        bent = []
        for day in range(self.days):
            kind = places.get(day, "")
            order_id = turtle.step("" if kind in _OF_ROWS else kind)
            if kind:
                run = len(turtle.desk.runs) - 1
                bent.append((kind, order_id or turtle.desk.runs[run][0].run_id, run))
        return bent


def _write(connection: psycopg.Connection[Any], runs: list[list[Entry]], ids: Random, injected: list[Bent]) -> None:
    """Insert the runs, one transaction each, but for what is bent in their rows (at their second one)."""
    bent = {run: kind for kind, _, run in injected if kind in _OF_ROWS}
    for index, run in enumerate(runs):
        kind, entries = bent.get(index, ""), list(run)
        if kind == "lost":
            del entries[1]
        if kind == "clock_skewed":
            entries[1] = entries[1]._replace(timestamp=entries[1].timestamp + SKEW)
        parts = [entries]
        if kind == "reordered":
            parts = [[entries[0], entries[2]], [entries[1], *entries[3:]]]
        for part in parts:
            values = [(new_uuid(ids), *entry._replace(context=to_json(entry.context))) for entry in part]
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(INSERT, values)


def to_json(value: Any) -> str:
    """JSON with decimals as numbers in their printed precision."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {to_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
