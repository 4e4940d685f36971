"""What a trade was like while it lasted, recomputed from its events (S0-11).

A trade is a position from its opening until it is flat. Its result at a price is what closing it there would bring in
all: what its partial exits realised, and what is still held at that price, before fees and in quote.

- hold: from its opening to its end
- maximum favourable excursion: the best result at any price seen while it was open, never below 0
- maximum adverse excursion: the worst one, never above 0
- exit efficiency: how much of the best was captured, its result / the best; at most 1, None where the best is 0

Prices seen are its executions, what the bot says of it (priced, state, checked), and ticks and bars of its pair on its
connector. Of a bar the close counts; high and low only where the bar says that it began after the opening.

A bot that tells its positions is believed (``position_opened`` … ``position_closed``); its executions, which tell the
same, are not counted again. The trades of others follow from their executions, at average cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

from tradetape.processors import expiry
from tradetape.processors.expiry import Expiring
from tradetape.processors.findings import Finding
from tradetape.processors.horizons import Horizons
from tradetape.processors.reading import RawRecord
from tradetape.processors.risk import instance_key
from tradetape.processors.semantics.arithmetic import HALF, float_error, half_unit, mismatch
from tradetape.processors.semantics.results import SIZING_FIELDS
from tradetape.processors.state import PartitionState
from tradetape.schemas.numbers import QUANTUM, WIDE

ZERO = Decimal(0)
SECOND = Decimal(1_000_000)
DAY = Decimal(86_400_000_000)

WRITING_SECONDS = Decimal(5)
"""What a bot says it held may differ by so much from the times of its events: they tell when it wrote them."""
COUNTING_DAYS = Decimal(1)
"""Days are counted from date to date, from hour to hour, or with the first one in."""
CLOCK_TOLERANCE = 5 * 60_000_000
"""Microseconds that a bot's clock may be ahead of the broker's."""

_SIDES = {"long": 1, "short": -1, "buy": 1, "sell": -1}
_EXITS = frozenset({"exit"})
_PURPOSES = frozenset({"entry", "pyramid"}) | _EXITS


class Trade(Expiring):
    """A position while it is open: ``sign`` 1 for long, −1 for short; base held, total cost and results in quote.

    ``entered`` and ``left`` are base, ``paid`` and ``taken`` quote, of all entries and exits. ``best`` and ``worst``
    are results at any price, ``said_best`` and ``said_worst`` those at prices that the bot named as its position's.
    ``is_sure`` says that nothing on record leaves its size or its price open.
    """

    KEY: ClassVar[str] = "X"

    sign: int = 1
    opened: int = 0
    by_fills: bool = False
    is_sure: bool = True
    held: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    best: Decimal = ZERO
    worst: Decimal = ZERO
    said_best: Decimal = ZERO
    said_worst: Decimal = ZERO
    entered: Decimal = ZERO
    paid: Decimal = ZERO
    left: Decimal = ZERO
    taken: Decimal = ZERO

    def lasts(self, horizons: Horizons) -> int:
        return horizons.open_order

    def called(self) -> str:
        return "open trade"


class TradeStatistics(NamedTuple):
    """A trade in figures. Times in microseconds, ``closed`` None while it is open; prices are averages, quote per base.

    ``result`` is None while it is open and where its exit's price is not told. ``is_sure`` as in ``Trade``.
    """

    connector_name: str
    trading_pair: str
    position_id: str
    side: str
    opened: int
    closed: int | None
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal | None
    result: Decimal | None
    hold_seconds: Decimal | None
    max_favorable_excursion: Decimal
    max_adverse_excursion: Decimal
    exit_efficiency: Decimal | None
    is_sure: bool


def statistics(events: Iterable[Mapping[str, Any]], position_id: str = "") -> list[TradeStatistics]:
    """The trades in canonical ``events`` of one instance, in their stored order: closed ones as they closed, then open.

    ``position_id`` asks for the trades of one position. Executions without a side take that of their order, if it was
    created among ``events``.
    """
    stored = list(events)
    told = {_place(event) for event in stored if event["event_type"] == "position_opened"}
    open_trades: dict[tuple[str, ...], Trade] = {}
    sides: dict[str, str] = {}
    found: list[TradeStatistics] = []
    for event in stored:
        if event["event_type"] == "order_created":
            sides[event["payload"]["client_order_id"]] = event["payload"]["side"]
        elif event["event_type"] == "order_filled":
            if _place(event) not in told:
                side = event["payload"]["side"] or sides.get(event["payload"]["client_order_id"], "")
                found += _execute(event, side, open_trades)
        else:
            found += _follow(event, open_trades)
    found += [_statistics(key, trade, None) for key, trade in open_trades.items()]
    return [one for one in found if not position_id or one.position_id == position_id]


def observe(
    raw: RawRecord, event: Mapping[str, Any], state: PartitionState
) -> tuple[TradeStatistics | None, list[Finding]]:
    """Fold an accepted ``event``; the trade that it closed, and where the bot's own figures of it cannot be right.

    Kept are trades of bots that tell their positions, and of those whose executions say what they are for (entry,
    pyramid, exit). A position with an id is followed through the events that name it, without ticks and bars. One
    record a position that is open, for ``Horizons.open_order`` after its last event.
    """
    kind = event["event_type"]
    if kind == "position_opened":
        _keep(raw, _opened(event), _key(event), state)
    elif kind == "order_filled":
        return _observe_execution(raw, event, state)
    elif kind == "position_closed":
        return _observe_closing(raw, event, state)
    elif kind in _FOLLOWED:
        trade = state.find(Trade, *_key(event))
        if trade is not None:
            before = _reached(trade)
            _see(trade, event)
            if _reached(trade) != before:
                _keep(raw, trade, _key(event), state)
            else:
                expiry.keep(state, trade, raw.timestamp, *_key(event))
    return None, []


def _reached(trade: Trade) -> tuple[Any, ...]:
    return trade.best, trade.worst, trade.said_best, trade.said_worst, trade.is_sure


def _keep(raw: RawRecord, trade: Trade, key: tuple[str, ...], state: PartitionState) -> None:
    known = state.find(Trade, *key)
    if known is not None:
        trade.bucket = known.bucket
    expiry.touch(state, trade, raw.timestamp, *key)


def _observe_execution(
    raw: RawRecord, event: Mapping[str, Any], state: PartitionState
) -> tuple[TradeStatistics | None, list[Finding]]:
    payload, key = event["payload"], _key(event)
    if payload["purpose"] not in _PURPOSES:
        return None, []
    trade = state.find(Trade, *key)
    if trade is not None and not trade.by_fills:
        return None, []
    if trade is None and payload["purpose"] in _EXITS:
        return None, []  # its opening is not on record
    findings = [] if trade is None else _contradictions_of_exit(raw, event, trade)
    open_trades = {} if trade is None else {key: trade}
    closed = _execute(event, payload["side"] or "", open_trades)
    if key in open_trades:
        _keep(raw, open_trades[key], key, state)
    elif trade is not None:
        state.forget(Trade, *key)
    return (closed[-1] if closed else None), findings


def _observe_closing(
    raw: RawRecord, event: Mapping[str, Any], state: PartitionState
) -> tuple[TradeStatistics | None, list[Finding]]:
    key = _key(event)
    trade = state.find(Trade, *key)
    if trade is None or trade.by_fills:
        return None, []
    (closed,) = _follow(event, {key: trade})
    state.forget(Trade, *key)
    recorded, held = event["payload"]["hold_duration_seconds"], closed.hold_seconds
    if recorded is None or held is None or not _is_in_time(raw, event, trade):
        return closed, []
    if WIDE.subtract(recorded, held).copy_abs() <= WRITING_SECONDS + half_unit(recorded):
        return closed, []
    return closed, [mismatch(event["event_id"], "hold_duration_seconds", expected=held, recorded=recorded)]


def _contradictions_of_exit(raw: RawRecord, event: Mapping[str, Any], trade: Trade) -> list[Finding]:
    """Where an exit's own statistics cannot be true of the trade as it was before it.

    A bot sees more prices than it records, and need not look at ticks or at its own executions: its best may be better
    than at the prices that it named, and never less. It is not judged where it says that it held something else than
    its executions gave it.
    """
    told = (event["payload"]["context"] or {}).get("exit")
    if not told or not trade.is_sure or not _is_in_time(raw, event, trade) or told["contracts"] != trade.held:
        return []
    subject, found = event["event_id"], []
    entry = told["entry_price"]
    if entry is None or abs(entry - trade.cost / trade.held) > half_unit(entry) + float_error(entry):
        return []
    rounding = half_unit(entry) * trade.held + float_error(trade.cost)
    best, worst = told["max_favorable_excursion"], told["max_adverse_excursion"]
    if best is not None and best < trade.said_best - rounding - half_unit(best):
        found.append(mismatch(subject, "max_favorable_excursion", expected=trade.said_best, recorded=best))
    if worst is not None and worst > trade.said_worst + rounding + half_unit(worst):
        found.append(mismatch(subject, "max_adverse_excursion", expected=trade.said_worst, recorded=worst))
    days, held = told["hold_duration_days"], (_moment(event) - trade.opened) / DAY
    if days is not None and abs(days - held) > COUNTING_DAYS + HALF:
        held = held.quantize(QUANTUM)
        found.append(mismatch(subject, "hold_duration_days", expected=held, recorded=days))
    return found


def _is_in_time(raw: RawRecord, event: Mapping[str, Any], trade: Trade) -> bool:
    """Whether the clocks make sense: a wrong one is a finding of its own."""
    return trade.opened <= _moment(event) <= raw.timestamp + CLOCK_TOLERANCE


def _follow(event: Mapping[str, Any], open_trades: dict[tuple[str, ...], Trade]) -> list[TradeStatistics]:
    """What an event that is no execution does to ``open_trades``; the trade that it closed."""
    kind = event["event_type"]
    if kind == "position_opened":
        open_trades[_key(event)] = _opened(event)
    elif kind == "position_closed":
        trade = open_trades.pop(_key(event), None)
        if trade is not None:
            return [_closed(event, trade)]
    elif kind in _OF_MARKETS:
        for key, trade in open_trades.items():
            if key[:-1] == _place(event):
                _see(trade, event)
    elif kind in _FOLLOWED:
        trade = open_trades.get(_key(event))
        if trade is not None:
            _see(trade, event)
    return []


def _opened(event: Mapping[str, Any]) -> Trade:
    payload = event["payload"]
    trade = Trade(sign=_SIDES.get(payload["side"], 1), opened=event["ts_utc"])
    _enter(trade, payload["quantity"].copy_abs(), payload["entry_price"])
    return trade


def _closed(event: Mapping[str, Any], trade: Trade) -> TradeStatistics:
    price = event["payload"]["exit_price"]
    if price is not None:
        _leave(trade, trade.held, price)
    return _statistics(_key(event), trade, event["ts_utc"])


def _execute(event: Mapping[str, Any], side: str, open_trades: dict[tuple[str, ...], Trade]) -> list[TradeStatistics]:
    """Fold an execution into the trade of its pair; the trade that it closed. What is beyond flat opens another."""
    payload, key = event["payload"], _key(event)
    sign, quantity, price = _SIDES.get(side), payload["fill_qty_base"], payload["fill_price"]
    trade = open_trades.get(key)
    if sign is None or quantity <= 0:
        if trade is not None:
            trade.is_sure = False
        return []
    closed = []
    if trade is not None and sign != trade.sign:
        leaving = min(quantity, trade.held)
        _leave(trade, leaving, price)
        quantity = WIDE.subtract(quantity, leaving)
        if not trade.held:
            closed.append(_statistics(key, open_trades.pop(key), _moment(event)))
    if quantity:
        if key not in open_trades:
            open_trades[key] = Trade(sign=sign, opened=_moment(event), by_fills=True)
        _enter(open_trades[key], quantity, price)
    return closed


def _enter(trade: Trade, quantity: Decimal, price: Decimal) -> None:
    value = WIDE.multiply(quantity, price)
    trade.held, trade.entered = WIDE.add(trade.held, quantity), WIDE.add(trade.entered, quantity)
    trade.cost, trade.paid = _round(WIDE.add(trade.cost, value)), WIDE.add(trade.paid, value)
    _mark(trade, price)


def _leave(trade: Trade, quantity: Decimal, price: Decimal) -> None:
    _mark(trade, price)
    if not trade.held:
        return
    whole = quantity == trade.held
    share = trade.cost if whole else _round(WIDE.divide(WIDE.multiply(trade.cost, quantity), trade.held))
    value = WIDE.multiply(quantity, price)
    trade.realised = _round(WIDE.add(trade.realised, WIDE.multiply(trade.sign, WIDE.subtract(value, share))))
    trade.cost, trade.held = WIDE.subtract(trade.cost, share), WIDE.subtract(trade.held, quantity)
    trade.left, trade.taken = WIDE.add(trade.left, quantity), WIDE.add(trade.taken, value)
    _reach(trade, trade.realised if whole else _result(trade, price))


def _mark(trade: Trade, price: Decimal) -> Decimal:
    """``price`` was seen; the result at it. A price of 0 is one that its source cut off."""
    if price <= 0:
        trade.is_sure = False
    result = _result(trade, price)
    _reach(trade, result)
    return result


def _reach(trade: Trade, result: Decimal) -> None:
    trade.best, trade.worst = max(trade.best, result), min(trade.worst, result)


def _result(trade: Trade, price: Decimal) -> Decimal:
    """What the trade brings in all where it is closed at ``price``."""
    unrealised = WIDE.multiply(trade.sign, WIDE.subtract(WIDE.multiply(trade.held, price), trade.cost))
    return _round(WIDE.add(trade.realised, unrealised))


def _see(trade: Trade, event: Mapping[str, Any]) -> None:
    """What an event between its executions says of an open trade."""
    if event["event_type"] == "position_changed":
        field = event["payload"]["field"].casefold()
        trade.is_sure &= not any(part in field for part in SIZING_FIELDS)
        return
    for price in _prices(event, trade.opened):
        result = _mark(trade, price)
        if event["event_type"] not in _OF_MARKETS:
            trade.said_best, trade.said_worst = max(trade.said_best, result), min(trade.said_worst, result)


def _prices(event: Mapping[str, Any], opened: int) -> Iterator[Decimal]:
    kind, payload = event["event_type"], event["payload"]
    if kind == "market_candle":
        began = payload["open_ts_utc"]
        names = ("high", "low", "close") if began is not None and began >= opened else ("close",)
        yield from (payload[name] for name in names)
        return
    price = payload[_FOLLOWED[kind]]
    if price is None and kind == "position_checked":
        context = payload["context"] or {}
        position, market = context.get("position") or {}, context.get("market") or {}
        price = position.get("current_price") or market.get("price")
    if price is not None:
        yield price


_OF_MARKETS = frozenset({"market_price", "market_candle"})

_FOLLOWED = {
    "position_priced": "new_price",
    "position_state": "current_price",
    "position_checked": "current_price",
    "position_changed": "field",
    "market_price": "price",
    "market_candle": "close",
}
"""Events between a trade's executions, and the payload key that tells what they are about."""


def _statistics(key: tuple[str, ...], trade: Trade, closed: int | None) -> TradeStatistics:
    result = trade.realised if closed is not None and not trade.held else None
    return TradeStatistics(
        connector_name=key[-3],
        trading_pair=key[-2],
        position_id=key[-1],
        side="long" if trade.sign > 0 else "short",
        opened=trade.opened,
        closed=closed,
        quantity=trade.entered,
        entry_price=_ratio(trade.paid, trade.entered) or ZERO,
        exit_price=_ratio(trade.taken, trade.left),
        result=result,
        hold_seconds=None if closed is None else WIDE.divide(Decimal(closed - trade.opened), SECOND),
        max_favorable_excursion=trade.best,
        max_adverse_excursion=trade.worst,
        exit_efficiency=None if result is None else _ratio(result, trade.best),
        is_sure=trade.is_sure,
    )


def _place(event: Mapping[str, Any]) -> tuple[str, ...]:
    return (*instance_key(event), event["connector_name"], event["trading_pair"])


def _key(event: Mapping[str, Any]) -> tuple[str, ...]:
    """A position by its id; one without is the pair's own."""
    return (*_place(event), event["payload"].get("position_id") or "")


def _moment(event: Mapping[str, Any]) -> int:
    """When an event happened: of an execution its own time, where it has one."""
    moment: int = event["payload"].get("executed_ts_utc") or event["ts_utc"]
    return moment


def _ratio(part: Decimal, whole: Decimal) -> Decimal | None:
    """``part`` / ``whole`` to 18 decimals; None of nothing."""
    return _round(WIDE.divide(part, whole)) if whole else None


def _round(amount: Decimal) -> Decimal:
    """18 decimals, half-even; what has no room for them is left as it is."""
    return amount.quantize(QUANTUM, context=WIDE) if amount.adjusted() < 57 else amount
