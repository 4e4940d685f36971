"""What an event means for the limits and the kills that are in force (S4-06)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from tradetape.processors.control import holding, kill, limits, stance
from tradetape.processors.control.limits import Limit, LimitSet, LimitsRefused
from tradetape.processors.findings import OPENED, RESOLVED, Finding, finding
from tradetape.processors.state import PartitionState, Record
from tradetape.schemas import identity
from tradetape.schemas.numbers import text

_SILENCE = {"instance_silent": OPENED, "instance_returned": RESOLVED}


class InForce(Record):
    """The limits of a partition, as canonical JSON; empty before the first."""

    KEY: ClassVar[str] = "L"

    limits: str = ""


def rules(state: PartitionState) -> LimitSet:
    """The limits in force."""
    in_force = state.find(InForce)
    return limits.parse(in_force.limits) if in_force is not None else LimitSet()


def take(timestamp: int, event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    """Fold a control record. ``timestamp`` is its LogAppendTime, microseconds."""
    kind, payload = event["event_type"], event["payload"]
    if kind in _SILENCE:
        return [_silence(event)]
    if kind == "limits_set":
        try:
            limits.parse(payload["limits"])
        except LimitsRefused as error:
            reason = json.dumps({"reason": error.message}, separators=(",", ":"))
            return [finding("limits_refused", OPENED, event["event_id"], reason)]
        state.touch(InForce(payload["limits"]))
    else:
        kill.take(timestamp, event, state)
    return []


def _silence(event: Mapping[str, Any]) -> Finding:
    """The watchdog's word on an instance, or on one service of it (S4-09)."""
    subject = " ".join(filter(None, (event["instance_name"], event["payload"]["service"])))
    numbers = {key: value for key, value in event["payload"].items() if key.endswith("_seconds")}
    detail = json.dumps(numbers, separators=(",", ":"))
    return finding("instance_silent", _SILENCE[event["event_type"]], subject, detail)


def observe(
    timestamp: int, event: Mapping[str, Any], figure: Mapping[str, Any] | None, state: PartitionState
) -> list[Finding]:
    """What ``event`` and the risk ``figure`` after it (None where it changed none) show. ``state`` includes both."""
    kills = kill.active(event, state)
    findings = kill.observe(kills, timestamp, event, stance.of(event, state), state) if kills else []
    if figure is None:
        return findings
    in_force = rules(state)
    if in_force.limit:
        found, breached = holding.observe(timestamp, figure, holding.covering(in_force, figure), state)
        findings += found
        findings += [kill_order(limit, value, figure) for limit, value in breached if limit.action == "kill"]
    return findings


def kill_order(limit: Limit, value: Decimal, figure: Mapping[str, Any]) -> Finding:
    """The alert that the bridge turns into ``kill_ordered`` records: one in every partition."""
    account = figure["account"] if limit.kill in ("instance", "account") else "*"
    order = {
        "kill_id": identity.derive(figure["event_id"], "kill", limit.name),
        "environment": figure["environment"],
        "account": kill.literal(account) if account != "*" else "*",
        "instance": kill.literal(figure["instance_name"]) if limit.kill == "instance" else "*",
        "rule": limit.name,
        "figure": limit.figure,
        "value": text(value),
        "threshold": text(limit.threshold),
    }
    return finding("kill_switch", OPENED, order["kill_id"], json.dumps(order, separators=(",", ":")))
