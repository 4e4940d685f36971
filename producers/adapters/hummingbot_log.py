"""A line of Hummingbot's log → an event, where it is one of level EVENT_LOG: pure, never raises.

Hummingbot's event reporter writes every order event of a connector as JSON into the bot's log:
``<time> - <process> - <logger> - EVENT_LOG - {"timestamp": …, "order_id": …, "event_name": …, "event_source": …}``.
The JSON names neither the bot, nor, in some events, the pair: the pair is that of the order's creation, of its assets,
or of an order id of the form ``buy-BASE-QUOTE-<number>``. All events of an order carry the id of its creation as
their correlation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from tradetape.producers.adapters import hummingbot_values as values
from tradetape.producers.adapters.hummingbot_values import Unmappable
from tradetape.producers.adapters.mapping import Adapter, Native, is_live, rules
from tradetape.producers.adapters.native import parse_json
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.events import Event
from tradetape.schemas import environments, identity, instruments, numbers

SYSTEM = "hummingbot_log"

_EVENT = re.compile(rb"\d{4}-\d\d-\d\d[ T][\d:,.]+ - (?:\d+ - )?[\w.]+ - EVENT_LOG - (.*)", re.DOTALL)
_ORDER_ID = re.compile(r"(?:buy|sell)-([A-Za-z0-9.]+-[A-Za-z0-9.]+)-\d+")
_SIDES = {"buy": "buy", "sell": "sell"}
_ORDER_TYPES = {"limit": "limit", "limit_maker": "limit_maker", "market": "market"}
_LONGEST_ID = 256


@dataclass(frozen=True, slots=True)
class Known:
    """What an order's creation said about it."""

    pair: str


def is_event(line: bytes) -> bool:
    """Whether ``line`` is one of level EVENT_LOG."""
    return _EVENT.match(line) is not None


def from_line(
    origin: Origin,
    line: bytes,
    stream: str,
    position: int,
    *,
    orders: Mapping[str, Known],
    length: int | None = None,
    fragment: str = "",
) -> Event:
    """The event of a line of level EVENT_LOG.

    ``orders`` are those whose creation came before, by their ids. ``length`` is given where ``line`` is only the
    beginning of a longer one, ``fragment`` says why the bytes are no whole line: they go out without a position.
    """
    if fragment:
        event_id = identity.derive(origin.source_id, stream, str(position), line.hex())
        return ADAPTER.to_event(_broken(line, stream, None, fragment, event_id), origin)
    if length is not None:
        event = ADAPTER.to_event(_broken(line, stream, position, f"line_too_long: {length} bytes"), origin)
        event["payload"]["native_bytes"] = length
        return event
    found = _EVENT.match(line)
    try:
        record = parse_json(found[1] if found else line)
    except ValueError as error:
        return ADAPTER.to_event(_broken(line, stream, position, f"not_json: {error}"[:300]), origin)
    if not isinstance(record, dict):
        problem = f"not_an_object: a JSON {type(record).__name__}"
        return ADAPTER.to_event(_broken(line, stream, position, problem), origin)
    return ADAPTER.to_event(replace(_native(record, origin, orders, line), stream=stream, position=position), origin)


def created(event: Event) -> tuple[str, Known] | None:
    """The order that ``event`` created, for the events after it."""
    if event["event_type"] != "order_created":
        return None
    return event["payload"]["client_order_id"], Known(event["trading_pair"])


def _native(record: dict[str, Any], origin: Origin, orders: Mapping[str, Known], line: bytes) -> Native:
    payload = dict(record)
    said = payload.pop("event_name", None)
    spelling = said if isinstance(said, str) else ""
    order_id = payload.get("order_id")
    order_id = order_id if isinstance(order_id, str) else ""
    known = orders.get(order_id)
    envelope: dict[str, Any] = {"ts_utc": payload.pop("timestamp", None)}
    if _is_id(order_id):
        chain = identity.derive(origin.source_id, "Order", order_id)
        envelope |= {"correlation_id": chain, "aggregate_type": "order", "aggregate_id": order_id}
        if known is None and spelling in ("BuyOrderCreatedEvent", "SellOrderCreatedEvent"):
            envelope |= {"event_id": chain, "native_event_id": order_id}
    market = payload.get("event_source") or payload.get("market")
    if isinstance(market, str) and market:
        envelope["connector_name"] = market
        envelope["environment"] = origin.environment or environments.of_connector(market)
        payload.pop("event_source", None)
    envelope["trading_pair"] = _pair(payload, known)
    problem = ""
    if spelling == "OrderFilledEvent":
        try:
            payload |= _fees(payload, str(envelope["trading_pair"] or ""))
        except Unmappable as error:
            problem = str(error)
    if spelling.endswith("OrderCreatedEvent") and _word(payload.get("type")) == "market" and not _number(payload):
        payload.pop("price", None)
    return Native(spelling if spelling in rules(SYSTEM) else "", spelling, payload, envelope, line, "", None, problem)


def _broken(line: bytes, stream: str, position: int | None, problem: str, event_id: str | None = None) -> Native:
    return Native("", "", {}, {"event_id": event_id}, line, stream, position, problem)


def _is_id(value: str) -> bool:
    return 0 < len(value) <= _LONGEST_ID and value.isprintable()


def _pair(payload: dict[str, Any], known: Known | None) -> Any:
    pair = payload.pop("trading_pair", None)
    if pair:
        return pair
    base, quote = payload.get("base_asset"), payload.get("quote_asset")
    if isinstance(base, str) and isinstance(quote, str) and base and quote:
        return f"{base}-{quote}"
    if known is not None:
        return known.pair
    order_id = payload.get("order_id")
    found = _ORDER_ID.fullmatch(order_id) if isinstance(order_id, str) else None
    return found[1] if found else None


def _fees(payload: dict[str, Any], pair: str) -> dict[str, Any]:
    """fee_asset, fee_amount and other_fees of a fill; ``trade_fee`` itself stays beside the payload."""
    base, quote = instruments.split(pair)
    price, amount = _number(payload), _number(payload, "amount")
    if price is None or amount is None:
        raise Unmappable(f"{'price' if price is None else 'amount'} is no number")
    fee = _as_text(payload.get("trade_fee"))
    paid = values.fees(
        {"trade_fee": fee}, base=base, quote=quote, buys=_side_of(payload) == "buy", price=price, amount=amount
    )
    first = paid.components[0] if paid.components else values.Fee(quote, Decimal(0))
    rest = [{"asset": fee.asset, "amount": fee.amount} for fee in paid.components[1:]]
    return {"fee_asset": first.asset, "fee_amount": first.amount, "other_fees": rest}


def _as_text(value: Any) -> Any:
    """Numbers as the text that ``values.fees`` reads."""
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list) else value


def _number(payload: Mapping[str, Any], name: str = "price") -> Decimal | None:
    try:
        return numbers.read(payload.get(name))[0]
    except numbers.NumberError:
        return None


def _word(value: object) -> str:
    return value.rpartition(".")[2].strip().lower() if isinstance(value, str) else ""


def _side_of(payload: Mapping[str, Any]) -> str | None:
    return _SIDES.get(_word(payload.get("trade_type")))


def _side(native: Native, _: Origin) -> str | None:
    return _side_of(native.payload)


def _order_type(native: Native, _: Origin) -> str | None:
    word = _word(native.payload.get("type"))
    if not word:
        return None
    return _ORDER_TYPES.get(word, "market" if native.payload.get("price") is None else "limit")


def _liquidity(native: Native, _: Origin) -> str | None:
    return "maker" if _word(native.payload.get("order_type")) == "limit_maker" else None


def _notional(native: Native, _: Origin) -> Decimal | None:
    price, amount = _number(native.payload), _number(native.payload, "amount")
    return None if price is None or amount is None else numbers.WIDE.multiply(price, amount)


def _quote_asset(native: Native, _: Origin) -> str | None:
    pair = native.envelope.get("trading_pair")
    return instruments.split(pair)[1] or None if isinstance(pair, str) else None


ADAPTER = Adapter(
    SYSTEM,
    1,
    {
        "side": _side,
        "order_type": _order_type,
        "liquidity": _liquidity,
        "is_live": is_live,
        "notional": _notional,
        "quote_asset": _quote_asset,
    },
)
