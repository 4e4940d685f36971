"""The kill switch as the record sees it: who was ordered to stop, who took notice, what was sent all the same (S4-06).

Tradetape stops nothing itself. A kill holds from the control record that orders it (or from the bot's own
``kill_switch_activated``, for that bot) until a person resets it, for good: what ended does not begin again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, ClassVar

import msgspec
import orjson

from tradetape.processors.clock import SECOND
from tradetape.processors.control import patterns
from tradetape.processors.control.patterns import literal
from tradetape.processors.control.stance import Stance
from tradetape.processors.findings import NOTED, OPENED, RESOLVED, Finding, detail, finding
from tradetape.processors.risk import instance_key
from tradetape.processors.state import PartitionState, Record
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.rules import ENVELOPE_ENUMERATIONS

ACKNOWLEDGE_SECONDS = 30
"""How long after a kill an instance may speak without acknowledging it; of the broker's clock."""

MOST_KILLS = 64
"""Kills that are active at one time in one partition; of more, bots' own are no longer watched, then the oldest."""

MOST_OVER = 1_000
"""Kills that are known to be over."""

MOST_CHARACTERS = 200
"""Of a kill's id."""

MOST_EARLY = 16
"""Acknowledgements of an instance that are kept until their kill comes."""
MOST_ORDERED = 256
"""Kills that an instance's limits ordered, and that did not come yet."""

SIGNALS = frozenset({"signal_generated", "trade_requested"})
_FOLDED = frozenset({"kill_ordered", "kill_switch_activated", "kill_reset"})


class Kill(msgspec.Struct, array_like=True):
    """An active kill: patterns of what it covers, when it was ordered (``ts_utc``) and taken in, microseconds.

    Its texts are bounded: the id by MOST_CHARACTERS, patterns by ``patterns.MOST_CHARACTERS``.
    """

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
            and patterns.matches(event["account"], self.account)
            and patterns.matches(event["instance_name"], self.instance)
        )

    def is_same_bots(self, other: Kill) -> bool:
        """Whether ``other``, like this one, is the bot's own: its last one counts."""
        same = (self.environment, self.account, self.instance) == (other.environment, other.account, other.instance)
        return same and not other.needs_acknowledgement


class Kills(Record):
    """The active kills of a partition, and digests of the ids of those that were last over."""

    KEY: ClassVar[str] = "K"

    active: list[Kill] = []
    over: list[bytes] = []

    def knows(self, kill_id: str) -> bool:
        """Whether there was such a kill, active or over."""
        return self.is_over(kill_id) or any(kill.kill_id == kill_id for kill in self.active)

    def is_over(self, kill_id: str) -> bool:
        """Whether such a kill was reset, or is no longer watched."""
        return _digest(kill_id) in self.over

    def end(self, kill_id: str) -> None:
        """The kill is over, also where it did not come yet."""
        self.active = [kill for kill in self.active if kill.kill_id != kill_id]
        self.over = [*(other for other in self.over if other != _digest(kill_id)), _digest(kill_id)][-MOST_OVER:]


class Notice(msgspec.Struct, array_like=True, frozen=True):
    """What an instance did after one kill: LogAppendTime of its acknowledgement and of its being flat, 0 before.

    ``reported``: that it goes on without acknowledging. ``ordered``: a limit of its own ordered the kill.
    ``came``: the kill was active. An acknowledgement and an order may come before it.
    """

    acknowledged: int = 0
    reported: bool = False
    flat: int = 0
    ordered: bool = False
    came: bool = False


class Obedience(Record):
    """What one instance did after each kill that is active for it, and what it knows of kills that did not come yet."""

    KEY: ClassVar[str] = "k"

    notices: dict[str, Notice] = {}


_CAME = Notice(came=True)


def take(timestamp: int, event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    """Fold what orders or ends a kill. ``timestamp`` is the LogAppendTime of the record."""
    kind = event["event_type"]
    if kind not in _FOLDED:
        return []
    kills = state.get(Kills)
    if kind == "kill_ordered":
        return _add(state, kills, _ordered(timestamp, event), event)
    if kind == "kill_switch_activated" and not _is_echo(event, kills):
        own = Kill(
            event["event_id"],
            event["environment"],
            literal(event["account"]),
            literal(event["instance_name"]),
            event["ts_utc"],
            timestamp,
            needs_acknowledgement=False,
        )
        return _add(state, kills, own, event, instead_of=own.is_same_bots)
    if kind == "kill_reset":
        kills.end(event["payload"]["kill_id"])
        state.touch(kills)
    return []


def active(event: Mapping[str, Any], state: PartitionState) -> list[Kill]:
    """The kills that the event's instance is under. Control records about an instance are not its own words."""
    kills = state.find(Kills)
    if kills is None or not kills.active or event_types()[event["event_type"]].control:
        return []
    return [kill for kill in kills.active if kill.covers(event)]


def order(kill_id: str, event: Mapping[str, Any], state: PartitionState) -> None:
    """A limit of the event's instance orders a kill, which comes back as a control record."""
    key = instance_key(event)
    notices = {**state.get(Obedience, *key).notices, kill_id: Notice(ordered=True)}
    state.touch(Obedience(_latest(notices)), *key)


def observe(
    kills: Iterable[Kill], timestamp: int, event: Mapping[str, Any], stance: Stance, state: PartitionState
) -> list[Finding]:
    """What ``event`` shows of its instance's obedience to ``kills``, those that are active for it.

    What was found open of a kill that is over is resolved.
    """
    key = instance_key(event)
    obedience = state.find(Obedience, *key)
    before = obedience.notices if obedience is not None else {}
    acknowledged = event["payload"]["kill_id"] if event["event_type"] == "kill_acknowledged" else ""
    if not (kills or before or acknowledged) or event_types()[event["event_type"]].control:
        return []
    findings: list[Finding] = []
    notices: dict[str, Notice] = {}
    watched = set()
    for kill in kills:
        watched.add(kill.kill_id)
        known = before.get(kill.kill_id, _CAME)
        found, notice = _observe(kill, timestamp, event, stance, msgspec.structs.replace(known, came=True))
        findings += found
        if notice != _CAME:
            notices[kill.kill_id] = notice
    every = state.get(Kills)
    for kill_id, notice in before.items():
        if kill_id in watched:
            continue
        if notice.came or every.is_over(kill_id):
            findings += _over(kill_id, notice, event)
        else:
            notices[kill_id] = notice
    if acknowledged not in watched and 0 < len(acknowledged) <= MOST_CHARACTERS and not every.is_over(acknowledged):
        known = notices.get(acknowledged, Notice())
        notices[acknowledged] = msgspec.structs.replace(known, acknowledged=known.acknowledged or timestamp)
    notices = _latest(notices)
    if notices and notices != before:
        state.touch(Obedience(notices), *key)
    elif before and not notices:
        state.forget(Obedience, *key)
    return findings


def _over(kill_id: str, notice: Notice, event: Mapping[str, Any]) -> list[Finding]:
    """What ends with a kill, whoever ended it."""
    proof = detail(kill_id=kill_id)
    findings = []
    if notice.reported and not notice.acknowledged:
        findings.append(finding("kill_not_acknowledged", RESOLVED, _subject(kill_id, event), proof))
    if notice.ordered:
        findings.append(finding("kill_switch", RESOLVED, kill_id, proof))
    return findings


def _latest(notices: dict[str, Notice]) -> dict[str, Notice]:
    """``notices`` without the oldest of too many about kills that did not come."""
    waiting = [(kill_id, notice.ordered) for kill_id, notice in notices.items() if not notice.came]
    early = [kill_id for kill_id, is_ordered in waiting if not is_ordered]
    ordered = [kill_id for kill_id, is_ordered in waiting if is_ordered]
    for kill_id in (*early[:-MOST_EARLY], *ordered[:-MOST_ORDERED]):
        del notices[kill_id]
    return notices


def _observe(
    kill: Kill, timestamp: int, event: Mapping[str, Any], stance: Stance, before: Notice
) -> tuple[list[Finding], Notice]:
    kind, payload, after = event["event_type"], event["payload"], event["ts_utc"] > kill.ordered
    findings: list[Finding] = []

    def find(code: str, status: str, subject: str = _subject(kill.kill_id, event)) -> None:
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
    late = after and timestamp - kill.taken_in > ACKNOWLEDGE_SECONDS * SECOND
    if kill.needs_acknowledgement and late and not acknowledged and not reported:
        reported = True
        find("kill_not_acknowledged", OPENED)
    if stance.is_flat and not flat:
        flat = timestamp
        find("flat_after_kill", NOTED)
    return findings, Notice(acknowledged, reported, flat, before.ordered, before.came)


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


def _add(
    state: PartitionState,
    kills: Kills,
    kill: Kill,
    event: Mapping[str, Any],
    instead_of: Callable[[Kill], bool] = lambda _: False,
) -> list[Finding]:
    why = _refused(kill)
    if why:
        return [finding("kill_refused", OPENED, event["event_id"], detail(reason=why))]
    if kills.knows(kill.kill_id):
        return []
    kills.active = [*(other for other in kills.active if not instead_of(other)), kill]
    state.touch(kills)
    if len(kills.active) <= MOST_KILLS:
        return []
    gone = next((other for other in kills.active if not other.needs_acknowledgement), kills.active[0])
    kills.end(gone.kill_id)
    return [finding("kill_unwatched", NOTED, gone.kill_id, _detail(gone, event))]


def _refused(kill: Kill) -> str:
    """Why it cannot be taken for a kill, empty where it can: the partition keeps its texts."""
    if not 0 < len(kill.kill_id) <= MOST_CHARACTERS:
        return f"an id of {len(kill.kill_id)} characters, 1 to {MOST_CHARACTERS} are possible"
    longest = max(len(kill.account), len(kill.instance))
    if longest > patterns.MOST_CHARACTERS:
        return f"a pattern of {longest} characters, {patterns.MOST_CHARACTERS} are possible"
    if kill.environment and kill.environment not in ENVELOPE_ENUMERATIONS["environment"]:
        return f"{kill.environment[:MOST_CHARACTERS]!r} is no environment"
    return ""


def _is_echo(event: Mapping[str, Any], kills: Kills) -> bool:
    """Whether a bot's stream shows a kill that the bridge put there: it names one that was ordered here."""
    try:
        extra = orjson.loads(event["extra"] or "{}")
    except orjson.JSONDecodeError:
        return False
    named = extra.get("kill_id") if isinstance(extra, dict) else None
    return isinstance(named, str) and kills.knows(named)


def _or_all(pattern: str | None) -> str:
    return "*" if pattern is None else pattern


def _digest(kill_id: str) -> bytes:
    return blake2b(kill_id.encode(), digest_size=8).digest()


def _subject(kill_id: str, event: Mapping[str, Any]) -> str:
    return f"{kill_id} {event['instance_name']}"


def _detail(kill: Kill, event: Mapping[str, Any]) -> str:
    return detail(kill_id=kill.kill_id, seconds_after=(event["ts_utc"] - kill.ordered) // SECOND)
