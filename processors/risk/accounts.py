"""Figures of an instance in one quote asset: P&L, exposure, concentration, the day (P-02).

P&L is realised at average cost, less fees in the quote asset, plus funding, plus unrealised at the marks. What an open
position without a mark is worth is not known, and neither are the sums that need it: they are None.

A day is the UTC date of the event. What a late event changes counts for the day it happened on.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import ClassVar, NamedTuple

from tradetape.processors.clock import DAY
from tradetape.processors.money import ZERO, add, multiply, percent, ratio, rounded, subtract
from tradetape.processors.risk import marks
from tradetape.processors.risk.history import Position
from tradetape.processors.state import SEPARATOR, PartitionState, Record

Key = tuple[str, ...]
"""Environment, account, instance and quote asset of an account."""


class Account(Record):
    """Sums over the positions of an instance in one quote asset.

    ``unmarked`` open positions have no mark. ``largest`` is the greatest exposure and ``largest_of`` whose it is, kept
    where more than one position is open. ``at_day`` and ``at_recorded`` are the P&L when the day began and when
    ``recorded``, the last equity that the bot recorded, was; ``day_equity`` the equity when the day began.
    """

    KEY: ClassVar[str] = "xa"

    realised: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    unrealised: Decimal = ZERO
    gross: Decimal = ZERO
    net: Decimal = ZERO
    positions: int = 0
    open: int = 0
    unmarked: int = 0
    largest: Decimal = ZERO
    largest_of: str = ""
    losses: int = 0
    day: int = 0
    at_day: Decimal = ZERO
    recorded: Decimal | None = None
    recorded_ts: int = 0
    at_recorded: Decimal = ZERO
    day_equity: Decimal | None = None
    peak: Decimal | None = None
    connector: str = ""
    is_apart: bool = False


class Open(Record):
    """The open positions of an account, as connector and pair."""

    KEY: ClassVar[str] = "xo"

    names: list[str] = []


class Worth(NamedTuple):
    """What a position adds to its account."""

    realised: Decimal = ZERO
    fees: Decimal = ZERO
    unrealised: Decimal = ZERO
    gross: Decimal = ZERO
    net: Decimal = ZERO
    open: int = 0
    unmarked: int = 0
    mark: Decimal | None = None


def worth(position: Position | None, mark: Decimal | None, quote: str) -> Worth:
    """What ``position`` adds at ``mark``."""
    if position is None:
        return Worth(mark=mark)
    cost = position.cost
    fees = cost.fees.get(quote, ZERO)
    if not cost.net_base:
        return Worth(cost.realised_quote, fees, mark=mark)
    if mark is None:
        return Worth(cost.realised_quote, fees, open=1, unmarked=1)
    value = rounded(multiply(cost.net_base, mark))
    return Worth(cost.realised_quote, fees, subtract(value, cost.cost_quote), value.copy_abs(), value, 1, 0, mark)


def revalue(account: Account, before: Worth, after: Worth) -> Decimal:
    """Put ``after`` in the place of ``before``; returns by how much the P&L changed."""
    pnl = known_pnl(account)
    account.realised = add(account.realised, subtract(after.realised, before.realised))
    account.fees = add(account.fees, subtract(after.fees, before.fees))
    account.unrealised = add(account.unrealised, subtract(after.unrealised, before.unrealised))
    account.gross = add(account.gross, subtract(after.gross, before.gross))
    account.net = add(account.net, subtract(after.net, before.net))
    account.open += after.open - before.open
    account.unmarked += after.unmarked - before.unmarked
    return subtract(known_pnl(account), pnl)


def note_exposure(account: Account, name: str, before: Worth, after: Worth, *, key: Key, state: PartitionState) -> None:
    """Keep the list of open positions and the largest of them; the position ``name`` is written already."""
    if after.open != before.open:
        held = state.get(Open, *key)
        held.names = [*held.names, name] if after.open else [other for other in held.names if other != name]
        state.touch(held, *key)
    if account.open <= 1:
        account.largest, account.largest_of = ZERO, ""
    elif account.largest_of and account.largest_of != name:
        if after.gross > account.largest:
            account.largest, account.largest_of = after.gross, name
    elif account.largest_of and after.gross >= account.largest:
        account.largest = after.gross
    else:
        account.largest, account.largest_of = max(_exposures(key, state), key=lambda each: each[0])


def _exposures(key: Key, state: PartitionState) -> Iterator[tuple[Decimal, str]]:
    for name in state.get(Open, *key).names:
        place = (*key[:-1], *name.split(SEPARATOR))
        yield worth(state.get(Position, *place), marks.of(place, state), key[-1]).gross, name


def known_pnl(account: Account) -> Decimal:
    """P&L of all that is known: an open position without a mark adds what it has realised."""
    return add(add(subtract(account.realised, account.fees), account.funding), account.unrealised)


def pnl(account: Account) -> Decimal | None:
    """P&L since the first event; None while an open position has no mark."""
    return None if account.unmarked else known_pnl(account)


def daily_pnl(account: Account) -> Decimal | None:
    """P&L since the day of the last event began."""
    total = pnl(account)
    return None if total is None else subtract(total, account.at_day)


def daily_pnl_pct(account: Account) -> Decimal | None:
    """The day's P&L in percent of the equity in the same asset when it began."""
    earned = daily_pnl(account)
    return None if earned is None or account.day_equity is None else percent(earned, account.day_equity)


def concentration(account: Account) -> Decimal | None:
    """The largest position's share of the gross exposure, 0 to 1; None without exposure or without a mark."""
    if account.unmarked or not account.gross:
        return None
    return ratio(account.largest, account.gross) if account.largest_of else Decimal(1)


def date_change(account: Account, change: Decimal, at: int) -> None:
    """The P&L changed by ``change`` through something that happened at ``at``: before the day or the recorded equity,
    it belongs to what they began with.
    """
    if at // DAY < account.day:
        account.at_day = add(account.at_day, change)
        if account.day_equity is not None and at >= account.recorded_ts:
            account.day_equity = add(account.day_equity, change)
    if at < account.recorded_ts:
        account.at_recorded = add(account.at_recorded, change)
