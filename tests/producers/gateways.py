"""Events, clients and a stand-in for what keeps them, for the tests of the gateway."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tradetape.producers.gateway.auth import Client, Clients
from tradetape.producers.gateway.outlet import Unavailable
from tradetape.producers.gateway.reading import Taken
from tradetape.producers.spool import Health

TOKEN, LEGACY_TOKEN, DESK_TOKEN, SLOW_TOKEN = (
    f"{name}-token-of-the-tests" for name in ("bot", "legacy", "desk", "slow")
)
EVENT_ID = "0b0f3a52-0000-4000-8000-000000000001"


def clients() -> Clients:
    """One that may everything, one with legacy, one for two kinds of bots, and a slow one."""
    return Clients(
        [
            (TOKEN, Client("default", "http:default")),
            (LEGACY_TOKEN, Client("old", "http:old", legacy=True)),
            (DESK_TOKEN, Client("desk", "http:desk", ("bot1", "desk-*"))),
            (SLOW_TOKEN, Client("slow", "http:slow", events_per_second=2, bytes_per_second=100_000)),
        ]
    )


def event(**changes: Any) -> dict[str, Any]:
    """A good order_filled of bot1; ``changes`` override the envelope, ``payload`` keys merge."""
    payload = {
        "client_order_id": "o-1",
        "fill_price": "20000.5",
        "fill_qty_base": "0.25",
        "fill_qty_quote": "5000.125",
        "fee_asset": "USDT",
        "fee_amount": "1.25",
        "liquidity_side": "maker",
        **changes.pop("payload", {}),
    }
    return {
        "event_id": EVENT_ID,
        "event_type": "order_filled",
        "event_version": "v1",
        "ts_utc": "2026-11-20T10:00:00Z",
        "producer": "execution",
        "instance_name": "bot1",
        "controller_id": "epp_v2_4",
        "connector_name": "bitget",
        "trading_pair": "BTC-USDT",
        "correlation_id": EVENT_ID,
        "payload": payload,
        **changes,
    }


def text(*changes: dict[str, Any]) -> bytes:
    """A JSON array of events."""
    return json.dumps([event(**one) for one in changes]).encode()


class Shelf:
    """Stands in for the Outlet: keeps what it is given, or refuses."""

    def __init__(self) -> None:
        self.kept: list[Taken] = []
        self.calls: list[str] = []
        self.refusing = False
        self.is_direct = True

    def start(self) -> None:
        self.calls.append("start")

    async def take(self, taken: Sequence[Taken]) -> list[Taken]:
        if self.refusing:
            raise Unavailable("Kafka is away and the spool is full")
        self.kept += taken
        return list(taken)

    async def kafka_answers(self) -> bool:
        return self.is_direct

    async def close(self, drain_timeout: float = 5.0) -> int:
        self.calls.append("close")
        return 0

    @staticmethod
    def health() -> Health:
        return Health(True, 7, 5, 1, 0, 300, "Kafka at 10.0.0.7:9092 does not take events")
