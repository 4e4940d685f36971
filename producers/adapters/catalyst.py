"""Catalyst's SQLite rows as events: pure (S1-01, S1-02, S1-03, S1-07, S3-10).

``event_log`` has one event a row, ``event_snapshots`` one state per aggregate. What a row becomes stands in
``tables/catalyst.toml``. Fills, rejections and price updates name neither their instrument nor their side: the
connector passes what the first record of their order or position says (``opening``).

Two things to know of the source. ``created_at`` is milliseconds since 1970; the bot computes it from a naive UTC time
as if that were local, so on a host outside UTC it is off by the host's offset. And its reported partial fills are
totals: an order that is cancelled after one has executions that no record of their own stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any

from tradetape.producers.adapters.mapping import Adapter, Compute, Native, is_live
from tradetape.producers.adapters.native import parse_json
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.rows import native_json
from tradetape.producers.events import Event
from tradetape.schemas import identity, numbers
from tradetape.schemas.instruments import split

Row = Mapping[str, Any]

LOG, SNAPSHOTS = "event_log", "event_snapshots"
"""Tables, and the names of their streams."""

SNAPSHOT = "EVENT_SNAPSHOT"
OPENERS = {"order": "ORDER_SUBMITTED", "position": "POSITION_OPENED"}
"""The type that says what an aggregate is about, by the aggregate's type."""

_METADATA = {
    "source": "source",
    "version": "source_version",
    "correlation_id": "correlation_id",
    "causation_id": "causation_id",
    "user_id": "user_id",
}
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")

_BUYS = frozenset({"buy", "long", "buy_to_open", "buy_to_close", "buy_to_cover", "cover"})
_SELLS = frozenset({"sell", "short", "sell_short", "sell_to_open", "sell_to_close"})
_ORDER_TYPES = {
    "market": "market",
    "limit": "limit",
    "limit_maker": "limit_maker",
    "stop": "market",
    "stop_market": "market",
    "stop_loss": "market",
    "trailing_stop": "market",
    "stop_limit": "limit",
}


def native_type(spelling: object) -> str:
    """A type of the source in the table's spelling: ``OrderFilled``, ``order.filled`` → ``ORDER_FILLED``."""
    return _WORDS.sub("_", spelling).strip("_").upper() if isinstance(spelling, str) else ""


def opener(row: Row) -> str:
    """The type of the record that tells the instrument of ``row``'s aggregate; empty if ``row`` needs none."""
    kind = row.get("aggregate_type")
    wanted = OPENERS.get(kind.casefold(), "") if isinstance(kind, str) else ""
    return "" if native_type(row.get("event_type")) == wanted else wanted


def opening(row: Row) -> dict[str, Any]:
    """What the opening record ``row`` of an order or a position says of it: ``ticker`` and ``side``."""
    payload, _ = _payload(row.get("payload"))
    return {name: payload[name] for name in ("ticker", "side") if isinstance(payload.get(name), str)}


def from_row(origin: Origin, row: Row, position: int, related: Mapping[str, Any] | None = None) -> Event:
    """The event of a row of ``event_log``; ``position`` is its place in the log, ``related`` its ``opening``."""
    return ADAPTER.to_event(native_of(row, position, related), origin)


def native_of(row: Row, position: int, related: Mapping[str, Any] | None = None) -> Native:
    """A row of ``event_log`` in the terms of the mapping."""
    payload, problem = _payload(row.get("payload"))
    envelope, rest = _metadata(row.get("metadata"))
    if rest is not None and "metadata" not in payload:
        payload["metadata"] = rest
    event_id = _plain(row.get("event_id"))
    envelope |= {
        "event_id": None if event_id == "" else event_id,
        "ts_utc": _plain(row.get("created_at")),
        "aggregate_type": _plain(row.get("aggregate_type")),
        "aggregate_id": _plain(row.get("aggregate_id")),
        "aggregate_sequence": _plain(row.get("sequence_number")),
    }
    spelling = row.get("event_type")
    return Native(
        type=native_type(spelling),
        spelling=spelling if isinstance(spelling, str) else str(spelling),
        payload=payload,
        envelope=envelope,
        content=native_json({LOG: row}),
        stream=LOG,
        position=position,
        problem=problem,
        related=related or {},
    )


def from_snapshot(origin: Origin, row: Row) -> Event:
    """The event of one version of a row of ``event_snapshots`` (S1-07).

    The table keeps the latest version only, so it has no position: the same version is known again by its id.
    """
    content = native_json({SNAPSHOTS: row})
    native = Native(
        type=SNAPSHOT,
        spelling=SNAPSHOTS,
        payload={
            name: value
            for name in ("state", "last_event_id", "last_sequence_number", "snapshot_id")
            if (value := _plain(row.get(name))) is not None
        },
        envelope={
            "event_id": identity.derive(origin.source_id, SNAPSHOTS, sha256(content).hexdigest()),
            "ts_utc": _plain(row.get("created_at")),
            "aggregate_type": _plain(row.get("aggregate_type")),
            "aggregate_id": _plain(row.get("aggregate_id")),
        },
        content=content,
        stream=SNAPSHOTS,
        position=None,
    )
    return ADAPTER.to_event(native, origin)


def _payload(value: Any) -> tuple[dict[str, Any], str]:
    """The payload column opened, nulls left out, and why it could not be (empty if it could)."""
    try:
        payload = parse_json(_plain(value) if isinstance(value, bytes | str) else "")
    except ValueError as error:
        return {}, f"not_json: payload: {str(error)[:200]}"
    if not isinstance(payload, dict):
        return {}, f"not_an_object: payload is a JSON {type(payload).__name__}"
    known = {key: inner for key, inner in payload.items() if inner is not None}
    if "liquidity" in known:
        known["liquidity"] = _liquidity(known["liquidity"])
    return known, ""


def _metadata(value: Any) -> tuple[dict[str, Any], Any]:
    """The metadata column as envelope fields, and what is left of it (None: nothing)."""
    value = _plain(value)
    if value is None or value == "":
        return {}, None
    try:
        metadata = parse_json(value) if isinstance(value, str) else value
    except ValueError:
        metadata = value
    if not isinstance(metadata, dict):
        return {}, metadata
    fields = {_METADATA[key]: inner for key, inner in metadata.items() if key in _METADATA and inner is not None}
    return fields, {key: inner for key, inner in metadata.items() if key not in _METADATA} or None


def _plain(value: Any) -> Any:
    """An SQLite value in the values of parsed JSON."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float):
        number = Decimal(repr(value))
        return number if number.is_finite() else str(value)
    return value


def _liquidity(value: Any) -> str:
    word = value.strip().casefold() if isinstance(value, str) else ""
    return word if word in ("maker", "taker") else "unknown"


def _word(value: Any) -> str:
    return native_type(value).casefold()


def _side(value: Any) -> str | None:
    word = _word(value)
    return "buy" if word in _BUYS else "sell" if word in _SELLS else None


def _aggregate(native: Native, _: Origin) -> Any:
    """The aggregate's id, where the aggregate is what the record is about: an order's record has an order's id."""
    kind = _word(native.envelope.get("aggregate_type"))
    about = native.type.partition("_")[0].casefold()
    is_own = kind == about or (kind == "position" and about in ("stop", "take", "price"))
    return native.envelope.get("aggregate_id") if is_own else None


def _opened_ticker(native: Native, _: Origin) -> Any:
    return native.related.get("ticker")


def _opened_side(native: Native, _: Origin) -> str | None:
    return _side(native.payload.get("side")) or _side(native.related.get("side"))


def _order_side(native: Native, _: Origin) -> str | None:
    return _side(native.payload.get("side", native.payload.get("action")))


def _position_side(native: Native, _: Origin) -> str | None:
    side = _side(native.payload.get("side"))
    return {"buy": "long", "sell": "short"}.get(side) if side else None


def _signal_direction(native: Native, _: Origin) -> str | None:
    """Where an action points; a plain sell may open a short or close a long, and says neither."""
    word = _word(native.payload.get("action"))
    if word in ("buy", "long", "buy_to_open"):
        return "long"
    if word in ("short", "sell_short", "sell_to_open"):
        return "short"
    return "none" if word in ("hold", "none", "wait") else None


def _order_type(native: Native, _: Origin) -> Any:
    return _ORDER_TYPES.get(_word(native.payload.get("order_type")), native.payload.get("order_type"))


def _native_order_type(native: Native, _: Origin) -> Any:
    word = _word(native.payload.get("order_type"))
    return native.payload["order_type"] if word in _ORDER_TYPES and _ORDER_TYPES[word] != word else None


def _notional(native: Native, _: Origin) -> Decimal | None:
    """Price × quantity, in quote."""
    try:
        price, _rounded = numbers.read(native.payload.get("filled_price"))
        quantity, _rounded = numbers.read(native.payload.get("filled_quantity"))
    except numbers.NumberError:
        return None
    return numbers.WIDE.multiply(price, quantity)


def _quote(native: Native, origin: Origin) -> str | None:
    ticker = native.payload.get("ticker", native.related.get("ticker"))
    return split(origin.instruments.pair(ticker))[1] or None if isinstance(ticker, str) else None


def _reasons(native: Native, _: Origin) -> list[Any] | None:
    reasons = native.payload.get("reasons", native.payload.get("reason"))
    if isinstance(reasons, list):
        return reasons
    return None if reasons is None else [reasons]


def _limit_name(native: Native, _: Origin) -> str | None:
    limit = native.payload.get("limit")
    return limit if isinstance(limit, str) else None


def _limit_number(native: Native, _: Origin) -> Any:
    limit = native.payload.get("limit")
    return limit if isinstance(limit, int | Decimal) and not isinstance(limit, bool) else None


FUNCTIONS: Mapping[str, Compute] = {
    "aggregate": _aggregate,
    "discord": lambda _native, _origin: "discord",
    "is_live": is_live,
    "limit_name": _limit_name,
    "limit_number": _limit_number,
    "native_order_type": _native_order_type,
    "notional": _notional,
    "opened_side": _opened_side,
    "opened_ticker": _opened_ticker,
    "order_side": _order_side,
    "order_type": _order_type,
    "position_side": _position_side,
    "quote": _quote,
    "reasons": _reasons,
    "signal_direction": _signal_direction,
}

ADAPTER = Adapter("catalyst", 1, FUNCTIONS)
