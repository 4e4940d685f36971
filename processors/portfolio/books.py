"""The fold of a portfolio's deltas into its figures (P-02, G3). Pure.

Sums are kept exactly, however large; a figure that the contract cannot carry is null, or named in ``beyond``.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from tradetape.processors import clock, shelf
from tradetape.processors.money import ZERO, add, fits, percent, ratio, sound, subtract
from tradetape.processors.outputs import END
from tradetape.processors.risk import rates
from tradetape.processors.risk.rates import Window
from tradetape.processors.shelf import Entry
from tradetape.processors.state import PartitionState, Record
from tradetape.schemas import times

SUMS = ("realised_quote", "fees_quote", "unrealised_quote", "exposure_net", "exposure_gross")


class Book(Record):
    """Figures of one portfolio in one quote asset. ``held`` is the sum of the absolute exposures of its pairs,
    ``largest`` the greatest of them and ``largest_pair`` whose it is; ``book_seq`` counts its deltas.
    """

    KEY: ClassVar[str] = "b"

    book_seq: int = 0
    members: int = 0
    realised_quote: Decimal = ZERO
    fees_quote: Decimal = ZERO
    unrealised_quote: Decimal = ZERO
    exposure_net: Decimal = ZERO
    exposure_gross: Decimal = ZERO
    open_orders: int = 0
    held: Decimal = ZERO
    largest: Decimal = ZERO
    largest_pair: str = ""
    has_equity: bool = False
    equity: Decimal = ZERO
    peak: Decimal = ZERO
    day: str = ""
    day_pnl: Decimal = ZERO
    day_equity: Decimal = ZERO


class Pair(Entry):
    """The signed exposure of a book in one pair, which is not 0."""

    KEY: ClassVar[str] = "m"

    exposure: Decimal = ZERO


class Rates(Record):
    """What the members of a book sent, cancelled and were refused."""

    KEY: ClassVar[str] = "j"

    minute: Window = msgspec.field(default_factory=Window)
    hour: Window = msgspec.field(default_factory=Window)


class Taken(Record):
    """How far the deltas of one raw partition are folded."""

    KEY: ClassVar[str] = "t"

    raw_offset: int = -1
    derived_seq: int = -1


def fold(delta: Mapping[str, Any], state: PartitionState) -> dict[str, Any] | None:
    """The portfolio's figures after ``delta`` (fields of portfolio_figure.avsc), None for one that came again."""
    if not _is_new(delta, state):
        return None
    key = (delta["environment"], delta["portfolio"], delta["quote_asset"])
    book, sent = state.get(Book, *key), state.get(Rates, *key)
    at = clock.bounded(delta["ts_utc"], delta["ingest_ts_utc"])
    _add(book, delta, at)
    if delta["exposure_net"]:
        _move_exposure(book, delta["trading_pair"], delta["exposure_net"], key, state)
    if any(delta[name] for name in rates.NAMES):
        _count(sent, delta, at)
        state.touch(sent, *key)
    state.touch(book, *key)
    return _figure(book, sent, delta, at)


def _is_new(delta: Mapping[str, Any], state: PartitionState) -> bool:
    source = str(delta["raw_partition"])
    taken = state.get(Taken, source)
    if (delta["raw_offset"], delta["derived_seq"]) <= (taken.raw_offset, taken.derived_seq):
        return False
    state.touch(Taken(delta["raw_offset"], delta["derived_seq"]), source)
    return True


def _add(book: Book, delta: Mapping[str, Any], at: int) -> None:
    book.book_seq += 1
    for name in SUMS:
        if delta[name]:
            setattr(book, name, add(getattr(book, name), delta[name]))
    book.members += delta["members"]
    book.open_orders += delta["open_orders"]
    earned = _earned(delta)
    _begin_day(book, times.text(at)[:10])
    book.day_pnl = add(book.day_pnl, earned)
    if delta["has_equity"]:
        _move_equity(book, delta["equity"], earned)


def _count(sent: Rates, delta: Mapping[str, Any], at: int) -> None:
    for kind, name in enumerate(rates.NAMES):
        if delta[name]:
            rates.count(sent.minute, clock.MINUTE, kind, at)
            rates.count(sent.hour, clock.HOUR, kind, at)


def _move_exposure(book: Book, name: str, change: Decimal, key: tuple[str, ...], state: PartitionState) -> None:
    """Keep the exposure of the pair ``name``, the sum of all, and the largest of them."""
    pair = state.get(Pair, *key, name)
    before = pair.exposure.copy_abs()
    pair.exposure = add(pair.exposure, change)
    after = pair.exposure.copy_abs()
    if after:
        shelf.put(state, pair, name, *key)
    else:
        shelf.take(state, Pair, name, *key)
    book.held = add(book.held, subtract(after, before))
    if (after, name) >= (book.largest, book.largest_pair):
        book.largest, book.largest_pair = after, name
    elif name == book.largest_pair:
        pairs = shelf.names_and_entries(state, Pair, *key)
        book.largest, book.largest_pair = max(
            ((other.exposure.copy_abs(), known) for known, other in pairs), default=(ZERO, "")
        )


def _earned(delta: Mapping[str, Any]) -> Decimal:
    """P&L that the portfolio made; what a member brings along or takes away was made before."""
    if delta["members"]:
        return ZERO
    return subtract(add(delta["realised_quote"], delta["unrealised_quote"]), delta["fees_quote"])


def _begin_day(book: Book, day: str) -> None:
    """A day begins with its first event and does not come back: a late event counts on the day that is."""
    if day > book.day:
        book.day, book.day_pnl, book.day_equity = day, ZERO, book.equity


def _move_equity(book: Book, change: Decimal, earned: Decimal) -> None:
    """What comes in without being earned (a member's first equity, a deposit) moves the peak along: no profit."""
    flow = subtract(change, earned)
    book.has_equity = True
    book.equity = add(book.equity, change)
    book.day_equity = add(book.day_equity, flow)
    book.peak = max(add(book.peak, flow), book.equity)


def _figure(book: Book, sent: Rates, delta: Mapping[str, Any], at: int) -> dict[str, Any]:
    drawdown = subtract(book.peak, book.equity) if book.has_equity else None
    certain = {**{name: getattr(book, name) for name in SUMS}, "daily_pnl": book.day_pnl}
    beyond = [name for name, value in certain.items() if not fits(value)]
    return {
        **{name: delta[name] for name in _CONTEXT},
        "book_seq": book.book_seq,
        "members": book.members,
        **certain,
        **dict.fromkeys(beyond, ZERO),
        "concentration": sound(ratio(book.largest, book.held)) if book.largest_pair else None,
        "largest_pair": book.largest_pair,
        "equity": sound(book.equity) if book.has_equity else None,
        "peak_equity": sound(book.peak) if book.has_equity else None,
        "drawdown_quote": sound(drawdown),
        "drawdown_pct": None if drawdown is None else sound(percent(drawdown, book.peak)),
        "day": book.day,
        "daily_pnl_pct": sound(percent(book.day_pnl, book.day_equity)),
        "open_orders": book.open_orders,
        **dict(zip(_SENT_1M, rates.counts(sent.minute, clock.MINUTE, at), strict=True)),
        **dict(zip(_SENT_1H, rates.counts(sent.hour, clock.HOUR, at), strict=True)),
        "beyond": beyond,
        "_end": END,
    }


_CONTEXT = (
    *("raw_partition", "raw_offset", "derived_seq", "event_id", "event_type", "correlation_id", "ts_utc"),
    *("ingest_ts_utc", "core_version", "environment", "account", "instance_name", "portfolio", "quote_asset"),
)
_SENT_1M = tuple(f"{name}_1m" for name in rates.NAMES)
_SENT_1H = tuple(f"{name}_1h" for name in rates.NAMES)
