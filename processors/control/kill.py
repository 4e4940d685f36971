"""The kill switch as the record sees it: who was ordered to stop, who took notice, what was sent all the same (S4-06).

Tradetape stops nothing itself. A kill holds from the control record that orders it (or from the bot's own
``kill_switch_activated``, for that bot) until a person resets it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import msgspec

from tradetape.processors.control.stance import Stance
from tradetape.processors.findings import NOTED, OPENED, RESOLVED, Finding, finding
from tradetape.processors.state import PartitionState, Record
from tradetape.schemas.catalogue import event_types

ACKNOWLEDGE_SECONDS = 30
"""How long after a kill an instance may speak without acknowledging it; of the broker's clock."""

MOST_KILLS = 64
"""Kills that are active at one time in one partition; of more, the oldest are no longer watched."""

SIGNALS = frozenset({"signal_generated", "trade_requested"})


class Kill(msgspec.Struct, array_like=True):
    """An active kill: patterns of what it covers, when it was ordered (``ts_utc``) and taken in, microseconds."""

    kill_id: str
    environment: str
    account: str
    instance: str
    ordered: int
    taken_in: int
    needs_acknowledgement: bool = True

    def covers(self, event: Mapping[str, Any]) -> bool:
        """Whether the event's instance has to stop."""
        return (
            self.environment in ("", event["environment"])
            and fnmatchcase(event["account"], self.account)
            and fnmatchcase(event["instance_name"], self.instance)
        )

    def is_same_bots(self, other: Kill) -> bool:
        """Whether ``other``, like this one, is the bot's own: its last one counts."""
        same = (self.environment, self.account, self.instance) == (other.environment, other.account, other.instance)
        return same and not other.needs_acknowledgement


class Kills(Record):
    """The active kills of a partition."""

    KEY: ClassVar[str] = "K"

    active: list[Kill] = []


class Notice(msgspec.Struct, array_like=True, frozen=True):
    """What an instance did after one kill: LogAppendTime of its acknowledgement and of its being flat, 0 before."""

    acknowledged: int = 0
    reported: bool = False
    flat: int = 0


class Obedience(Record):
    """What one instance did after each kill that is active for it."""

    KEY: ClassVar[str] = "k"

    notices: dict[str, Notice] = {}


_NOTHING_YET = Notice()


def take(timestamp: int, event: Mapping[str, Any], state: PartitionState) -> None:
    """Fold what orders or ends a kill. ``timestamp`` is the LogAppendTime of the record."""
    kind, payload = event["event_type"], event["payload"]
    if kind == "kill_ordered":
        _add(state, _ordered(timestamp, event))
    elif kind == "kill_switch_activated" and not _is_echo(event):
        own = Kill(
            event["event_id"],
            event["environment"],
            event["account"],
            literal(event["instance_name"]),
            event["ts_utc"],
            timestamp,
            needs_acknowledgement=False,
        )
        _add(state, own, instead_of=own.is_same_bots)
    elif kind == "kill_reset":
        kills = state.get(Kills)
        kills.active = [kill for kill in kills.active if kill.kill_id != payload["kill_id"]]
        state.touch(kills)


def active(event: Mapping[str, Any], state: PartitionState) -> list[Kill]:
    """The kills that the event's instance is under. Control records about an instance are not its own words."""
    kills = state.find(Kills)
    if kills is None or not kills.active or event_types()[event["event_type"]].control:
        return []
    return [kill for kill in kills.active if kill.covers(event)]


def observe(
    kills: Iterable[Kill], timestamp: int, event: Mapping[str, Any], stance: Stance, state: PartitionState
) -> list[Finding]:
    """What ``event`` shows of its instance's obedience to ``kills``, those that are active for it."""
    key = (event["environment"], event["account"], event["instance_name"])
    obedience = state.get(Obedience, *key)
    findings: list[Finding] = []
    notices: dict[str, Notice] = {}
    for kill in kills:
        found, notice = _observe(kill, timestamp, event, stance, obedience.notices.get(kill.kill_id, _NOTHING_YET))
        findings += found
        if notice != _NOTHING_YET:
            notices[kill.kill_id] = notice
    if notices != obedience.notices:
        state.touch(Obedience(notices), *key)
    return findings


def _observe(
    kill: Kill, timestamp: int, event: Mapping[str, Any], stance: Stance, before: Notice
) -> tuple[list[Finding], Notice]:
    kind, payload, after = event["event_type"], event["payload"], event["ts_utc"] > kill.ordered
    findings: list[Finding] = []

    def find(code: str, status: str, subject: str = f"{kill.kill_id} {event['instance_name']}") -> None:
        findings.append(finding(code, status, subject, _detail(kill, event)))

    acknowledged, reported, flat = before.acknowledged, before.reported, before.flat
    if after and kind == "order_created" and stance.grows:
        find("order_after_kill", OPENED, payload["client_order_id"])
    elif after and kind in SIGNALS:
        find("signal_after_kill", OPENED, event["event_id"])
    if kind == "kill_acknowledged" and payload["kill_id"] == kill.kill_id and not acknowledged:
        acknowledged = timestamp
        if reported:
            find("kill_not_acknowledged", RESOLVED)
    late = after and timestamp - kill.taken_in > ACKNOWLEDGE_SECONDS * 1_000_000
    if kill.needs_acknowledgement and late and not acknowledged and not reported:
        reported = True
        find("kill_not_acknowledged", OPENED)
    if stance.is_flat and not flat:
        flat = timestamp
        find("flat_after_kill", NOTED)
    return findings, Notice(acknowledged, reported, flat)


def _ordered(timestamp: int, event: Mapping[str, Any]) -> Kill:
    payload = event["payload"]
    return Kill(
        payload["kill_id"],
        payload["environment"] or "",
        _or_all(payload["account"]),
        _or_all(payload["instance"]),
        event["ts_utc"],
        timestamp,
    )


def _add(state: PartitionState, kill: Kill, instead_of: Callable[[Kill], bool] = lambda _: False) -> None:
    kills = state.get(Kills)
    if all(other.kill_id != kill.kill_id for other in kills.active):
        others = [other for other in kills.active if not instead_of(other)]
        kills.active = [*others[-MOST_KILLS + 1 :], kill]
        state.touch(kills)


def _is_echo(event: Mapping[str, Any]) -> bool:
    """Whether a bot's stream shows the kill that the bridge put there."""
    return '"kill_id"' in (event["extra"] or "")


def _or_all(pattern: str | None) -> str:
    return "*" if pattern is None else pattern


def literal(name: str) -> str:
    """``name`` as a pattern that matches nothing else."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _detail(kill: Kill, event: Mapping[str, Any]) -> str:
    seconds = (event["ts_utc"] - kill.ordered) // 1_000_000
    return json.dumps({"kill_id": kill.kill_id, "seconds_after": seconds}, separators=(",", ":"))
