"""Moving a baseline is an event: what somebody accepted of a reconciliation, and why (N-03). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tradetape.producers.events import Event, new_event
from tradetape.schemas import identity

PRODUCER = "tradetape.reconcile"
TYPE = "baseline_moved"

AT_ONCE = 500
"""Differences of one event: each is a few hundred bytes, up to a kilobyte where long texts differ."""

MAX_VALUE = 200
"""Characters kept of a value that differs; its difference's id is made of the whole."""


def moved(
    scope: str, subject: str, differences: Sequence[Mapping[str, Any]], at: datetime, *, by: str, reason: str
) -> list[Event]:
    """``baseline_moved`` events for ``differences`` (each with id, kind, item, places and values), one chain."""
    first = ""
    found = []
    for number, start in enumerate(range(0, len(differences), AT_ONCE)):
        part = [_short(difference) for difference in differences[start : start + AT_ONCE]]
        event_id = identity.derive(PRODUCER, TYPE, scope, subject, at.isoformat(), by, str(number))
        first = first or event_id
        event = new_event(
            TYPE,
            event_id=event_id,
            correlation_id=first,
            ts_utc=at,
            producer=PRODUCER,
            instance_name="",
            payload={
                "scope": scope,
                "subject": subject,
                "accepted_by": by,
                "reason": reason,
                "count": len(part),
                "differences": part,
            },
            ingest_source="reconcile",
        )
        found.append(event)
    return found


def _short(difference: Mapping[str, Any]) -> dict[str, Any]:
    values = [[name, *(_cut(value) for value in both)] for name, *both in difference["values"]]
    return {**difference, "values": values}


def _cut(value: str | None) -> str | None:
    return value if value is None or len(value) <= MAX_VALUE else value[:MAX_VALUE]
