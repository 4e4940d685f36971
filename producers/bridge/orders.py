"""Control records that concern the whole fleet: one copy for every partition (S4-06, G3). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from tradetape.producers.events import Event, new_event
from tradetape.schemas import identity
from tradetape.schemas.errors import TradetapeError

PRODUCER = "tradetape.bridge"

ALERT_CODE = "kill_switch"
"""Alerts that order a kill; their ``detail`` is its scope and its reason in numbers."""
_ORDER = ("environment", "account", "instance", "rule", "figure", "value", "threshold")

MOST_SECONDS = 2**31 - 1
"""Of allowed silence: as many as limits may say."""


def copies(
    event_type: str,
    name: str,
    at: datetime | int,
    payload: Mapping[str, Any],
    partitions: int,
    *,
    cause: Mapping[str, Any] | None = None,
) -> list[Event]:
    """The record for partitions 0, 1, …; ``name`` makes its ids, so that the same order twice is one.

    Each copy has an id of its own; all have the correlation id of their ``cause``, without one that which ``name``
    stands for.
    """
    order_id = identity.derive(PRODUCER, event_type, name)
    chain = {"correlation_id": cause["correlation_id"], "causation_id": cause["event_id"]} if cause else {}
    return [
        new_event(
            event_type,
            event_id=identity.derive(order_id, str(partition)),
            ts_utc=at,
            producer=PRODUCER,
            instance_name="",
            payload=payload,
            ingest_source="bridge",
            **{"correlation_id": order_id, **chain},
        )
        for partition in range(partitions)
    ]


def kill(
    kill_id: str,
    at: datetime | int,
    *,
    trigger: str,
    partitions: int,
    cause: Mapping[str, Any] | None = None,
    **payload: Any,
) -> list[Event]:
    """``kill_ordered``: rule, environment, account, instance (patterns), figure, value, threshold, reason."""
    return copies(
        "kill_ordered", kill_id, at, {"kill_id": kill_id, "trigger": trigger, **payload}, partitions, cause=cause
    )


def reset(kill_id: str, at: datetime, *, operator: str, reason: str, partitions: int) -> list[Event]:
    """``kill_reset``. The same kill may be reset again under another time."""
    payload = {"kill_id": kill_id, "operator": operator, "reason": reason}
    return copies("kill_reset", f"{kill_id} {at.isoformat()}", at, payload, partitions)


def limits(rules: str, digest: str, at: datetime, *, set_by: str, reason: str, partitions: int) -> list[Event]:
    """``limits_set``: ``rules`` is their canonical JSON."""
    payload = {"limits": json.loads(rules), "digest": digest, "set_by": set_by, "reason": reason or None}
    return copies("limits_set", f"{digest} {at.isoformat()}", at, payload, partitions)


def of_alert(alert: Mapping[str, Any], partitions: int) -> list[Event]:
    """The kill that an alert of the processor orders; nothing for other alerts.

    It is ordered when Kafka took in the event that broke the limit: by the broker's clock, for it may concern others
    than that event's bot. Raises TradetapeError where the alert's detail is no such order.
    """
    if alert["code"] != ALERT_CODE:
        return []
    order = _document(alert["detail"])
    if order is None or not isinstance(order.get("kill_id"), str):
        raise TradetapeError(f"no kill: {alert['detail'][:200]!r}")
    scope = {name: order[name] for name in _ORDER if name in order}
    return kill(order["kill_id"], alert["ingest_ts_utc"], trigger="limit", partitions=partitions, cause=alert, **scope)


def silent_after(rules: str) -> int | None:
    """What limits say of silence, in seconds, 0 where they say nothing; None where they are no limits."""
    document = _document(rules)
    seconds = None if document is None else document.get("silent_after_seconds", 0)
    return seconds if type(seconds) is int and 0 <= seconds <= MOST_SECONDS else None


def _document(text: str) -> dict[str, Any] | None:
    """The JSON object in ``text``, None where it is none."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
