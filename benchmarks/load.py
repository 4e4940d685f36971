"""A deterministic load: orders of many bots, created, filled in parts, cancelled or completed."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tradetape.producers.events import envelope
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.registry import Registry

START = 1_790_000_000_000_000
"""Time of the first event, microseconds."""


def encoders(registry: Registry) -> dict[str, codec.Encoder]:
    """An encoder per event type, ids looked up."""
    return {
        name: codec.Encoder(event_type.schema, registry.look_up(topics.EVENTS, event_type.schema))
        for name, event_type in event_types().items()
    }


def records(registry: Registry, count: int, instances: int, seed: int) -> list[tuple[bytes, bytes]]:
    """``events`` as they stand on ``tradetape.events``: key and value."""
    encode = encoders(registry)
    return [
        (event["instance_name"].encode(), encode[event["event_type"]].encode(event))
        for event in events(count, instances, seed)
    ]


def events(count: int, instances: int, seed: int) -> Iterator[dict[str, Any]]:
    """``count`` events over ``instances`` bots: created, one or two fills, an end. Exact decimals throughout."""
    rng = random.Random(seed)
    run = uuid.UUID(int=rng.getrandbits(128), version=4)
    emitted = number = 0
    while emitted < count:
        number += 1
        for event in _order(rng, run, number, f"bot-{rng.randrange(instances):05d}"):
            event["ts_utc"] = START + emitted * 1_000
            event["source_position"] = emitted
            yield event
            emitted += 1
            if emitted == count:
                return


def _order(rng: random.Random, run: uuid.UUID, number: int, instance: str) -> Iterator[dict[str, Any]]:
    order, side = f"{run.hex[:12]}-{number}", rng.choice(["buy", "sell"])
    price = Decimal(rng.randrange(10_000, 20_000)).scaleb(-2)
    chain = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    common = {
        "producer": "bench",
        "instance_name": instance,
        "controller_id": "mm",
        "connector_name": "kucoin",
        "trading_pair": rng.choice(["BTC-USDT", "ETH-USDT", "ONE-USDT"]),
        "correlation_id": chain,
        "source_system": "bench",
        "source_id": str(run),
        "source_stream": "orders",
    }

    def event(event_type: str, payload: dict[str, Any], event_id: str | None = None) -> dict[str, Any]:
        made = envelope(
            event_type=event_type, event_id=event_id or str(uuid.UUID(int=rng.getrandbits(128), version=4)), **common
        )
        return {**made, "payload": payload}

    amount = Decimal(rng.randrange(2, 200)).scaleb(-1)
    yield event(
        "order_created",
        {
            "client_order_id": order,
            "side": side,
            "order_type": "limit",
            "price": price,
            "amount_base": amount,
            "is_live": True,
        },
        chain,
    )
    if rng.random() < 0.5:
        yield event("order_cancelled", {"client_order_id": order, "reason": "requote", "cancel_source": "strategy"})
        return
    for part in (amount / 2, amount / 2):
        yield event(
            "order_filled",
            {
                "client_order_id": order,
                "fill_price": price,
                "fill_qty_base": part,
                "fill_qty_quote": part * price,
                "fee_asset": "USDT",
                "fee_amount": (part * price).scaleb(-3),
                "liquidity_side": "maker",
                "other_fees": [],
            },
        )
    yield event("order_completed", {"client_order_id": order})
