"""Advice that claims power to execute (S4-11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradetape.processors.findings import OPENED, Finding, detail, finding

ADVISORY = "NONE"
"""The only execution_power that a signal may have (S4-11)."""


def observe(event: Mapping[str, Any]) -> list[Finding]:
    """Whether a signal claims more than to advise."""
    power = event["payload"].get("execution_power")
    if power is None or power.upper() == ADVISORY:
        return []
    proof = detail(expected=ADVISORY, recorded=power[:80])
    return [finding("execution_power_not_none", OPENED, event["event_id"], proof)]
