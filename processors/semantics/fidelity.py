"""How true to life the values of an event and of its source are: times, prices, digits (N-07).

What one event gets wrong is a finding on it. What is a property of its source (times in whole seconds, numbers that
went through binary floats, prices cut off) is noted once a source, not once an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar

from tradetape.processors.clock import MINUTE, SECOND, TOLERANCE
from tradetape.processors.findings import NOTED, OPENED, Finding, detail, finding
from tradetape.processors.reading import RawRecord
from tradetape.processors.state import PartitionState, Record
from tradetape.schemas.catalogue import EventType, event_types
from tradetape.schemas.numbers import QUANTUM, WIDE, text

GRAIN = MINUTE
"""The latest time of a source is kept this roughly, so that it is written once a minute and not once an event."""

WHOLE_SECONDS = 20
"""A source whose first times are this many whole seconds in a row has no finer ones."""

MEASURED = ("price", "fill_price", "amount_base", "fill_qty_base", "open", "high", "low", "close")
"""Payload keys that an exchange prints, with few digits; products, averages and fees rightly have many."""

FLOAT_DIGITS = 16
"""Significant digits from which on a number is more than an exchange prints and as much as a binary float holds."""

SCALED, SCALE, LEAST_PRICE = "hummingbot", 6, Decimal("0.001")
"""The system that stores prices as integers scaled by 10^6: below this price three digits are left, or fewer."""

SNAPSHOTS = frozenset({"order_snapshot", "entity_snapshot"})
"""What tells of an older moment by its nature."""

TOLD = 64
"""Notes remembered of one source; what is true of more pairs than that is not noted of the rest."""

NAMED = 64
"""Keys that one finding names; of more it tells the number."""

BACKTEST = "backtest"


class Source(Record):
    """What the record knows of one stream of a source, per instance: its latest time in microseconds (to ``GRAIN``),
    how many times in a row were whole seconds (−1: not all), and what was noted.
    """

    KEY: ClassVar[str] = "f"

    latest: int = 0
    whole: int = 0
    told: list[str] = []


def observe(raw: RawRecord, event: Mapping[str, Any]) -> list[Finding]:
    """What the event shows by itself, whatever came before it."""
    found: list[Finding] = []
    if event["precision_rounded"]:
        found.append(finding("precision_rounded", OPENED, event["event_id"], _keys(event["precision_rounded"])))
    if _is_ahead(raw, event):
        ahead = (event["ts_utc"] - raw.timestamp) // SECOND
        found.append(finding("clock_ahead", OPENED, event["event_id"], detail(ahead_seconds=ahead)))
    price = _price(event)
    if price is not None and not price:
        found.append(finding("zero_price", OPENED, event["event_id"]))
    if event["assumed"]:
        found.append(finding("value_assumed", NOTED, event["event_id"], _keys(event["assumed"])))
    return found


def observe_source(
    raw: RawRecord, event: Mapping[str, Any], event_type: EventType, state: PartitionState
) -> list[Finding]:
    """What the event shows of its source, which is folded into ``state``."""
    if event_type.control:
        return []
    key = (event["instance_name"], event["source_id"] or event["producer"], event["source_stream"] or "")
    source = state.get(Source, *key)
    before = (source.latest, source.whole, len(source.told))
    found = _clock(raw, event, source) + _notes(event, event_type, source)
    if (source.latest, source.whole, len(source.told)) != before:
        state.touch(source, *key)
    return found


def _clock(raw: RawRecord, event: Mapping[str, Any], source: Source) -> list[Finding]:
    """A clock that fell back. It is followed, so that what comes after is measured by what it says now."""
    ts_utc = event["ts_utc"]
    if _is_ahead(raw, event) or event["event_type"] in SNAPSHOTS or event["supersedes"]:
        return []
    if event["environment"] == BACKTEST:
        return []
    if ts_utc > source.latest + GRAIN:
        source.latest = ts_utc
    elif ts_utc < source.latest - TOLERANCE:
        behind = (source.latest - ts_utc) // SECOND
        source.latest = ts_utc
        return [finding("clock_behind", OPENED, event["event_id"], detail(behind_seconds=behind))]
    return []


def _notes(event: Mapping[str, Any], event_type: EventType, source: Source) -> list[Finding]:
    notes: list[tuple[str, str, str]] = []
    if 0 <= source.whole < WHOLE_SECONDS:
        source.whole = -1 if event["ts_utc"] % SECOND else source.whole + 1
        if source.whole == WHOLE_SECONDS:
            notes.append(("whole_seconds", "", detail(times=WHOLE_SECONDS)))
    payload = event["payload"]
    for name in _measured(event_type.name):
        value = payload[name]
        if value is not None and name not in event["assumed"] and is_float_origin(value):
            notes.append(("float_origin", name, _recorded(name, value)))
    price = _price(event)
    if event["source_system"] == SCALED and price is not None and 0 < price < LEAST_PRICE and _ends_at_scale(price):
        notes.append(("price_truncated", event["trading_pair"], _recorded("price", price)))
    found = []
    for code, about, proof in notes:
        told = f"{code}:{about}" if about else code
        if told not in source.told and len(source.told) < TOLD:
            source.told = [*source.told, told]
            subject = event["source_id"] or event["producer"]
            found.append(finding(code, NOTED, f"{subject}:{about}" if about else subject, proof))
    return found


def is_float_origin(value: Decimal) -> bool:
    """Whether ``value`` is what a program prints of a binary float: its shortest text of 16 or 17 digits (0.1 + 0.2 is
    0.30000000000000004), or its expansion, cut to 18 decimals (0.1113 is 0.111299999999999996).
    """
    if digits(value) < FLOAT_DIGITS:
        return False
    # The one place where a float is right: the question is whether the number was one.
    nearest = float(value)
    return Decimal(repr(nearest)) == value or Decimal(nearest).quantize(QUANTUM, context=WIDE) == value


def digits(value: Decimal) -> int:
    """Significant digits of ``value`` without trailing zeros."""
    return len(value.normalize(WIDE).as_tuple().digits)


@cache
def _measured(name: str) -> tuple[str, ...]:
    known = event_types()[name].decimals
    return tuple(key for key in MEASURED if key in known)


def _price(event: Mapping[str, Any]) -> Decimal | None:
    price = event["payload"].get("fill_price" if event["event_type"] == "order_filled" else "price")
    return price if isinstance(price, Decimal) else None


def _is_ahead(raw: RawRecord, event: Mapping[str, Any]) -> bool:
    ahead: int = event["ts_utc"] - raw.timestamp
    return ahead > TOLERANCE


def _ends_at_scale(price: Decimal) -> bool:
    return price == price.quantize(Decimal(1).scaleb(-SCALE), context=WIDE)


def _keys(names: list[str]) -> str:
    more = {"more": len(names) - NAMED} if len(names) > NAMED else {}
    return detail(keys=[name[:80] for name in names[:NAMED]], **more)


def _recorded(name: str, value: Decimal) -> str:
    return detail(key=name, recorded=text(value))
