"""Events for tests of the core, as a bot would emit them."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from tradetape.producers.events import new_event

_numbers = itertools.count(1)
START = 1_700_000_000_000_000


def event(event_type: str, payload: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An event of bot1 on kucoin ONE-USDT; ``fields`` override the envelope."""
    number = next(_numbers)
    event_id = fields.pop("event_id", str(uuid.UUID(int=number, version=4)))
    given = {
        "ts_utc": START + number * 1_000,
        "producer": "test",
        "instance_name": "bot1",
        "connector_name": "kucoin",
        "trading_pair": "ONE-USDT",
        "correlation_id": event_id,
        **fields,
    }
    return new_event(event_type, event_id=event_id, payload=payload, **given)


def created(
    order: str, side: str = "buy", amount: str = "10", price: str | None = "2", **fields: Any
) -> dict[str, Any]:
    payload = {"client_order_id": order, "side": side, "order_type": "limit", "amount_base": amount, "is_live": True}
    return event("order_created", {**payload, "price": price}, correlation_id=f"chain-{order}", **fields)


def filled(
    order: str, quantity: str = "10", price: str = "2", side: str | None = None, **fields: Any
) -> dict[str, Any]:
    payload = {
        "client_order_id": order,
        "fill_price": price,
        "fill_qty_base": quantity,
        "fill_qty_quote": "0",
        "fee_asset": "USDT",
        "fee_amount": fields.pop("fee", "0"),
        "liquidity_side": "unknown",
        "side": side,
    }
    return event("order_filled", payload, **{"correlation_id": f"chain-{order}", **fields})


def ended(order: str, how: str = "order_completed", **fields: Any) -> dict[str, Any]:
    payload = {"client_order_id": order}
    if how == "order_failed":
        payload["error_message"] = "no"
    return event(how, payload, **{"correlation_id": f"chain-{order}", **fields})
