"""Names, ids and forms of Quantum's stream entries: pure.

A stream is named ``<domain>.<entity>.<action>``. An entry's id is ``<milliseconds>-<number>``. Its fields are the
payload itself (flat, all text), or one field ``payload``, ``data`` or ``event`` with JSON beside metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tradetape.producers.adapters.native import parse_json

Fields = Sequence[tuple[bytes, bytes]]
"""Fields of an entry in their order; a name may come twice."""

FLOW = (
    "market.candle.new",
    "market.tick.price",
    "regime.classification.update",
    "regime.volatility.spike",
    "signals.advisory.new",
    "signals.advisory.no_signal",
    "risk.evaluation.complete",
    "trades.request.new",
    "trades.order.submitted",
    "trades.order.rejected",
    "trades.order.filled",
    "position.opened",
    "position.state.update",
    "exit.stop.triggered",
    "exit.decision.made",
    "position.closed",
    "risk.daily_status.update",
    "risk.kill_switch.activated",
    "system.kill_switch.activated",
    "system.alert.triggered",
    "audit.decision.log",
    "system.health.heartbeat",
)
"""Every known stream, causes before effects: the order of entries of the same millisecond in several streams."""

DOMAINS = ("market", "regime", "signals", "risk", "trades", "position", "exit", "system", "audit")

_CONVENTION = re.compile(rf"({'|'.join(DOMAINS)})(\.[a-z0-9_]+)+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.:\-]{1,200}", re.ASCII)
_SEPARATORS = re.compile("[^a-z0-9]")
_RANKS = {name: rank for rank, name in enumerate(FLOW)}


def _squashed(name: str) -> str:
    return _SEPARATORS.sub("", name.lower())


_SQUASHED = {_squashed(name): name for name in FLOW}

_NUMBER_BITS = 20
_HIGHEST = 2**63


def type_of(name: str) -> str:
    """The native type that ``name`` spells (``TradesOrderFilled``, ``TRADES_ORDER_FILLED``, …), else ``name``."""
    return name if name in _RANKS else _SQUASHED.get(_squashed(name), name)


def is_known(native_type: str) -> bool:
    """Whether ``native_type`` is one of the document's."""
    return native_type in _RANKS


def is_stream_name(name: str) -> bool:
    """Whether a stream of this name is one of Quantum's: known in any spelling, or named as its convention says."""
    return _NAME.fullmatch(name) is not None and (is_known(type_of(name)) or _CONVENTION.fullmatch(name) is not None)


def rank(name: str) -> int:
    """Place of a stream in the flow; what is not known comes last."""
    return _RANKS.get(type_of(name), len(FLOW))


class EntryId(NamedTuple):
    """The id of an entry: when it was added, in milliseconds since 1970, and its number within that millisecond."""

    ms: int
    number: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.number}"

    @classmethod
    def of(cls, text: str | bytes) -> EntryId:
        """Read ``<milliseconds>-<number>``. Raises ValueError."""
        ms, _, number = (text.decode("ascii") if isinstance(text, bytes) else text).partition("-")
        return cls(int(ms), int(number or 0))

    @property
    def position(self) -> int | None:
        """The id as one growing number; None for ids beyond 2^20 entries of one millisecond or the year 2248, which
        are known again by their event id alone.
        """
        position = (self.ms << _NUMBER_BITS) + self.number
        return position if self.number < 2**_NUMBER_BITS and position < _HIGHEST else None


ZERO = EntryId(0, 0)
"""Before every entry."""

_WRAPPERS = ("payload", "data", "event")
_METADATA = {
    "event_id": "event_id",
    "correlation_id": "correlation_id",
    "causation_id": "causation_id",
    "user_id": "user_id",
    "run_id": "run_id",
    "service": "source",
    "publisher": "source",
    "producer": "source",
    "source": "source",
}
"""Metadata by the name of the envelope's field."""
_NOTHING = frozenset({"", "null", "none"})
_TYPE_KEYS = ("event_type", "stream", "event")


@dataclass(slots=True)
class Form:
    """An entry taken apart: ``metadata`` under the envelope's names; ``told_type`` is a type that it tells itself."""

    payload: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    told_type: str = ""
    problem: str = ""


def texts(fields: Fields) -> dict[str, Any]:
    """The fields by name; of a name that comes twice, all values in a list. Bytes that are no UTF-8 stay as they are,
    as lone surrogates.
    """
    found: dict[str, Any] = {}
    for raw_name, raw_value in fields:
        name, value = (part.decode("utf-8", "surrogateescape") for part in (raw_name, raw_value))
        if name in found:
            before = found[name]
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[name] = value
    return found


def content(entry_id: str, fields: Fields) -> bytes:
    """The entry as JSON, for evidence; bytes that are no UTF-8 as escaped surrogates."""
    document = {"id": entry_id, "fields": texts(fields)}
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def take_apart(fields: Fields, own: Mapping[str, frozenset[str]], stream: str) -> Form:
    """Payload and metadata of an entry of ``stream``, in whichever form it was written; never raises.

    ``own`` has the payload keys of each native type: in a flat entry they are no metadata (``service`` of a heartbeat).
    """
    found = texts(fields)
    wrapper, inner, problem = _unwrapped(found)
    outer = {key: value for key, value in found.items() if key != wrapper}
    if inner is not None:
        # The JSON may be a whole event with its own payload beside its own metadata.
        nested = next((name for name in ("payload", "data") if isinstance(inner.get(name), dict)), "")
        if nested and _looks_like_an_event(inner, nested):
            outer = {**{key: value for key, value in inner.items() if key != nested}, **outer}
            inner = inner[nested]
    form = Form(payload=dict(outer if inner is None else inner), problem=problem)
    form.told_type = _told_type(outer, stream)
    mine = own.get(type_of(stream)) or own.get(form.told_type) or frozenset()
    if inner is None:
        _take_metadata(form.payload, form.metadata, keep=mine)
        _drop_told_type(form.payload, form.told_type, mine)
    else:
        _take_metadata(outer, form.metadata, keep=frozenset())
        _drop_told_type(outer, form.told_type, frozenset())
        _take_metadata(form.payload, form.metadata, keep=mine | {"source", "service", "publisher", "producer"})
        if "timestamp" in outer and "timestamp" not in form.payload:
            form.payload["timestamp"] = outer.pop("timestamp")
        if outer and "metadata" not in form.payload:
            form.payload["metadata"] = outer
    return form


def _unwrapped(found: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None, str]:
    """The field that holds the payload as JSON, what it holds, and why it cannot be read."""
    for name in _WRAPPERS:
        text = found.get(name)
        if not isinstance(text, str) or (name == "event" and not text.lstrip().startswith("{")):
            continue
        try:
            inner = parse_json(text)
        except ValueError as error:
            return "", None, f"field {name!r} is not JSON: {str(error)[:200]}"
        if isinstance(inner, dict):
            return name, inner, ""
        return "", None, f"field {name!r} is JSON, but not an object"
    return "", None, ""


def _looks_like_an_event(document: Mapping[str, Any], nested: str) -> bool:
    others = document.keys() - {nested}
    return bool(others & {*_METADATA, *_TYPE_KEYS, "type", "timestamp", "metadata"})


def _told_type(outer: Mapping[str, Any], stream: str) -> str:
    for key in (*_TYPE_KEYS, "type"):
        told = outer.get(key)
        if isinstance(told, str) and is_known(type_of(told)):
            return type_of(told)
    return type_of(stream)


def _drop_told_type(keys: dict[str, Any], told_type: str, mine: frozenset[str]) -> None:
    for key in (*_TYPE_KEYS, "type"):
        if key not in mine and isinstance(keys.get(key), str) and type_of(keys[key]) == told_type:
            del keys[key]


def _take_metadata(keys: dict[str, Any], metadata: dict[str, Any], keep: frozenset[str]) -> None:
    """Move metadata out of ``keys``, also out of a JSON object ``metadata`` among them."""
    nested = keys.get("metadata")
    if isinstance(nested, str):
        try:
            nested = parse_json(nested)
        except ValueError:
            nested = None
    if isinstance(nested, dict) and "metadata" not in keep:
        rest = dict(nested)
        _move(rest, metadata, keep=frozenset())
        if rest:
            keys["metadata"] = rest
        else:
            del keys["metadata"]
    _move(keys, metadata, keep)


def _move(keys: dict[str, Any], metadata: dict[str, Any], keep: frozenset[str]) -> None:
    for key, name in _METADATA.items():
        if key in keys and key not in keep and name not in metadata:
            value = keys[key]
            if not is_nothing(value):
                metadata[name] = value
                del keys[key]


def is_nothing(value: Any) -> bool:
    """Whether ``value`` is how a publisher writes that there is none."""
    return value is None or (isinstance(value, str) and value.strip().casefold() in _NOTHING)
