"""Simulated turtles keep the limits of the document however long they trade: the core finds nothing to object to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random

import pytest
from tests import folding
from tests.producers.turtle_rows import origin

from tradetape.producers.adapters import turtle as adapter
from tradetape.producers.events import Event
from tradetape.producers.simulator.turtle.bot import Turtle
from tradetape.producers.simulator.turtle.desk import new_uuid
from tradetape.producers.simulator.turtle.fleet import to_json

pytestmark = pytest.mark.req("S0-05", "S0-06")

START = datetime(2020, 1, 1, tzinfo=UTC)
LIMITS = {"unit_limit_exceeded", "risk_cap_exceeded"}
DECIDES = ("signal_evaluated", "_attempted", "_filled")
"""How the types of rows end that add units, give them back or decide on one."""


def lived(seed: int, days: int) -> tuple[Turtle, int, int]:
    """A bot after so many days, and the most units that it held: of all, and of one group."""
    bot = Turtle(Random(f"limits:{seed}"), 1)
    bot.begin(START)
    total = group = 0
    for _ in range(days):
        bot.step()
        total, group = max(total, bot.book.units()), max(group, bot.book.units("equity_index"))
    return bot, total, group


def events(bot: Turtle, kinds: tuple[str, ...] = ("",)) -> Iterator[Event]:
    """What ``bot`` logged, of types that end so, as its reader makes it."""
    ids = Random("ids")
    entries = [entry for run in bot.desk.runs for entry in run if entry.event_type.endswith(kinds)]
    for position, entry in enumerate(entries, 1):
        row = {"id": new_uuid(ids), **entry._asdict(), "timestamp": entry.timestamp.isoformat()}
        yield adapter.from_record(origin(), to_json(row).encode(), position=position)


def test_nothing_is_found_on_a_bot_that_came_to_its_limits() -> None:
    bot, *most = lived(seed=3, days=80)
    assert most == [12, 6]
    outputs = folding.fold(events(bot))
    assert {output.audited["disposition"] for output in outputs} == {"accepted"}
    assert folding.open_findings(outputs) == {}


def test_a_healthy_bot_keeps_its_limits_however_long_it_trades() -> None:
    bot, *most = lived(seed=0, days=300)
    assert most == [12, 6]
    outputs = folding.fold(events(bot, DECIDES))
    assert sum(output.audited["event_type"] == "order_filled" for output in outputs) > 50
    assert {output.audited["disposition"] for output in outputs} == {"accepted"}
    assert LIMITS.isdisjoint(folding.open_findings(outputs))
