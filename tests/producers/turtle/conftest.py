"""A table of Turtle's in a real Postgres, and its reader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.producers.turtle_rows import origin, table
from tests.producers.turtle_store import Clock
from tests.stores import Postgres

from tradetape.producers.connectors.turtle.source import TurtleSource


@pytest.fixture
def url(postgres: Postgres) -> str:
    return table(postgres.database())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(url: str, clock: Clock) -> Iterator[TurtleSource]:
    opened = TurtleSource(url, origin(), None, clock=clock)
    yield opened
    opened.close()
