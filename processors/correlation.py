"""How an event is tied to the decision that led to it (S3-02, S3-03, N-01)."""

from __future__ import annotations

from typing import Any

ROOT = "root"
ASSERTED = "asserted"
BACKFILLED = "backfilled"


def link(event: dict[str, Any]) -> str:
    """The link of an accepted ``event``; a missing correlation_id becomes its own event_id, and is said to be."""
    correlation_id = event["correlation_id"]
    if not correlation_id:
        event["correlation_id"] = event["event_id"]
        return BACKFILLED
    if correlation_id == event["event_id"] or correlation_id == event["native_event_id"]:
        return ROOT
    return ASSERTED
