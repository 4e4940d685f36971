"""Turtle's limits on units, its risk cap and its drawdown rule, from the contexts on record (S0, rules 5 and 17).

At most 4 units in a market, 6 in a correlated group, and in total 12 (mode ``original``) or 20 % at risk (``risk_cap``:
units × risk per unit). From a drawdown of 10 % on, the equity that units are sized from is 20 % less. Only events that
decide on a unit or add one are judged: an approved signal, an order to enter or to pyramid, and its execution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

import msgspec

from tradetape.processors.findings import OPENED, Finding, detail, finding
from tradetape.processors.money import HUNDRED, ZERO, add, compact, multiply, subtract
from tradetape.processors.risk.keys import instance_key
from tradetape.processors.state import PartitionState, Record
from tradetape.schemas.numbers import text

MAX_MARKET, MAX_GROUP, MAX_TOTAL = Decimal(4), Decimal(6), Decimal(12)
RISK_CAP = Decimal(20)
DRAWDOWN, REDUCED = Decimal(10), Decimal("0.8")
TOLERANCE = Decimal("1.001")
"""Notional equity is printed rounded."""
UNIT = Decimal(1)

_ADDS = frozenset({"entry", "pyramid"})

Block = Mapping[str, Any]


class Held(msgspec.Struct, array_like=True):
    """Units held in one market, and its correlated group."""

    units: Decimal
    group: str = ""


class Book(Record):
    """Units that an instance holds by market, from its position contexts; ``risk`` is that of a unit, in percent."""

    KEY: ClassVar[str] = "xu"

    markets: dict[str, Held] = {}
    risk: Decimal = ZERO
    risk_cap: bool = True


class _Breach(NamedTuple):
    """A limit that was passed: which, of what, what it allows and what was recorded."""

    limit: str
    of: str
    expected: Decimal
    recorded: Decimal


def observe(event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    """Judge ``event`` by the rules and keep the units that it tells."""
    payload = event["payload"]
    context: Block | None = payload.get("context")
    if not context:
        return []
    key = instance_key(event)
    book = state.get(Book, *key)
    before = msgspec.structs.astuple(book)
    grown = _keep(book, event, context)
    if msgspec.structs.astuple(book) != before:
        state.touch(book, *key)
    breaches: list[_Breach] = []
    if grown:
        breaches = list(_of_units(book, event["trading_pair"]))
    elif _decides(event):
        breaches = [*_of_filters(context, book), *_of_limits(context, book, event["trading_pair"])]
        breaches += _of_pyramid(context, event["trading_pair"])
    caps = [breach for breach in breaches if breach.limit == "risk"]
    units = [breach for breach in dict.fromkeys(breaches) if breach.limit != "risk"]
    found = [_finding("unit_limit_exceeded", event, units)] if units else []
    if caps:
        found.append(_finding("risk_cap_exceeded", event, caps[:1]))
    ignored = _drawdown(context) if _decides(event) else None
    if ignored is not None:
        found.append(_finding("drawdown_rule_ignored", event, [ignored]))
    return found


def _decides(event: Mapping[str, Any]) -> bool:
    """Whether ``event`` decides to add a unit."""
    kind, payload = event["event_type"], event["payload"]
    if kind == "signal_evaluated":
        return bool(payload["approved"])
    return kind == "order_created" and payload["purpose"] in _ADDS


def _keep(book: Book, event: Mapping[str, Any], context: Block) -> bool:
    """Take the units that ``event`` tells into ``book``; whether it executed one more."""
    kind, payload, market = event["event_type"], event["payload"], event["trading_pair"]
    risk = _of(context, "sizing", "risk_percent") or _of(context, "pyramid", "risk_percent")
    if risk is not None:
        book.risk = compact(multiply(risk, HUNDRED))
    mode = _of(context, "account", "limits", "mode") or _of(context, "filters", "limit_total", "mode")
    if mode is not None:
        book.risk_cap = mode == "risk_cap"
    if kind == "order_filled" and payload["purpose"] == "exit":
        if event["outcome"] != "partial_fill":
            book.markets = {name: held for name, held in book.markets.items() if name != market}
        return False
    units = _of(context, "position", "units") or _of(context, "pyramid", "units_after")
    adds = kind == "order_filled" and payload["purpose"] in _ADDS
    if units is None or not market or not (adds or kind == "position_checked"):
        return False
    held = book.markets.get(market, Held(ZERO))
    group = _of(context, "signal", "correlation_group") or held.group
    book.markets = {**book.markets, market: Held(compact(units), group)}
    return adds and units > held.units


def _of_units(book: Book, market: str) -> Iterator[_Breach]:
    """Limits that the units on record pass."""
    held = book.markets[market]
    if held.units > MAX_MARKET:
        yield _Breach("market", market, MAX_MARKET, held.units)
    if held.group:
        group = _sum(other.units for other in book.markets.values() if other.group == held.group)
        if group > MAX_GROUP:
            yield _Breach("group", held.group, MAX_GROUP, group)
    yield from _of_total(_sum(other.units for other in book.markets.values()), book)


def _of_total(units: Decimal, book: Book) -> Iterator[_Breach]:
    if not book.risk_cap and units > MAX_TOTAL:
        yield _Breach("total", "", MAX_TOTAL, units)
    if book.risk_cap and multiply(units, book.risk) > RISK_CAP:
        yield _Breach("risk", "", RISK_CAP, multiply(units, book.risk))


def _of_filters(context: Block, book: Book) -> Iterator[_Breach]:
    """Limits that one more unit passes, by the counts in the filters."""
    market, group, total = (
        _of(context, "filters", f"limit_{name}") or {} for name in ("market", "correlated", "total")
    )
    if market.get("current") is not None and add(market["current"], UNIT) > MAX_MARKET:
        yield _Breach("market", market.get("symbol") or "", MAX_MARKET, add(market["current"], UNIT))
    if group.get("current") is not None and add(group["current"], UNIT) > MAX_GROUP:
        yield _Breach("group", group.get("group") or "", MAX_GROUP, add(group["current"], UNIT))
    if book.risk_cap and total.get("current_risk_percent") is not None:
        risk = add(total["current_risk_percent"], book.risk)
        if risk > RISK_CAP:
            yield _Breach("risk", "", RISK_CAP, risk)
    elif total.get("current_units") is not None:
        yield from _of_total(add(total["current_units"], UNIT), book)


def _of_limits(context: Block, book: Book, market: str) -> Iterator[_Breach]:
    """Limits that one more unit passes, by the counts of the account."""
    limits: Block = _of(context, "account", "limits") or {}
    if limits.get("units_total") is not None:
        yield from _of_total(add(limits["units_total"], UNIT), book)
    group = (_of(context, "signal", "correlation_group") or book.markets.get(market, Held(ZERO)).group) or None
    held = (limits.get("units_by_group") or {}).get(group)
    if group is not None and held is not None and add(held, UNIT) > MAX_GROUP:
        yield _Breach("group", group, MAX_GROUP, add(held, UNIT))


def _of_pyramid(context: Block, market: str) -> Iterator[_Breach]:
    units = _of(context, "pyramid", "units_after")
    if units is not None and units > MAX_MARKET:
        yield _Breach("market", market, MAX_MARKET, units)


def _drawdown(context: Block) -> _Breach | None:
    """The notional equity where it should be reduced and is not."""
    actual, peak = _of(context, "account", "equity_actual"), _of(context, "account", "equity_high_water")
    notional = _of(context, "sizing", "equity_notional") or _of(context, "account", "equity_notional")
    if actual is None or peak is None or notional is None:
        return None
    if multiply(subtract(peak, actual), HUNDRED) < multiply(DRAWDOWN, peak):
        return None
    reduced = multiply(actual, REDUCED)
    return _Breach("notional", "", reduced, notional) if notional > multiply(reduced, TOLERANCE) else None


def _of(block: Any, *path: str) -> Any:
    """What stands at ``path`` in a context; None where anything on the way is missing."""
    for name in path:
        block = block.get(name) if block else None
    return block


def _sum(units: Iterator[Decimal]) -> Decimal:
    total = ZERO
    for each in units:
        total = add(total, each)
    return total


def _finding(code: str, event: Mapping[str, Any], breaches: list[_Breach]) -> Finding:
    numbers = [
        {"limit": each.limit, "of": each.of, "expected": text(each.expected), "recorded": text(each.recorded)}
        for each in breaches
    ]
    return finding(code, OPENED, event["event_id"], detail(exceeded=numbers))
