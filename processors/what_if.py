"""The same records under other limits: which decisions change (N-06). Pure.

Two folds go side by side from one state: one as it was, one in which ``limits`` hold in place of all that are set. Both
are folded by the core; only the decisions of limits are compared. What bots would have done after another kill is in
no record, and is not guessed: kills that were ordered stay, and no new ones are put in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from tradetape.processors.control import limits
from tradetape.processors.control.holding import InForce
from tradetape.processors.control.limits import LimitSet
from tradetape.processors.emission import Emitted
from tradetape.processors.reading import RawRecord, SchemaById
from tradetape.processors.replay import Replay

DECISIONS = frozenset({"limit_warning", "limit_breached", "kill_switch"})


class Decision(NamedTuple):
    """What a limit said at an event. ``status`` is opened or resolved; ``detail`` has its numbers.

    ``name`` tells decisions apart: limit and subject; a kill by its limit.
    """

    code: str
    status: str
    name: str
    detail: dict[str, Any]


class Changed(NamedTuple):
    """A decision at one event that only one of the two folds takes: ``is_new`` where it is that under other limits."""

    verdict: dict[str, Any]
    decision: Decision
    is_new: bool


class WhatIf:
    """Both folds of a partition, from the committed state ``store`` on."""

    def __init__(self, partition: int, schema_by_id: SchemaById, store: dict[bytes, bytes], other: LimitSet) -> None:
        self._recorded = Replay(partition, schema_by_id, dict(store))
        self._other = Replay(partition, schema_by_id, dict(store))
        self._limits = limits.text(other)
        self._put_in_force()

    def fold(self, raw: RawRecord) -> list[Changed]:
        """Fold ``raw`` both ways; the decisions that differ. Raises Gap as Replay.fold does."""
        recorded, other = self._recorded.fold(raw), self._other.fold(raw)
        self._put_in_force()
        before, after = decisions(recorded), decisions(other)
        names = {decision[:3] for decision in after}
        gone = [Changed(recorded[0].record, each, False) for each in before if each[:3] not in names]
        names = {decision[:3] for decision in before}
        return gone + [Changed(other[0].record, each, True) for each in after if each[:3] not in names]

    def _put_in_force(self) -> None:
        """The limits of a control record held for no event: they are replaced before the next."""
        state = self._other.state
        in_force = state.get(InForce)
        if in_force.limits != self._limits:
            state.touch(InForce(self._limits, in_force.sets + 1))


def decisions(judged: Sequence[Emitted]) -> list[Decision]:
    """What limits decided at one event."""
    return list(_decisions(judged[0].record["findings"]))


def _decisions(findings: Sequence[dict[str, Any]]) -> Iterator[Decision]:
    for found in findings:
        if found["code"] in DECISIONS:
            detail = orjson.loads(found["detail"])
            if "why" in detail:
                continue  # the rule went away: no figure decided
            name = detail["rule"] if found["code"] == "kill_switch" else found["subject"]
            yield Decision(found["code"], found["status"], name, detail)
