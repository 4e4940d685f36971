"""Other limits over the same records: the decisions that change, and only those (N-06)."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import INGEST, SCHEMAS, encode
from tests.processors.events import created, event, filled

from tradetape.processors.control import limits
from tradetape.processors.control.limits import LimitSet
from tradetape.processors.reading import RawRecord
from tradetape.processors.replay import Replay
from tradetape.processors.what_if import WhatIf, decisions

pytestmark = pytest.mark.req("N-06")


def size(at_most: str, name: str = "size") -> LimitSet:
    rule = f'[[limit]]\nname = "{name}"\nfigure = "net_base"\nat_most = "{at_most}"\nenvironment = "live"\n'
    return limits.check(tomllib.loads(rule + 'warn_at = "0"\naction = "kill"\n'))


def limits_set(rules: LimitSet) -> dict[str, Any]:
    payload = {"limits": json.loads(limits.text(rules)), "digest": limits.digest(rules), "set_by": "ann"}
    return event("limits_set", payload, instance_name="", connector_name="", trading_pair="", environment="live")


def trades(quantities: list[int]) -> list[dict[str, Any]]:
    made = []
    for number, quantity in enumerate(quantities):
        side = "buy" if quantity >= 0 else "sell"
        made.append(created(f"o{number}", side, amount=str(abs(quantity)), environment="live"))
        made.append(filled(f"o{number}", str(abs(quantity)), "2", side, environment="live"))
    return made


def raws(events: list[dict[str, Any]]) -> list[RawRecord]:
    return [RawRecord(0, offset, INGEST + offset, encode(made)) for offset, made in enumerate(events)]


def decided(records: list[RawRecord]) -> set[tuple[Any, ...]]:
    """Offset, code, status and name of every decision."""
    replay = Replay(0, SCHEMAS.get)
    return {(raw.offset, *each[:3]) for raw in records for each in decisions(replay.fold(raw))}


quantities = st.lists(st.integers(-6, 9), min_size=1, max_size=12)


@settings(max_examples=40)
@given(quantities=quantities, recorded=st.integers(0, 12), other=st.integers(0, 12))
def test_it_is_the_difference_of_two_records_that_differ_in_their_limits_alone(
    quantities: list[int], recorded: int, other: int
) -> None:
    events = trades(quantities)
    was = raws([limits_set(size(str(recorded))), *events])
    would_be = raws([limits_set(size(str(other))), *events])
    both = WhatIf(0, SCHEMAS.get, {}, size(str(other)))
    changed = [(raw.offset, each) for raw in was for each in both.fold(raw)]
    gone = {(offset, *each.decision[:3]) for offset, each in changed if not each.is_new}
    new = {(offset, *each.decision[:3]) for offset, each in changed if each.is_new}
    assert gone == decided(was) - decided(would_be)
    assert new == decided(would_be) - decided(was)
    assert bool(changed) == (decided(was) != decided(would_be))


def test_a_looser_limit_kills_later_and_says_with_which_numbers() -> None:
    both = WhatIf(0, SCHEMAS.get, {}, size("15"))
    records = raws([limits_set(size("5")), *trades([4, 4, 9]), limits_set(size("1"))])
    changed = [(raw.offset, each) for raw in records for each in both.fold(raw)]
    kills = [(offset, each) for offset, each in changed if each.decision.code == "kill_switch"]
    assert [(offset, each.is_new, each.decision.detail["value"]) for offset, each in kills] == [
        (4, False, "8"),
        (6, True, "17"),
    ]
    assert kills[1][1].decision.detail["threshold"] == "15"
    assert kills[1][1].verdict["instance_name"] == "bot1"


def test_it_begins_with_the_state_before_the_stretch() -> None:
    records = raws([limits_set(size("100")), *trades([4, 4, 4])])
    before = Replay(0, SCHEMAS.get)
    for raw in records[:5]:
        before.fold(raw)
    before.commit()
    kept = dict(before.store)
    both = WhatIf(0, SCHEMAS.get, before.store, size("10"))
    codes = [(raw.offset, each.decision.code) for raw in records[5:] for each in both.fold(raw) if each.is_new]
    assert (6, "kill_switch") in codes
    assert before.store == kept
