"""JSON lines of the canonical contract, good ones and broken ones, each broken in one way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import cycle
from random import Random
from typing import Any, NamedTuple

from tradetape.producers.simulator.ledger import START_MS
from tradetape.schemas import times


class LineCase(NamedTuple):
    """A JSON line and the reason code it is rejected with; None where it is good."""

    line: bytes
    reason: str | None


def envelope_lines(seed: int, n: int, *, bad: int = 0, instances: int = 3, start_ms: int = START_MS) -> list[LineCase]:
    """``n`` canonical JSON lines, ``bad`` of them broken, each in one way; the ways take turns."""
    random = Random(f"lines:{seed}")
    broken = set(random.sample(range(n), bad))
    ways = cycle(BREAKS)
    cases: list[LineCase] = []
    for index, event in zip(range(n), _good_events(random, instances, start_ms), strict=False):
        if index in broken:
            reason = next(ways)
            cases.append(LineCase(broken_line(event, reason), reason))
        else:
            cases.append(LineCase(json.dumps(event).encode(), None))
    return cases


def broken_line(event: Mapping[str, Any], reason: str) -> bytes:
    """The line of a good ``event``, broken so that it is rejected with ``reason`` (of BREAKS); its id stays in it."""
    spoilt = BREAKS[reason](dict(event))
    return spoilt if isinstance(spoilt, bytes) else json.dumps(spoilt).encode()


def new_id(random: Random) -> str:
    """A UUID of version 4."""
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _good_events(random: Random, instances: int, start_ms: int) -> Iterator[dict[str, Any]]:
    moment = start_ms * 1000
    while True:
        instance = f"line_bot_{random.randint(1, instances)}"
        order_id, chain = f"c{random.getrandbits(64):016x}", new_id(random)
        price, amount = Decimal(random.randint(10_000, 30_000)), Decimal(random.randint(1, 900)).scaleb(-3)
        created = {
            "client_order_id": order_id,
            "side": random.choice(("buy", "sell")),
            "order_type": "limit",
            "price": str(price),
            "amount_base": str(amount),
            "is_live": True,
        }
        filled = {
            "client_order_id": order_id,
            "side": created["side"],
            "fill_price": str(price),
            "fill_qty_base": str(amount),
            "fill_qty_quote": str(price * amount),
            "fee_asset": "USDT",
            "fee_amount": str(price * amount / 1000),
            "liquidity_side": "maker",
        }
        ending: tuple[str, dict[str, Any]] = random.choice(
            (("order_filled", filled), ("order_cancelled", {"client_order_id": order_id, "reason": "refresh"}))
        )
        for event_type, payload in (("order_created", created), ending):
            moment += random.randint(1_000, 5_000_000)
            yield {
                "event_id": chain if event_type == "order_created" else new_id(random),
                "event_type": event_type,
                "event_version": "v1",
                "ts_utc": times.text(moment),
                "producer": "simulator",
                "instance_name": instance,
                "controller_id": "epp_v2_4",
                "connector_name": "bitget",
                "trading_pair": "BTC-USDT",
                "correlation_id": chain,
                "payload": payload,
            }


def _without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda event: {key: value for key, value in event.items() if key != name}


def _with(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda event: {**event, **values}


def _created(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    text = {"client_order_id": "c1", "side": "buy", "order_type": "limit", "price": "1", "amount_base": "1"}
    payload: dict[str, Any] = {**text, "is_live": True}
    return lambda event: {**event, "event_type": "order_created", "payload": {**payload, **values}}


BREAKS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | bytes]] = {
    "not_json": lambda event: json.dumps(event).encode()[:-9],
    "not_an_object": lambda event: json.dumps([event]).encode(),
    "missing_field": _without("producer"),
    "empty_field": _with(instance_name=""),
    "wrong_type": _with(trading_pair=7),
    "unknown_event_type": _with(event_type="order_imagined"),
    "unsupported_event_version": _with(event_version="v9"),
    "missing_correlation_id": _without("correlation_id"),
    "ts_unparseable": _with(ts_utc="yesterday"),
    "ts_not_utc": _with(ts_utc="2024-05-01T12:00:00+02:00"),
    "ts_out_of_range": _with(ts_utc="1999-12-31T23:59:59Z"),
    "missing_payload_key": _created(amount_base=None),
    "not_in_enumeration": _created(side="long"),
    "price_required": _created(price=None),
    "number_invalid": _created(amount_base="NaN"),
    "number_out_of_range": _created(amount_base="1e30"),
    "text_invalid": _with(controller_id="\ud800"),
}
"""How a line can be broken, by the code of the rejection that must follow."""
