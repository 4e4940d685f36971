"""What figures are kept by, and the time that counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradetape.processors import clock
from tradetape.processors.lineage import order_id
from tradetape.processors.reading import RawRecord


def instance_key(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Figures are kept per environment, account and instance, and never mixed."""
    return event["environment"], event["account"], event["instance_name"]


def position_key(event: Mapping[str, Any]) -> tuple[str, ...]:
    """One position per pair and connector of an instance."""
    return (*instance_key(event), event["connector_name"], event["trading_pair"])


def order_key(event: Mapping[str, Any]) -> tuple[str, ...]:
    """An order id is the connector's own."""
    return (*instance_key(event), event["connector_name"], order_id(event))


def when(raw: RawRecord, event: Mapping[str, Any]) -> int:
    """The event's own time in microseconds, bounded by when it was taken in."""
    return clock.bounded(event["ts_utc"], raw.timestamp)
