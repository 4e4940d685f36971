"""A line of Trend's events.jsonl → a typed event, or an UnmappedRecord with the line: pure, never raises (S2-01).

Types are known in every spelling: ``SystemStarted``, ``SYSTEM_STARTED``, ``system_started``. Keys of ``metadata`` (and
keys that the ledger's form does not have) which the envelope knows go there; the rest is kept in ``extra`` under
``metadata``. ``sequence_num`` is the envelope's ``sequence``; it counts the whole ledger, so there is no ``run_id``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from tradetape.producers import unmapped
from tradetape.producers.adapters.mapping import Adapter, Native, is_live, rules
from tradetape.producers.adapters.native import moment, parse_json
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.events import Event
from tradetape.schemas import identity, instruments, numbers
from tradetape.schemas.rules import ENVELOPE_ENUMERATIONS

SYSTEM = "trend"

_FORM = frozenset({"event_id", "event_type", "timestamp", "sequence_num", "payload", "metadata"})
_TEXTS = ("source", "correlation_id", "causation_id", "user_id", "controller_id", "account", "owner")
_SIDES = {"buy": "buy", "long": "buy", "sell": "sell", "short": "sell"}
_LIMITS = {
    "limit": "limit",
    "limit_maker": "limit_maker",
    "stop": "limit",
    "stop_limit": "limit",
    "stop_loss_limit": "limit",
    "take_profit": "limit",
    "take_profit_limit": "limit",
}
_CONDITIONAL = ("stop", "take_profit")
"""On futures they have a limit price beside the stop price, on spot they have none."""
_BAR = ("open", "high", "low", "close", "volume")
_SHORT = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"} | dict.fromkeys(
    ("t", "ts", "time", "timestamp", "open_time"), "open_ts_utc"
)
_LARGEST_DIGITS = 60


def from_line(
    origin: Origin, line: bytes, stream: str, position: int, *, length: int | None = None, fragment: str = ""
) -> Event:
    """The event of the line at ``position`` of ``stream``.

    ``length`` is given where ``line`` is only the beginning of a longer one. ``fragment`` says why the bytes are no
    whole line: they go out without a position, because the whole line may come later.
    """
    if length is not None:
        event = ADAPTER.to_event(_broken(line, stream, position, f"line_too_long: {length} bytes"), origin)
        event["payload"]["native_bytes"] = length
        return event
    if fragment:
        event_id = identity.derive(origin.source_id, stream, str(position), line.hex())
        return ADAPTER.to_event(_broken(line, stream, None, fragment, event_id), origin)
    try:
        record = parse_json(line)
    except ValueError as error:
        return ADAPTER.to_event(_broken(line, stream, position, f"not_json: {error}"[:300]), origin)
    if not isinstance(record, dict):
        problem = f"not_an_object: a JSON {type(record).__name__}"
        return ADAPTER.to_event(_broken(line, stream, position, problem), origin)
    return ADAPTER.to_event(native_of(record, line, stream, position), origin)


def native_of(record: Mapping[str, Any], line: bytes, stream: str, position: int) -> Native:
    """The parsed ``record`` in the terms of the mapping."""
    said = record.get("event_type")
    spelling = said if isinstance(said, str) else "" if said is None else str(said)[:200]
    payload, problem = record.get("payload"), ""
    if payload is None:
        payload = {}
    elif not isinstance(payload, dict):
        problem = f"wrong_type: payload is a JSON {type(payload).__name__}, not an object"
        payload = {}
    envelope, rest = _context(record)
    envelope |= {
        "event_id": record.get("event_id"),
        "ts_utc": record.get("timestamp"),
        "sequence": record.get("sequence_num"),
    }
    type_ = native_type(spelling) if isinstance(said, str) else ""
    payload = _PREPARE.get(type_, dict)(dict(payload))
    if "request_id" in rest and "request_id" not in payload:
        payload["request_id"] = rest.pop("request_id")
    if rest:
        payload["metadata" if "metadata" not in payload else "event_metadata"] = rest
    return Native(type_, spelling, payload, envelope, line, stream, position, problem)


def native_type(spelling: str) -> str:
    """The type in the table's spelling; the spelling itself where the table has no such type."""
    return _types().get(_letters(spelling.rpartition(".")[2]), spelling)


def sequence_of(event: Mapping[str, Any]) -> int | None:
    """The ledger's number of ``event``, None where it has none that could be read."""
    sequence = event["sequence"]
    return sequence if isinstance(sequence, int) else None


@cache
def _types() -> Mapping[str, str]:
    return {_letters(name): name for name in rules(SYSTEM)}


def _letters(spelling: str) -> str:
    return re.sub(r"[\W_]", "", spelling).casefold()


def _broken(line: bytes, stream: str, position: int | None, problem: str, event_id: str | None = None) -> Native:
    return Native("", "", {}, {"event_id": event_id}, line, stream, position, problem)


def _context(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the record says beside its payload: envelope fields, and the rest."""
    rest = {key: value for key, value in record.items() if key not in _FORM}
    metadata = record.get("metadata")
    if isinstance(metadata, dict):
        rest |= metadata
    elif metadata is not None:
        rest["metadata"] = metadata
    envelope = {key: rest.pop(key) for key in _TEXTS if _is_name(rest.get(key))}
    environment = rest.get("environment")
    if isinstance(environment, str) and environment.lower() in ENVELOPE_ENUMERATIONS["environment"]:
        envelope["environment"] = rest.pop("environment").lower()
    if isinstance(rest.get("dry_run"), bool):
        envelope["dry_run"] = rest.pop("dry_run")
    return envelope, rest


def _is_name(value: object) -> bool:
    return (isinstance(value, str) and len(value) <= unmapped.MAX_FIELD_BYTES // 4 and value.isprintable()) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**_LARGEST_DIGITS
    )


def _candle(payload: dict[str, Any]) -> dict[str, Any]:
    """``ohlcv`` as an object (open… or o…) or a list (with or without its time before) → keys of their own."""
    bar = payload.get("ohlcv")
    opened: dict[str, Any] = {}
    if isinstance(bar, dict):
        for key, value in bar.items():
            name = _SHORT.get(key.lower(), key.lower())
            if name in (*_BAR, "open_ts_utc") and name not in opened and name not in payload:
                opened[name] = value
        left: Any = {
            key: value for key, value in bar.items() if opened.get(_SHORT.get(key.lower(), key.lower())) is not value
        }
    elif isinstance(bar, list) and len(bar) >= len(_BAR):
        names = _BAR if len(bar) == len(_BAR) else ("open_ts_utc", *_BAR)
        opened = {name: value for name, value in zip(names, bar, strict=False) if name not in payload}
        left = bar[len(names) :]
    else:
        return payload
    rest = {key: value for key, value in payload.items() if key != "ohlcv"} | opened
    return rest | {"ohlcv": left} if left else rest


def _news(payload: dict[str, Any]) -> dict[str, Any]:
    """Feeds write RFC 2822 dates; one that is no date at all stays what it is, beside the payload."""
    published = payload.get("published")
    if isinstance(published, str) and moment(published) is published:
        try:
            return payload | {"published": parsedate_to_datetime(published)}
        except (ValueError, OverflowError):
            rest = {key: value for key, value in payload.items() if key != "published"}
            return rest | {"published_text": published}
    return payload


def _order(payload: dict[str, Any]) -> dict[str, Any]:
    """An ``order_id`` beside a ``client_order_id`` is the exchange's; alone it is the id that the bot uses."""
    if "order_id" not in payload:
        return payload
    rest = {key: value for key, value in payload.items() if key != "order_id"}
    order_id, own = payload["order_id"], payload.get("client_order_id")
    if own in (None, ""):
        return rest | {"client_order_id": order_id}
    return rest | {"exchange_order_id": order_id} if "exchange_order_id" not in rest else payload


def _placed(payload: dict[str, Any]) -> dict[str, Any]:
    """The price of a market order: none where it is 0; the trigger where it is a stop."""
    payload = _order(payload)
    word = _word(payload.get("order_type"))
    if word in _LIMITS or "price" not in payload:
        return payload
    if _decimal(payload["price"]) == 0:
        return {key: value for key, value in payload.items() if key != "price"}
    if ("stop" in word or "take_profit" in word) and payload.get("stop_price") is None:
        rest = {key: value for key, value in payload.items() if key != "price"}
        return rest | {"stop_price": payload["price"]}
    return payload


def _reasons(payload: dict[str, Any]) -> dict[str, Any]:
    """One reason as text is a list of one."""
    reasons = payload.get("reasons", payload.get("reason"))
    if not isinstance(reasons, str):
        return payload
    return {key: value for key, value in payload.items() if key != "reason"} | {"reasons": [reasons]}


_PREPARE: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "CANDLE_CLOSE": _candle,
    "NEWS_INGESTED": _news,
    "ORDER_PLACED": _placed,
    "ORDER_FILLED": _order,
    "ORDER_PARTIAL_FILL": _order,
    "ORDER_CANCELLED": _order,
    "ORDER_EXPIRED": _order,
    "RISK_REJECTED": _reasons,
    "RISK_APPROVED": _reasons,
}


def _word(value: object) -> str:
    """An enumeration's word: ``OrderType.STOP_MARKET`` → ``stop_market``."""
    return value.rpartition(".")[2].strip().lower() if isinstance(value, str) else ""


def _decimal(value: object) -> Decimal | None:
    try:
        return numbers.read(value)[0]
    except numbers.NumberError:
        return None


def _order_side(native: Native, _: Origin) -> str | None:
    return _SIDES.get(_word(native.payload.get("side")))


def _position_side(native: Native, _: Origin) -> str | None:
    side = _SIDES.get(_word(native.payload.get("side")))
    return {"buy": "long", "sell": "short"}[side] if side else None


def _order_type(native: Native, _: Origin) -> str | None:
    word = _word(native.payload.get("order_type"))
    if not word:
        return None
    if word in _CONDITIONAL and native.payload.get("price") is None:
        return "market"
    return _LIMITS.get(word, "market")


def _notional(native: Native, _: Origin) -> Decimal | None:
    price, quantity = _decimal(native.payload.get("price")), _decimal(native.payload.get("quantity"))
    return None if price is None or quantity is None else numbers.WIDE.multiply(price, quantity)


def _quote_asset(native: Native, origin: Origin) -> str | None:
    symbol = native.payload.get("symbol")
    return instruments.split(origin.instruments.pair(symbol))[1] or None if isinstance(symbol, str) else None


ADAPTER = Adapter(
    SYSTEM,
    1,
    {
        "order_side": _order_side,
        "position_side": _position_side,
        "order_type": _order_type,
        "is_live": is_live,
        "notional": _notional,
        "quote_asset": _quote_asset,
    },
)
