"""What an event means for the limits and the kills that are in force (S4-06)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tradetape.processors.control import holding, kill, limits, patterns, stance
from tradetape.processors.control.holding import InForce
from tradetape.processors.control.limits import Limit, LimitSet, LimitsRefused
from tradetape.processors.findings import OPENED, RESOLVED, Finding, detail, finding
from tradetape.processors.state import PartitionState
from tradetape.schemas import identity
from tradetape.schemas.numbers import text

_SILENCE = {"instance_silent": OPENED, "instance_returned": RESOLVED}


MOST_REASON = 500
"""Characters of a reason that quotes what anyone may have written."""


def rules(state: PartitionState) -> LimitSet:
    """The limits in force."""
    in_force = state.find(InForce)
    return limits.parse(in_force.limits) if in_force is not None else LimitSet()


def take(timestamp: int, event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    """Fold a control record. ``timestamp`` is its LogAppendTime, microseconds."""
    kind = event["event_type"]
    if kind in _SILENCE:
        return [_silence(event)]
    if kind == "limits_set":
        return _set(event, state)
    return kill.take(timestamp, event, state)


def _set(event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    try:
        wanted = limits.read(event["payload"]["limits"])
    except LimitsRefused as error:
        reason = error.message[:MOST_REASON]
        return [finding("limits_refused", OPENED, event["event_id"], detail(reason=reason))]
    state.touch(InForce(limits.text(wanted), state.get(InForce).sets + 1))
    return []


def _silence(event: Mapping[str, Any]) -> Finding:
    """The watchdog's word on an instance, or on one service of it (S4-09)."""
    subject = " ".join(filter(None, (event["instance_name"], event["payload"]["service"])))
    numbers = {key: value for key, value in event["payload"].items() if key.endswith("_seconds")}
    return finding("instance_silent", _SILENCE[event["event_type"]], subject, detail(**numbers))


def observe(
    timestamp: int, event: Mapping[str, Any], figure: Mapping[str, Any] | None, state: PartitionState
) -> list[Finding]:
    """What ``event`` and the risk ``figure`` after it (None where it changed none) show. ``state`` includes both."""
    kills = kill.active(event, state)
    findings = kill.observe(kills, timestamp, event, stance.of(event, state) if kills else stance.Stance(), state)
    in_force = state.find(InForce)
    if figure is None or in_force is None:
        return findings
    found, breached = holding.observe(timestamp, figure, in_force, state)
    findings += found
    for limit, value in breached:
        if limit.action == "kill":
            ordered = kill_order(limit, value, figure)
            kill.order(ordered.subject, event, state)
            findings.append(ordered)
    return findings


def kill_order(limit: Limit, value: Decimal, figure: Mapping[str, Any]) -> Finding:
    """The alert that the bridge turns into ``kill_ordered`` records: one in every partition."""
    order = {
        "kill_id": identity.derive(figure["event_id"], "kill", limit.name),
        "environment": figure["environment"],
        "account": "*" if limit.kill == "environment" else patterns.literal(figure["account"]),
        "instance": patterns.literal(figure["instance_name"]) if limit.kill == "instance" else "*",
        "rule": limit.name,
        "figure": limit.figure,
        "value": text(value),
        "threshold": text(limit.threshold),
    }
    return finding("kill_switch", OPENED, order["kill_id"], detail(**order))
