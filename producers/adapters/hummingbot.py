"""Hummingbot's trade database → canonical events: pure, never raises, never drops (P-10).

Rows are dicts of the columns that the database has; columns of other versions may be missing. What cannot be
mapped, or breaks a contract rule, becomes an UnmappedRecord with the native rows as JSON. Ids follow from the
source's id and the rows' own keys, so the same row always becomes the same event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from tradetape.producers import events, unmapped
from tradetape.producers.adapters import hummingbot_values as values
from tradetape.producers.adapters.hummingbot_identity import (
    Database,
    fill_event_id,
    instance_of,
    is_utf8,
    key,
    order_event_id,
    snapshot_event_id,
)
from tradetape.producers.adapters.hummingbot_values import Row, Unmappable
from tradetape.producers.adapters.rows import native_json
from tradetape.producers.events import Event
from tradetape.schemas import environments, identity, numbers, rules
from tradetape.schemas.catalogue import event_types

__all__ = [
    "ADAPTER",
    "CREATED",
    "FILLED",
    "FORMAT",
    "SCALED_COLUMNS",
    "TERMINAL",
    "Database",
    "ended",
    "fill_event_id",
    "from_fill",
    "from_filled_status",
    "from_order",
    "from_status",
    "instance_of",
    "is_utf8",
    "key",
    "order_event_id",
    "snapshot_event_id",
]

FORMAT = "hummingbot"
ADAPTER = "hummingbot@1"

FILLED = "OrderFilled"
CREATED = ("BuyOrderCreated", "SellOrderCreated")
TERMINAL = ("OrderCancelled", "OrderFailure", "OrderExpired", "BuyOrderCompleted", "SellOrderCompleted")

SCALED_COLUMNS = ("price", "amount", "trade_fee_in_quote")
ORDER_TYPES = {"limit": "limit", "limit_maker": "limit_maker", "market": "market"}


def from_status(
    database: Database,
    status: Row,
    *,
    order: Row | None = None,
    known: Row | None = None,
    first_created: bool = False,
) -> Event:
    """The event of an OrderStatus row that is not confirmed by a TradeFill row.

    ``order`` is its Order row; ``known`` any TradeFill row of the same order, where there is no Order row.
    ``first_created`` marks the first Created status of its order: the root of the order's chain.
    """
    native: dict[str, Row] = {"OrderStatus": status}
    if first_created and order is not None:
        native["Order"] = order
    event_id = (
        order_event_id(database, status.get("order_id"))
        if first_created
        else identity.derive(database.source_id, "OrderStatus", key(status.get("id")))
    )
    stamps = _status_stamps(database, status, event_id)
    stamps["native_event_id"] = status.get("order_id") if first_created else key(status.get("id"))

    def mapping(event: Event) -> None:
        _place(event, order or known or database.only)
        event["ts_utc"] = values.micros(status, "timestamp")
        said = values.text(status, "status")
        order_id = _order_id(status.get("order_id"))
        build = _STATUSES.get(said)
        if build is None:
            event |= {"event_type": "order_status", "payload": {"client_order_id": order_id, "status": said}}
        else:
            event["event_type"], event["payload"] = build(event, order_id, said, order, database)

    return _mapped(database, stamps, native, mapping)


def from_filled_status(
    database: Database, status: Row, fill: Row, *, rowid: int, copy: int = 1, order: Row | None = None
) -> Event:
    """The order_filled of the OrderFilled ``status`` and the TradeFill row that it confirms."""
    stamps = _status_stamps(database, status, fill_event_id(database, fill, rowid, copy))

    def mapping(event: Event) -> None:
        event["ts_utc"] = values.micros(status, "timestamp")
        _map_fill(event, fill, order, database)

    return _mapped(database, stamps, {"OrderStatus": status, "TradeFill": fill}, mapping, fill)


def from_fill(database: Database, fill: Row, *, rowid: int, copy: int = 1, order: Row | None = None) -> Event:
    """The order_filled of a TradeFill row that no OrderFilled status confirms."""
    event_id = fill_event_id(database, fill, rowid, copy)
    stamps = _stamps(database, event_id, fill.get("order_id"), stream="TradeFill", position=None, said="TradeFill")

    def mapping(event: Event) -> None:
        event["ts_utc"] = values.micros(fill, "timestamp")
        _map_fill(event, fill, order, database)

    return _mapped(database, stamps, {"TradeFill": fill}, mapping, fill)


def from_order(database: Database, order: Row, *, fill: Row | None = None) -> Event:
    """The order_snapshot of an Order row without a Created status; ``fill`` tells the side where the row does not."""
    event_id = snapshot_event_id(database, order)
    stamps = _stamps(database, event_id, order.get("id"), stream="Order", position=None, said="Order")
    stamps["native_event_id"] = order.get("id")

    def mapping(event: Event) -> None:
        _place(event, order)
        time = "creation_timestamp" if order.get("creation_timestamp") is not None else "last_update_timestamp"
        event["ts_utc"] = values.micros(order, time)
        payload: Event = {"client_order_id": _order_id(order.get("id"))} | _order_terms(event, order, database)
        said = values.text(order, "last_status")
        side = _side(said) or (_side(values.text(fill, "trade_type")) if fill else None)
        payload |= {"status": said or None, "side": side}
        event |= {"event_type": "order_snapshot", "payload": payload}

    return _mapped(database, stamps, {"Order": order}, mapping)


def ended(
    database: Database,
    instance: str,
    *,
    connector_name: str,
    last_status_id: int,
    rows: Mapping[str, int],
    counts: Mapping[str, int],
    ts_utc: int,
) -> Event:
    """The control event that closes ``instance``: its rows by table and the events they became, from the start."""
    event_id = identity.derive(
        database.source_id,
        "source_ended",
        instance,
        str(last_status_id),
        str(rows.get("TradeFill", 0)),
        str(rows.get("Order", 0)),
    )
    event = _stamps(database, event_id, None, stream=None, position=None, said="source_ended") | {
        "event_type": "source_ended",
        "correlation_id": event_id,
        "aggregate_type": None,
        "aggregate_id": None,
        "instance_name": instance,
        "connector_name": connector_name,
        "environment": environments.of_connector(connector_name),
        "ts_utc": ts_utc,
    }
    return events.envelope(**event) | {"payload": {"rows": dict(rows), "events": dict(counts)}}


def _status_stamps(database: Database, status: Row, event_id: str) -> Event:
    position = status.get("id")
    if not isinstance(position, int) or not -(2**63) <= position < 2**63:
        position = None
    order_id, said = status.get("order_id"), status.get("status")
    return _stamps(database, event_id, order_id, stream="OrderStatus", position=position, said=said)


def _stamps(
    database: Database, event_id: str, order_id: object, *, stream: str | None, position: int | None, said: object
) -> Event:
    return {
        "event_id": event_id,
        "correlation_id": order_event_id(database, order_id),
        "producer": FORMAT,
        "controller_id": "",
        "source_system": FORMAT,
        "source_id": database.source_id,
        "source_stream": stream,
        "source_position": position,
        "adapter": ADAPTER,
        "ingest_source": FORMAT,
        "native_type": said if isinstance(said, str) and is_utf8(said) else None,
        "aggregate_type": "order",
        "aggregate_id": order_id if isinstance(order_id, str) and is_utf8(order_id) else None,
    }


def _mapped(
    database: Database,
    stamps: Event,
    native: Mapping[str, Row],
    mapping: Callable[[Event], None],
    placed: Row | None = None,
) -> Event:
    raw = native_json(native)
    native_id = stamps.get("native_event_id")
    stamps["native_event_id"] = native_id if isinstance(native_id, str) and is_utf8(native_id) else None
    event = events.envelope(**stamps)
    try:
        mapping(event)
        broken = list(rules.violations(event, event_types()[event["event_type"]]))
        if not broken:
            event["native"] = raw
            return event
        error = unmapped.explain(broken)
    except Unmappable as refused:
        error = str(refused)
    if placed is not None and not event["instance_name"]:
        event["instance_name"] = instance_of(placed.get("config_file_path"))
    event["event_type"] = None
    return unmapped.unmapped(format=FORMAT, error=error, native=raw, fields=event, location=database.location)


def _place(event: Event, row: Row) -> None:
    """The instance, connector, pair and strategy that ``row`` names."""
    event["instance_name"] = instance_of(values.text(row, "config_file_path"))
    event["connector_name"] = values.text(row, "market")
    event["environment"] = environments.of_connector(event["connector_name"])
    event["trading_pair"] = values.text(row, "symbol")
    event["source"] = values.some_text(row, "strategy")
    if not event["instance_name"]:
        raise Unmappable("no row says which bot, market and pair this belongs to")


def _created(event: Event, order_id: str, said: str, order: Row | None, database: Database) -> tuple[str, Event]:
    if order is None:
        raise Unmappable(f"{said} of an order that table Order does not have: its amount is unknown")
    payload = {"client_order_id": order_id, "side": _side(said)} | _order_terms(event, order, database)
    return "order_created", payload | {"amount_quote": None, "is_live": event["environment"] == environments.LIVE}


def _order_terms(event: Event, order: Row, database: Database) -> Event:
    amount = values.number(order, "amount", ("Order", "amount") in database.scaled)
    price = values.number(order, "price", ("Order", "price") in database.scaled)
    extra = _extra(order, database)
    order_type, native_type = _order_type(values.text(order, "order_type"), bool(price))
    if native_type is not None:
        extra["native_order_type"] = native_type
    if order_type == "market" and not price:
        price = None
    event["extra"] = _json_text(extra)
    return {
        "order_type": order_type,
        "price": _fitted(event, "price", price),
        "amount_base": _fitted(event, "amount_base", amount),
        "exchange_order_id": values.some_text(order, "exchange_order_id"),
    }


def _map_fill(event: Event, fill: Row, order: Row | None, database: Database) -> None:
    _place(event, fill if fill.get("config_file_path") else order or database.only)
    event["native_event_id"] = values.some_text(fill, "exchange_trade_id")
    side = _side(values.text(fill, "trade_type"))
    if side is None:
        raise Unmappable(f"trade_type {values.text(fill, 'trade_type')[:80]!r} is neither BUY nor SELL")
    price = values.number(fill, "price", ("TradeFill", "price") in database.scaled)
    amount = values.number(fill, "amount", ("TradeFill", "amount") in database.scaled)
    if price is None or amount is None:
        raise Unmappable(f"{'price' if price is None else 'amount'} is NULL")
    base, quote = _assets(fill)
    paid = values.fees(fill, base=base, quote=quote, buys=side == "buy", price=price, amount=amount)
    first = paid.components[0] if paid.components else values.Fee(quote, Decimal(0))
    order_type, _ = _order_type(values.text(fill, "order_type"), True)
    executed = values.micros(fill, "timestamp")
    event["event_type"] = "order_filled"
    event["payload"] = {
        "client_order_id": _order_id(fill.get("order_id")),
        "fill_id": values.some_text(fill, "exchange_trade_id"),
        "fill_price": _fitted(event, "fill_price", price),
        "fill_qty_base": _fitted(event, "fill_qty_base", amount),
        "fill_qty_quote": _fitted(event, "fill_qty_quote", numbers.WIDE.multiply(price, amount)),
        "fee_asset": first.asset,
        "fee_amount": first.amount,
        "liquidity_side": "maker" if order_type == "limit_maker" else "unknown",
        "side": side,
        "executed_ts_utc": executed if executed != event["ts_utc"] else None,
        "other_fees": [{"asset": fee.asset, "amount": fee.amount} for fee in paid.components[1:]],
        "exchange_order_id": values.some_text(order, "exchange_order_id") if order else None,
    }
    if paid.rounded:
        event["precision_rounded"].append("fee_amount")
    extra = _extra(fill, database)
    if paid.kind is not None:
        extra["fee_type"] = paid.kind
    event["extra"] = _json_text(extra)


def _cancelled(event: Event, order_id: str, said: str, order: Row | None, database: Database) -> tuple[str, Event]:
    return "order_cancelled", {"client_order_id": order_id, "reason": None, "cancel_source": None}


def _failed(event: Event, order_id: str, said: str, order: Row | None, database: Database) -> tuple[str, Event]:
    # Hummingbot records that an order failed, not why: its status text is all the message there is.
    payload = {"client_order_id": order_id, "error_code": None, "error_message": said, "failure_stage": None}
    return "order_failed", payload


def _expired(event: Event, order_id: str, said: str, order: Row | None, database: Database) -> tuple[str, Event]:
    return "order_expired", {"client_order_id": order_id, "reason": None}


def _completed(event: Event, order_id: str, said: str, order: Row | None, database: Database) -> tuple[str, Event]:
    return "order_completed", {"client_order_id": order_id, "side": _side(said)}


_STATUSES = {
    "BuyOrderCreated": _created,
    "SellOrderCreated": _created,
    "OrderCancelled": _cancelled,
    "OrderFailure": _failed,
    "OrderExpired": _expired,
    "BuyOrderCompleted": _completed,
    "SellOrderCompleted": _completed,
}


def _fitted(event: Event, name: str, value: Decimal | None) -> Decimal | None:
    if value is None:
        return None
    fitted, rounded = values.fit(value, name)
    if rounded:
        event["precision_rounded"].append(name)
    return fitted


def _order_id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Unmappable("the order id is missing")
    if not is_utf8(value):
        raise Unmappable("the order id is not UTF-8")
    return value


def _order_type(native: str, has_price: bool) -> tuple[str, str | None]:
    """The canonical order type, and the native text where it is another."""
    word = native.rpartition(".")[2].lower()
    found = ORDER_TYPES.get(word)
    return (found, None) if found else ("limit" if has_price else "market", native)


def _side(native: str) -> str | None:
    word = native.rpartition(".")[2].lower()
    if word.startswith("buy"):
        return "buy"
    return "sell" if word.startswith("sell") else None


def _assets(row: Row) -> tuple[str, str]:
    pair = re.split(r"[-/]", values.text(row, "symbol"))
    base, quote = (pair[0], pair[-1]) if len(pair) > 1 else ("", "")
    return values.text(row, "base_asset") or base, values.text(row, "quote_asset") or quote


def _extra(row: Row, database: Database) -> dict[str, Any]:
    """What the payload's schema has no key for."""
    extra: dict[str, Any] = {}
    for name in ("leverage", "position", "strategy"):
        value = row.get(name)
        if isinstance(value, int) or (isinstance(value, str) and is_utf8(value)):
            extra[name] = value
    if row.get("trade_fee_in_quote") is not None:
        table = "TradeFill"
        fee = values.number(row, "trade_fee_in_quote", (table, "trade_fee_in_quote") in database.scaled)
        extra["trade_fee_in_quote"] = numbers.text(fee) if fee is not None else None
    return extra


def _json_text(extra: Mapping[str, Any]) -> str | None:
    return json.dumps(extra, ensure_ascii=False) if extra else None
