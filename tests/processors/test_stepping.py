"""Event by event: what each one changed in the state (S1-08)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.folding import INGEST, SCHEMAS, encode
from tests.processors.events import created, ended, filled

from tradetape.processors import stepping
from tradetape.processors.reading import RawRecord
from tradetape.processors.replay import Replay
from tradetape.processors.stepping import About, Change

pytestmark = pytest.mark.req("S1-08")


def steps(*events: dict[str, Any]) -> list[dict[str, tuple[Any, Any]]]:
    """What each event changed: field → before and after."""
    replay = Replay(0, SCHEMAS.get)
    walked = []
    for offset, made in enumerate(events):
        about = About(
            *(made[name] for name in ("environment", "account", "instance_name", "connector_name", "trading_pair")),
            made["payload"]["client_order_id"],
            made["ts_utc"],
        )
        raw = RawRecord(0, offset, INGEST + offset, encode(made))
        walked.append({each.field: each[1:] for each in stepping.step(replay, raw, about)})
    return walked


def test_each_step_says_what_it_changed_and_nothing_else() -> None:
    first, second, third, repeat = steps(
        created("a", amount="10"), fill := filled("a", "10", "2"), end := ended("a"), {**fill, "ts_utc": end["ts_utc"]}
    )
    assert first["order.is_open"] == (None, True)
    assert first["figures.open_orders"] == (0, 1)
    assert "figures.net_base" not in first
    assert second["figures.net_base"] == ("0", "10")
    assert second["figures.avg_cost"] == ("0", "2")
    assert second["order.is_open"] == (True, False)
    assert third["order.terminals.order_completed"] == (None, 1)
    assert not {name for name in third if name.startswith("figures.")}
    assert repeat == {}


def test_changes_name_the_leaves() -> None:
    before = {"a": {"b": 1, "c": {"d": "x"}}, "e": None}
    after = {"a": {"b": 2, "c": {}}, "e": {"f": 3}}
    assert list(stepping.changes(before, after)) == [
        Change("a.b", 1, 2),
        Change("a.c.d", "x", None),
        Change("e.f", None, 3),
    ]
    assert list(stepping.changes(before, before)) == []
