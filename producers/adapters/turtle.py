"""Turtle's events as rows of its table, or as its bot logs them, to canonical events: pure (S0-01 … S0-03, S3-10).

A record is one JSON object with the names of the table's columns. What a block of the context says under a name or in
a kind that no schema knows stays beside the typed part, in ``extra``.

Turtle's orders have an id only where their context holds the broker's. Elsewhere an order is named by its run, symbol
and purpose: one check of a position leads to one order at most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

from tradetape.producers.adapters import turtle_context
from tradetape.producers.adapters.mapping import Adapter, Native, is_live, rules
from tradetape.producers.adapters.native import at, parse_json
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.turtle_context import NOTHING, is_number, is_writable, split
from tradetape.producers.events import Event
from tradetape.producers.unmapped import TYPE as UNMAPPED
from tradetape.schemas import instruments, numbers
from tradetape.schemas.fields import Field, payload_fields

SYSTEM = "turtle"
STREAM = "events"

COLUMNS: Mapping[str, str] = {
    "id": "event_id",
    "timestamp": "ts_utc",
    "outcome": "outcome",
    "outcome_reason": "outcome_reason",
    "run_id": "run_id",
    "sequence": "sequence",
    "source": "source",
    "dry_run": "dry_run",
}
"""Columns that are envelope fields under another or the same name."""

COMMON = ("run_id", "sequence", "source", "dry_run")
"""What a context may say too; it does where its bot writes no columns."""

QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "ENTRY": ("order.quantity", "sizing.contracts", "position.contracts"),
    "EXIT": ("order.quantity", "exit.contracts", "position.contracts"),
    "PYRAMID": ("order.quantity", "pyramid.new_contracts", "sizing.contracts"),
}
"""Where the size of an order stands, by what it is for."""

FILL_PRICES: Mapping[str, tuple[str, ...]] = {
    "ENTRY": ("order.fill_price",),
    "EXIT": ("order.fill_price", "exit.pnl.fill_price"),
    "PYRAMID": ("order.fill_price", "pyramid.fill_price", "pyramid.new_entry_price"),
}
DIRECTIONS = ("exit.direction", "pyramid.direction", "sizing.direction", "signal.direction", "position.direction")
ORDER_TYPES: Mapping[str, str] = {"mkt": "market", "lmt": "limit"}

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\s.\-]+")
_CONTEXT = "context"
_NO_BREAKOUT, _APPROVED, _FATAL, _PARTIAL_FILL = "no_breakout", "approved", "fatal", "partial_fill"

OUTCOMES = (
    "executed",
    "breakout_20",
    "breakout_55",
    "no_breakout",
    "approved",
    "filtered_s1",
    "filtered_s2_redundant",
    "limit_market",
    "limit_correlated",
    "limit_total",
    "limit_risk_cap",
    "already_in_position",
    "submitted",
    "insufficient_cash",
    "insufficient_shares",
    "rejected",
    "market_closed",
    "delayed_fast_market",
    "filled",
    "filled_at_gap",
    "partial_fill",
    "cancelled",
    "expired",
    "hold",
    "exit_stop_triggered",
    "exit_breakout_triggered",
    "pyramid_triggered",
    "failed",
    "reconnected",
    "reconnect_failed",
    "recovered",
    "fatal",
)
"""Outcomes in the document's spelling; another one keeps its own."""


def from_record(
    origin: Origin, record: bytes, *, position: int | None, stream: str = STREAM, problem: str = ""
) -> Event:
    """The event of ``record``, or the UnmappedRecord that keeps it; never raises.

    ``problem`` says what is wrong with the record already; it becomes no event then.
    """
    try:
        row = parse_json(record)
    except ValueError as error:
        problem = problem or f"not_json: {str(error)[:200]}"
        return ADAPTER.to_event(Native("", "", {}, {}, record, stream, position, problem), origin)
    if not isinstance(row, dict):
        problem = problem or f"not_an_object: a JSON {type(row).__name__}"
        return ADAPTER.to_event(Native("", "", {}, {}, record, stream, position, problem), origin)
    native, left = native_of(row, record, position, stream)
    native = replace(native, problem=problem)
    event = ADAPTER.to_event(native, origin)
    if event["event_type"] == UNMAPPED or not left:
        return event
    try:
        extra = json.dumps(left, default=_plain, ensure_ascii=False)
        extra.encode()
    except (RecursionError, ValueError) as error:
        problem = f"text_invalid: an additional key: {str(error)[:200]}"
        return ADAPTER.to_event(replace(native, payload={}, problem=problem), origin)
    return {**event, "extra": extra}


def native_of(row: dict[str, Any], record: bytes, position: int | None, stream: str) -> tuple[Native, dict[str, Any]]:
    """A parsed row in the terms of the mapping, and what of it no schema has a place for."""
    spelling = row.get("event_type")
    kind = native_type(spelling) if isinstance(spelling, str) else ""
    context = _context(row.get(_CONTEXT))
    envelope = {name: row.get(column) for column, name in COLUMNS.items()}
    if isinstance(envelope["outcome"], str):
        envelope["outcome"] = outcome(envelope["outcome"])
    if isinstance(context, dict):
        context = turtle_context.in_full(context)
        for name in COMMON:
            if envelope[name] is None:
                envelope[name] = context.get(name)
            if isinstance(said := context.get(name), str | int) and said == envelope[name]:
                del context[name]
    envelope["trading_pair"] = row.get("symbol")
    for path in ("market.symbol", "position.symbol"):
        if envelope["trading_pair"] is None and isinstance(said := at(context, path), str):
            envelope["trading_pair"] = said
    more = {key: value for key, value in row.items() if key not in COLUMNS and key not in _READ}
    payload, left = _payload(kind, envelope["outcome"], context, more)
    written = spelling if isinstance(spelling, str) else f"a JSON {type(spelling).__name__}"
    return Native(kind, written, payload, envelope, record, stream, position), left


_READ = frozenset({"event_type", "symbol", _CONTEXT})


def _payload(kind: str, outcome: Any, context: Any, more: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The typed payload of a record of ``kind``, and what is left of its context and its unknown columns."""
    rule = rules(SYSTEM).get(kind)
    if rule is None:
        return {}, {}
    fields = payload_fields(rule.event_for(outcome))
    free = {name: field for name, field in fields.items() if name not in rule.payload and name != _CONTEXT}
    payload, left = _placed(more, free)
    if isinstance(context, dict):
        blocks = fields[_CONTEXT].fields
        said = {key: value for key, value in context.items() if key in free and key not in blocks}
        counted, unplaced = _placed(said, {key: free[key] for key in said.keys() - payload.keys()})
        payload |= counted
        context = {key: value for key, value in context.items() if key not in said} | unplaced
    typed, rest = split(context, fields[_CONTEXT])
    if typed:
        payload[_CONTEXT] = typed
    if rest is not NOTHING:
        left[_CONTEXT] = rest
    return payload, left


def _placed(values: Mapping[str, Any], fields: Mapping[str, Field]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``values`` that are payload keys by themselves, and the rest."""
    payload: dict[str, Any] = {}
    left: dict[str, Any] = {}
    for key, value in values.items():
        typed, rest = split(value, fields[key]) if key in fields else (None, value)
        if typed is not None:
            payload[key] = typed
        if rest is not NOTHING:
            left[key] = rest
    return payload, left


def _context(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def native_type(spelling: str) -> str:
    """``EntryFilled``, ``entry-filled``, ``entry.filled`` and ``EventType.ENTRY_FILLED`` as ``ENTRY_FILLED``."""
    types = _types()
    return types.get(_letters(spelling)) or types.get(_letters(spelling.rpartition(".")[2]), spelling)


def outcome(spelling: str) -> str:
    """An outcome in the document's spelling, else in lower case with underscores."""
    known = _OUTCOMES.get(_letters(spelling)) or _OUTCOMES.get(_letters(spelling.rpartition(".")[2]))
    return known or _SEPARATORS.sub("_", _CAMEL.sub("_", spelling.strip())).casefold()


@cache
def _types() -> Mapping[str, str]:
    return {_letters(name): name for name in rules(SYSTEM)}


def _letters(spelling: str) -> str:
    return re.sub(r"[\W_]", "", spelling).casefold()


_OUTCOMES = {_letters(name): name for name in OUTCOMES}


def _plain(value: Any) -> str:
    """A number that no schema knows, as text."""
    assert isinstance(value, Decimal)
    return numbers.text(value) if value.is_finite() and abs(value.adjusted()) < numbers.MAX_TEXT else str(value)


def _first(native: Native, *paths: str) -> Any:
    """The first that is there of ``paths`` into the context."""
    return next((value for path in paths if (value := at(native.payload.get(_CONTEXT), path)) is not None), None)


def _number(value: Any) -> Decimal | None:
    return numbers.read(value)[0] if value is not None and is_number(value) else None


def _purpose(native: Native) -> str:
    return native.type.partition("_")[0]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value and is_writable(value) else None


def _outcome(native: Native, _: Origin) -> Any:
    return native.envelope.get("outcome")


def _reason(native: Native, _: Origin) -> Any:
    return native.envelope.get("outcome_reason") or _first(native, "reason")


def _why(native: Native, origin: Origin) -> Any:
    return _reason(native, origin) or _outcome(native, origin)


def _approved(native: Native, _: Origin) -> Any:
    return native.envelope.get("outcome") == _APPROVED


def _fatal(native: Native, _: Origin) -> Any:
    return native.envelope.get("outcome") == _FATAL


def _signal_direction(native: Native, _: Origin) -> Any:
    return _first(native, "signal.direction") or ("none" if native.envelope.get("outcome") == _NO_BREAKOUT else None)


def _order_key(native: Native, _: Origin) -> Any:
    run_id, symbol = _text(native.envelope.get("run_id")), _text(native.envelope.get("trading_pair"))
    return f"{run_id}:{symbol}:{_purpose(native).lower()}" if run_id and symbol else None


def _side(native: Native, _: Origin) -> Any:
    direction = _first(native, *DIRECTIONS)
    if direction is None:
        return None
    return "buy" if (direction == "LONG") != (_purpose(native) == "EXIT") else "sell"


def _order_type(native: Native, _: Origin) -> Any:
    said = _first(native, "order.order_type")
    return ORDER_TYPES.get(said.strip().casefold(), said) if isinstance(said, str) else None


def _quantity(native: Native, _: Origin) -> Any:
    said = _number(_first(native, *QUANTITIES[_purpose(native)]))
    if said is None and _purpose(native) == "PYRAMID":
        before, after = (_number(_first(native, f"pyramid.contracts_{when}")) for when in ("before", "after"))
        return after - before if before is not None and after is not None else None
    return said


def _fill_price(native: Native, _: Origin) -> Any:
    return _first(native, *FILL_PRICES[_purpose(native)])


def _filled(native: Native, origin: Origin) -> Any:
    """What was executed; of a part that nobody counted it cannot be assumed."""
    said = _number(_first(native, "order.filled_quantity"))
    if said is None and native.envelope.get("outcome") != _PARTIAL_FILL:
        return _quantity(native, origin)
    return said


def _notional(native: Native, origin: Origin) -> Any:
    price, quantity = _number(_fill_price(native, origin)), _filled(native, origin)
    return None if price is None or quantity is None else numbers.WIDE.multiply(price, quantity)


def _quote_asset(native: Native, origin: Origin) -> Any:
    symbol = _text(native.envelope.get("trading_pair"))
    return instruments.split(origin.instruments.pair(symbol))[1] or None if symbol else None


ADAPTER = Adapter(
    SYSTEM,
    1,
    {
        "outcome": _outcome,
        "reason": _reason,
        "why": _why,
        "approved": _approved,
        "fatal": _fatal,
        "signal_direction": _signal_direction,
        "order_key": _order_key,
        "side": _side,
        "order_type": _order_type,
        "quantity": _quantity,
        "filled": _filled,
        "fill_price": _fill_price,
        "notional": _notional,
        "is_live": is_live,
        "quote_asset": _quote_asset,
    },
)
