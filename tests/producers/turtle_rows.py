"""Turtle's native rows for tests: made by hand, and written into a real table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid5

import psycopg
from psycopg import sql

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.turtle import source as turtle
from tradetape.producers.connectors.turtle.source import TurtleSource
from tradetape.producers.events import Event
from tradetape.producers.simulator.turtle.fleet import DDL
from tradetape.schemas.instruments import Instruments

RUN = "0b0f3a52-0000-4000-8000-00000000abcd"
START = "2026-02-12T14:30:00+00:00"


def origin(source_id: str = "turtle-store", instance: str = "turtle-1") -> Origin:
    return Origin(
        source_id=source_id,
        instance_name=instance,
        connector_name=turtle.DEFAULTS["connector_name"],
        producer="turtle",
        instruments=Instruments(quote=turtle.DEFAULTS["quote"]),
    )


def row(event_type: str, outcome: str, context: Any = None, **columns: Any) -> dict[str, Any]:
    """One row's columns; the id follows from its run and sequence."""
    made = {
        "timestamp": START,
        "event_type": event_type,
        "outcome": outcome,
        "outcome_reason": None,
        "run_id": RUN,
        "sequence": 1,
        "symbol": "QQQ",
        "context": {} if context is None else context,
        "source": "scanner",
        "dry_run": False,
        **columns,
    }
    return {"id": str(uuid5(UUID(RUN), f"{made['run_id']}:{made['sequence']}")), **made}


def record(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode()


def table(url: str) -> str:
    """The document's table, in the database at ``url``."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(DDL.encode())
    return url


def insert(connection: psycopg.Connection[Any], rows: Iterable[dict[str, Any]]) -> None:
    """Write ``rows`` in the connection's transaction."""
    for made in rows:
        values = {**made, "context": json.dumps(made["context"])}
        query = sql.SQL("INSERT INTO events ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(sql.Placeholder, values))
        )
        connection.execute(query, values)


def write(url: str, *rows: dict[str, Any]) -> None:
    """Write ``rows`` in one transaction."""
    with psycopg.connect(url) as connection:
        insert(connection, rows)


def drain(source: TurtleSource, limit: int = 500) -> list[Event]:
    """Everything there is, each batch saved before the next, as the runner does it."""
    taken: list[Event] = []
    while polled := source.poll(limit):
        taken += polled
        json.dumps(source.state())
        source.acknowledge()
    source.acknowledge()
    return taken


def sequences(events: Iterable[Event]) -> list[int]:
    return [event["sequence"] for event in events]
