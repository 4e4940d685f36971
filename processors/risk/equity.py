"""Equity of an instance: what the bot last recorded, and the P&L since (P-02, S2-03).

Equity is kept by quote asset and is None until the bot records one in it. P&L in other quote assets of the instance, in
which it recorded none, is part of the first that has one, converted by a recorded mark of the two; without a mark the
equity is None (finding ``no_conversion``). Deposits and withdrawals show with the next recorded equity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from tradetape.processors.clock import DAY
from tradetape.processors.money import ZERO, add, compact, fits, multiply, percent, rounded, sound, subtract
from tradetape.processors.risk import marks
from tradetape.processors.risk.accounts import Account, Key, daily_pnl, known_pnl, pnl
from tradetape.processors.state import PartitionState
from tradetape.schemas import numbers, times

_EQUITY = ("equity", "initial_equity")
_COOLDOWN = "cooldown_until"
_ENTITIES = frozenset({"account", "portfolio", "trading_state"})
"""Aggregates whose snapshot holds the equity of the account."""
_DOCUMENTS = frozenset({"account_setting_updated", "entity_snapshot"})
_STATES = frozenset({"entity_snapshot", "system_started"})
_EXTRA = frozenset(
    {"system_started", "circuit_breaker_triggered", "entry_skipped", "risk_decision", "risk_limit_reached"}
)
"""Event types that may name a cooldown, or at the start an equity, among the keys that no schema knows."""
_MAX_DOCUMENT = 65_536
"""Characters of JSON that are looked into."""


class Told(NamedTuple):
    """What an event records of the account: its equity in quote (> 0), and until when it takes no entry (µs)."""

    equity: Decimal | None = None
    cooldown_until: int | None = None


NOTHING = Told()


class Standing(NamedTuple):
    """Equity and what follows from it, in ``asset``; drawdown below the peak, in quote and percent."""

    asset: str = ""
    equity: Decimal | None = None
    day_start: Decimal | None = None
    peak: Decimal | None = None
    drawdown: Decimal | None = None
    drawdown_pct: Decimal | None = None


NO_STANDING = Standing()


def told(event: Mapping[str, Any]) -> Told:
    """What ``event`` records; a number or time that is none is passed over."""
    kind, payload = event["event_type"], event["payload"]
    if kind == "state_snapshot":
        return Told(_positive(payload["equity_quote"]))
    if kind == "portfolio_snapshot":
        return Told(_positive(payload["equity"]))
    if kind in _DOCUMENTS or (kind in _EXTRA and event["extra"]):
        return _in_document(event)
    account = (payload.get("context") or {}).get("account") or {}
    return Told(_positive(account["equity_actual"])) if account.get("equity_actual") is not None else NOTHING


def _in_document(event: Mapping[str, Any]) -> Told:
    kind, payload = event["event_type"], event["payload"]
    if kind == "account_setting_updated":
        name, value = payload["setting"], _document(payload["value"])
        return Told(_number(value) if name in _EQUITY else None, _time(value) if name == _COOLDOWN else None)
    if kind == "entity_snapshot" and event["aggregate_type"] not in _ENTITIES:
        return NOTHING
    found = _document(payload["state"] if kind == "entity_snapshot" else event["extra"])
    if not isinstance(found, dict):
        return NOTHING
    equity = next((found[name] for name in _EQUITY if name in found), None)
    return Told(_number(equity) if kind in _STATES else None, _time(found.get(_COOLDOWN)))


def _document(text: str | None) -> Any:
    if text is None or len(text) > _MAX_DOCUMENT:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _number(value: Any) -> Decimal | None:
    """A number out of JSON: as text, an integer, or a float's shortest form."""
    try:
        return _positive(numbers.read(repr(value) if isinstance(value, float) else value)[0])
    except numbers.NumberError:
        return None


def _time(value: Any) -> int | None:
    try:
        return times.parse(value)
    except times.TimeError:
        return None


def _positive(value: Decimal | None) -> Decimal | None:
    """Zero and less is what a bot writes that does not know its equity."""
    return compact(value) if value is not None and value > 0 else None


def record(account: Account, equity: Decimal, at: int, members: Sequence[Account]) -> bool:
    """Take note of a recorded ``equity``; False where a later one is known. ``members`` are the other accounts of the
    instance whose P&L counts in this one.
    """
    if at < account.recorded_ts:
        return False
    first = account.recorded is None
    account.recorded, account.recorded_ts, account.at_recorded = equity, at, known_pnl(account)
    for member in members:
        member.at_recorded = known_pnl(member)
    if first:
        earned = daily_pnl(account)
        account.day_equity = subtract(equity, earned) if earned is not None else equity
    return True


def now(
    account: Account, members: Sequence[tuple[str, Account]], key: Key, state: PartitionState
) -> tuple[Decimal | None, str]:
    """The equity of the account at ``key``, and the asset of a member that has no conversion, if one has none."""
    total = pnl(account)
    if account.recorded is None or total is None:
        return None, ""
    equity = add(account.recorded, subtract(total, account.at_recorded))
    for asset, member in members:
        earned = pnl(member)
        if earned is None:
            return None, ""
        earned = subtract(earned, member.at_recorded)
        if not earned:
            continue
        rate = marks.rate(asset, key[-1], (*key[:-1], member.connector), state)
        if rate is None:
            return None, asset
        equity = add(equity, rounded(multiply(earned, rate)))
    return (equity if fits(equity) else None), ""


def begin_day(account: Account, at: int, equity: Decimal | None) -> None:
    """A new day begins at its first event, with the P&L and the ``equity`` before it."""
    if account.day:
        account.at_day, account.day_equity = known_pnl(account), equity
    account.day = at // DAY


def stand(account: Account, asset: str, equity: Decimal | None) -> Standing:
    """Raise the peak to ``equity``; the standing that follows, each amount None where the contract cannot carry it."""
    drawdown = drawdown_pct = None
    if equity is not None:
        account.peak = equity if account.peak is None else max(account.peak, equity)
        drawdown = subtract(account.peak, equity)
        drawdown_pct = percent(drawdown, account.peak) if account.peak > 0 else ZERO
    return Standing(asset, *map(sound, (equity, account.day_equity, account.peak, drawdown, drawdown_pct)))
