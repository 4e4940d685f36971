"""Quantum's stream entries → canonical events (S4-01, S3-10): pure, never raises, never drops.

The native type is the stream's name. What the document's payloads do not have is derived or assumed, and said to be:
``is_live`` follows the environment, the fee is in the quote asset, the time of an entry without one is its id's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from tradetape.producers.adapters import mapping, quantum_entries
from tradetape.producers.adapters.mapping import Adapter, Native, is_live
from tradetape.producers.adapters.native import moment, parse_json
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.quantum_entries import EntryId, Fields
from tradetape.producers.events import Event
from tradetape.schemas import identity, numbers
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.instruments import split

SYSTEM = "quantum"

_VALUES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("trades.request.new", "direction"): {"LONG": "buy", "SHORT": "sell"},
    ("risk.evaluation.complete", "decision"): {"VETOED": "rejected"},
}
"""Native values that the contract calls by another word, by native type and field."""

_DIRECTIONS = {"LONG": "long", "SHORT": "short", "NO_SIGNAL": "none"}
_REGIMES = frozenset({"trending", "ranging", "chaotic"})
_OPENED = ("position_allowed", "risk_dimensions")
_PERCENT = re.compile(r"\s*([+-]?\d{1,30}(\.\d{1,30})?)\s*%\s*", re.ASCII)


def from_entry(
    origin: Origin, stream: str, entry_id: EntryId, fields: Fields, *, generation: int = 0, placed: bool = True
) -> Event:
    """The event of one entry of ``stream``, or the UnmappedRecord that keeps it.

    ``generation`` counts how often the stream was made anew. Without ``placed`` the event has no position: it is an
    entry that comes late, from the dead letters.
    """
    return ADAPTER.to_event(to_native(origin, stream, entry_id, fields, generation=generation, placed=placed), origin)


def refused(origin: Origin, stream: str, entry_id: EntryId, fields: Fields, why: str, *, generation: int = 0) -> Event:
    """The UnmappedRecord of an entry whose handling failed for ``why``; the position is left to its event."""
    native = Native(
        type="",
        spelling=stream,
        payload={},
        envelope={"event_id": event_id(origin, stream, entry_id, generation), "ts_utc": moment(entry_id.ms)},
        content=quantum_entries.content(str(entry_id), fields),
        stream=stream_name(stream, generation),
        position=None,
        problem=why,
    )
    return ADAPTER.to_event(native, origin)


def to_native(
    origin: Origin, stream: str, entry_id: EntryId, fields: Fields, *, generation: int = 0, placed: bool = True
) -> Native:
    """What the table maps: payload, metadata and evidence of one entry."""
    form = quantum_entries.take_apart(fields, _own_keys(), stream)
    known = quantum_entries.type_of(stream)
    native_type = known if quantum_entries.is_known(known) else form.told_type
    payload = form.payload
    envelope = {"event_id": event_id(origin, stream, entry_id, generation), **form.metadata}
    if "timestamp" in payload:
        time = payload.pop("timestamp")
        if not quantum_entries.is_nothing(time):
            envelope["ts_utc"] = time
    if not quantum_entries.is_known(native_type):
        envelope.setdefault("ts_utc", moment(entry_id.ms))
    return Native(
        type=native_type,
        spelling=stream,
        payload=_prepared(native_type, payload),
        envelope=envelope,
        content=quantum_entries.content(str(entry_id), fields),
        stream=stream_name(stream, generation),
        position=entry_id.position if placed else None,
        problem=form.problem,
        related={"entry_ms": entry_id.ms},
    )


def event_id(origin: Origin, stream: str, entry_id: EntryId, generation: int = 0) -> str:
    """The id of an entry's event where the entry has none of its own."""
    return identity.derive(origin.source_id, stream_name(stream, generation), str(entry_id))


def stream_name(stream: str, generation: int) -> str:
    """``source_stream``: a stream that was deleted and made anew with lower ids is another one."""
    return f"{stream}@{generation}" if generation else stream


def symbol_of(fields: Fields, stream: str) -> str:
    """The symbol that an entry speaks of, empty if none."""
    symbol = quantum_entries.take_apart(fields, _own_keys(), stream).payload.get("symbol")
    return symbol if isinstance(symbol, str) else ""


@cache
def _own_keys() -> Mapping[str, frozenset[str]]:
    """Payload keys of each native type, as the source and as the contract call them."""
    found = {}
    for name, rule in mapping.rules(SYSTEM).items():
        paths = {path for take in (*rule.payload.values(), *rule.envelope.values()) for path in take.paths}
        found[name] = frozenset(paths) | event_types()[rule.event].payload_keys
    return found


def _prepared(native_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    prepared = dict(payload)
    for key, value in payload.items():
        if not isinstance(value, str):
            continue
        percent = _PERCENT.fullmatch(value)
        if percent is not None and key in _percentages():
            prepared[key] = Decimal(percent[1])
        words = _VALUES.get((native_type, key))
        if words is not None:
            prepared[key] = words.get(value.strip().upper(), value)
        elif key in _OPENED:
            prepared[key] = _opened(value)
    if native_type == "risk.evaluation.complete":
        veto = prepared.get("veto_reason")
        if isinstance(veto, str):
            prepared["veto_reason"] = None if quantum_entries.is_nothing(veto) else [veto]
    elif native_type == "regime.classification.update":
        before = prepared.get("previous_regime")
        if isinstance(before, str) and before.strip().casefold() in _REGIMES:
            prepared["previous_regime"] = before.strip().casefold()
    return prepared


def _opened(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


@cache
def _percentages() -> frozenset[str]:
    """Numbers that the document also writes as ``-5.2%``: a percent sign is the unit, not part of the number."""
    decimals = {key for name in ("risk_status", "kill_switch_activated") for key in event_types()[name].decimals}
    return frozenset(decimals | {"unrealized_pnl_percent", "realized_pnl_percent", "exit_percent", "risk_percent"})


def _entry_time(native: Native, origin: Origin) -> Any:
    """When the entry was added, where it does not say when it happened."""
    return None if "ts_utc" in native.envelope else moment(native.related["entry_ms"])


def _signal_direction(native: Native, origin: Origin) -> Any:
    action = native.payload.get("recommended_action")
    return _DIRECTIONS.get(action.strip().upper()) if isinstance(action, str) else None


def _notional(native: Native, origin: Origin) -> Any:
    try:
        price, _ = numbers.read(native.payload.get("fill_price"))
        size, _ = numbers.read(native.payload.get("fill_size"))
    except numbers.NumberError:
        return None
    return numbers.WIDE.multiply(price, size)


def _quote_asset(native: Native, origin: Origin) -> Any:
    symbol = native.payload.get("symbol")
    return split(origin.instruments.pair(symbol))[1] or None if isinstance(symbol, str) else None


ADAPTER = Adapter(
    SYSTEM,
    1,
    {
        "entry_time": _entry_time,
        "signal_direction": _signal_direction,
        "is_live": is_live,
        "notional": _notional,
        "quote_asset": _quote_asset,
    },
)
