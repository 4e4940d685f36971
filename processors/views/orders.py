"""An order as its history stands (P-04, S1-06)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tradetape.processors.lineage import Order
from tradetape.processors.views.look import Look

KEY = ("environment", "account", "instance_name", "connector_name", "client_order_id")


def order(look: Look, key: tuple[str, ...]) -> dict[str, Any] | None:
    """The order at ``key`` (fields of KEY); None where the record knows none, or none any more."""
    found = look.state.find(Order, *key)
    if found is None:
        return None
    return {
        **dict(zip(KEY, key, strict=True)),
        "is_open": found.is_open,
        "created": found.created,
        "known": found.known,
        "side": found.side,
        "amount_base": found.amount,
        "filled_base": found.filled,
        "executions": len(found.fill_ids),
        "waiting_executions": len(found.pending),
        "terminals": dict(found.terminals),
        "open_findings": list(found.open_findings),
        "last_ts_utc": found.last_ts or None,
    }


def open_orders(look: Look, owner: tuple[str, str, str]) -> Iterator[dict[str, Any]]:
    """The open orders of the instance ``owner``."""
    for key in look.names(Order, *owner):
        found = order(look, key)
        if found is not None and found["is_open"]:
            yield found
