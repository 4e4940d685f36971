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
from typing import Any, ClassVar, NamedTuple, TypeVar

from tradetape.processors import clock, expiry
from tradetape.processors.expiry import Expiring
from tradetape.processors.findings import Finding
from tradetape.processors.horizons import Horizons
from tradetape.processors.money import ZERO, add, divide, multiply, ratio, rounded, subtract
from tradetape.processors.reading import RawRecord
from tradetape.processors.risk import position_key
from tradetape.processors.semantics.arithmetic import HALF, float_error, half_unit, mismatch
from tradetape.processors.semantics.results import SIZING_FIELDS
from tradetape.processors.state import PartitionState

WRITING_SECONDS = Decimal(5)
"""What a bot says it held may differ by so much from the times of its events: they tell when it wrote them."""
COUNTING_DAYS = Decimal(1)
"""Days are counted from date to date, from hour to hour, or with the first one in."""

_SIDES = {"long": 1, "short": -1, "buy": 1, "sell": -1}
_EXITS = frozenset({"exit"})
_PURPOSES = frozenset({"entry", "pyramid"}) | _EXITS


class Trade(Expiring):
    """A position: ``sign`` 1 for long, −1 for short; base held, total cost and what its exits realised in quote.

    ``opened`` is 0 once it is over. ``said_best`` and ``said_worst`` are results at prices that the bot named as its
    position's. ``is_sure`` says that nothing on record leaves its size or its price open.
    """

    KEY: ClassVar[str] = "X"

    sign: int = 1
    opened: int = 0
    by_fills: bool = False
    is_sure: bool = True
    held: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    said_best: Decimal = ZERO
    said_worst: Decimal = ZERO

    def lasts(self, horizons: Horizons) -> int:
        return horizons.open_order if self.opened else 0

    def looked_at(self, horizons: Horizons) -> int:
        return horizons.closed_order

    def called(self) -> str:
        return "open trade" if self.opened else ""

    def result(self, price: Decimal) -> Decimal:
        """What it brings in all where it is closed at ``price``."""
        unrealised = multiply(Decimal(self.sign), subtract(multiply(self.held, price), self.cost))
        return rounded(add(self.realised, unrealised))

    def see(self, price: Decimal) -> None:
        """``price`` was seen. One of 0 is one that its source cut off."""
        self.is_sure &= price > 0

    def enter(self, quantity: Decimal, price: Decimal) -> None:
        """Add ``quantity`` at ``price``."""
        self.held = add(self.held, quantity)
        self.cost = rounded(add(self.cost, multiply(quantity, price)))
        self.see(price)

    def leave(self, quantity: Decimal, price: Decimal) -> None:
        """Take off ``quantity`` at ``price``."""
        self.see(price)
        if not self.held:
            return
        share = self.cost
        if quantity != self.held:
            share = rounded(divide(multiply(self.cost, quantity), self.held))
        gain = multiply(Decimal(self.sign), subtract(multiply(quantity, price), share))
        self.realised = rounded(add(self.realised, gain))
        self.cost, self.held = subtract(self.cost, share), subtract(self.held, quantity)


class _Whole(Trade):
    """A trade with all that its statistics need; only the partition's memory does without.

    ``entered`` and ``left`` are base, ``paid`` and ``taken`` quote, of all entries and exits. ``best`` and ``worst``
    are results at any price that was seen.
    """

    KEY: ClassVar[str] = ""

    best: Decimal = ZERO
    worst: Decimal = ZERO
    entered: Decimal = ZERO
    paid: Decimal = ZERO
    left: Decimal = ZERO
    taken: Decimal = ZERO

    def see(self, price: Decimal) -> None:
        super().see(price)
        self._reach(self.result(price))

    def enter(self, quantity: Decimal, price: Decimal) -> None:
        self.entered, self.paid = add(self.entered, quantity), add(self.paid, multiply(quantity, price))
        super().enter(quantity, price)

    def leave(self, quantity: Decimal, price: Decimal) -> None:
        if self.held:
            self.left, self.taken = add(self.left, quantity), add(self.taken, multiply(quantity, price))
        super().leave(quantity, price)
        self._reach(self.result(price) if self.held else self.realised)

    def _reach(self, result: Decimal) -> None:
        self.best, self.worst = max(self.best, result), min(self.worst, result)


T = TypeVar("T", bound=Trade)
Key = tuple[str, ...]


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
    told = {position_key(event) for event in stored if event["event_type"] == "position_opened"}
    open_trades: dict[Key, _Whole] = {}
    sides: dict[str, str] = {}
    found: list[TradeStatistics] = []
    for event in stored:
        if event["event_type"] == "order_created":
            sides[event["payload"]["client_order_id"]] = event["payload"]["side"]
        elif event["event_type"] == "order_filled":
            if position_key(event) not in told:
                side = event["payload"]["side"] or sides.get(event["payload"]["client_order_id"], "")
                closed = _execute(event, side, open_trades, _Whole)
                found += [_statistics(_key(event), trade, _moment(event)) for trade in closed]
        else:
            found += _follow(event, open_trades)
    found += [_statistics(key, trade, None) for key, trade in open_trades.items()]
    return [one for one in found if not position_id or one.position_id == position_id]


def observe(raw: RawRecord, event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    """Fold an accepted ``event``; where the bot's own figures of a trade cannot be right.

    Kept are trades of bots that tell their positions, and of those whose executions say what they are for (entry,
    pyramid, exit). A position with an id is followed through the events that name it, without ticks and bars. One
    record a position that is open, for ``Horizons.open_order`` after its last event.
    """
    kind = event["event_type"]
    if kind == "position_opened":
        _keep(raw, _opened(event, Trade), _key(event), state)
    elif kind == "order_filled":
        return _observe_execution(raw, event, state)
    elif kind == "position_closed":
        return _observe_closing(raw, event, state)
    elif kind in _FOLLOWED:
        trade = _open(_key(event), state)
        if trade is not None:
            before = (trade.said_best, trade.said_worst, trade.is_sure)
            _see(trade, event)
            if (trade.said_best, trade.said_worst, trade.is_sure) != before:
                _keep(raw, trade, _key(event), state)
            else:
                expiry.keep(state, trade, raw.timestamp, *_key(event))
    return []


def _open(key: Key, state: PartitionState) -> Trade | None:
    """The open trade of a position."""
    trade = state.find(Trade, *key)
    return trade if trade is not None and trade.opened else None


def _keep(raw: RawRecord, trade: Trade, key: Key, state: PartitionState) -> None:
    """Keep ``trade``, or that there is none any more, in the place of the position's last."""
    known = state.find(Trade, *key)
    if known is not None:
        trade.bucket = known.bucket
    expiry.touch(state, trade, raw.timestamp, *key)


def _observe_execution(raw: RawRecord, event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    payload, key = event["payload"], _key(event)
    if payload["purpose"] not in _PURPOSES:
        return []
    trade = _open(key, state)
    if trade is not None and not trade.by_fills:
        return []
    if trade is None and payload["purpose"] in _EXITS:
        return []  # its opening is not on record
    findings = [] if trade is None else _contradictions_of_exit(raw, event, trade)
    open_trades = {} if trade is None else {key: trade}
    _execute(event, payload["side"] or "", open_trades, Trade)
    if key in open_trades or trade is not None:
        _keep(raw, open_trades.get(key) or Trade(), key, state)
    return findings


def _observe_closing(raw: RawRecord, event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    key = _key(event)
    trade = _open(key, state)
    if trade is None or trade.by_fills:
        return []
    _keep(raw, Trade(), key, state)
    recorded, held = event["payload"]["hold_duration_seconds"], _seconds(trade, event["ts_utc"])
    if recorded is None or not _is_in_time(raw, event, trade):
        return []
    if subtract(recorded, held).copy_abs() <= WRITING_SECONDS + half_unit(recorded):
        return []
    return [mismatch(event["event_id"], "hold_duration_seconds", expected=held, recorded=recorded)]


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
    days, held = told["hold_duration_days"], divide(Decimal(_moment(event) - trade.opened), Decimal(clock.DAY))
    if days is not None and abs(days - held) > COUNTING_DAYS + HALF:
        found.append(mismatch(subject, "hold_duration_days", expected=rounded(held), recorded=days))
    return found


def _is_in_time(raw: RawRecord, event: Mapping[str, Any], trade: Trade) -> bool:
    """Whether the clocks make sense: a wrong one is a finding of its own."""
    return trade.opened <= _moment(event) <= raw.timestamp + clock.TOLERANCE


def _follow(event: Mapping[str, Any], open_trades: dict[Key, _Whole]) -> list[TradeStatistics]:
    """What an event that is no execution does to ``open_trades``; the trade that it closed."""
    kind = event["event_type"]
    if kind == "position_opened":
        open_trades[_key(event)] = _opened(event, _Whole)
    elif kind == "position_closed":
        trade = open_trades.pop(_key(event), None)
        if trade is not None:
            price = event["payload"]["exit_price"]
            if price is not None:
                trade.leave(trade.held, price)
            return [_statistics(_key(event), trade, event["ts_utc"])]
    elif kind in _OF_MARKETS:
        for key, trade in open_trades.items():
            if key[:-1] == position_key(event):
                _see(trade, event)
    elif kind in _FOLLOWED:
        trade = open_trades.get(_key(event))
        if trade is not None:
            _see(trade, event)
    return []


def _opened(event: Mapping[str, Any], kind: type[T]) -> T:
    payload = event["payload"]
    trade = kind(sign=_SIDES.get(payload["side"], 1), opened=event["ts_utc"])
    trade.enter(payload["quantity"].copy_abs(), payload["entry_price"])
    return trade


def _execute(event: Mapping[str, Any], side: str, open_trades: dict[Key, T], kind: type[T]) -> list[T]:
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
        trade.leave(leaving, price)
        quantity = subtract(quantity, leaving)
        if not trade.held:
            closed.append(open_trades.pop(key))
    if quantity:
        if key not in open_trades:
            open_trades[key] = kind(sign=sign, opened=_moment(event), by_fills=True)
        open_trades[key].enter(quantity, price)
    return closed


def _see(trade: Trade, event: Mapping[str, Any]) -> None:
    """What an event between its executions says of an open trade."""
    if event["event_type"] == "position_changed":
        field = event["payload"]["field"].casefold()
        trade.is_sure &= not any(part in field for part in SIZING_FIELDS)
        return
    for price in _prices(event, trade.opened):
        trade.see(price)
        if event["event_type"] not in _OF_MARKETS:
            result = trade.result(price)
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


def _statistics(key: Key, trade: _Whole, closed: int | None) -> TradeStatistics:
    result = trade.realised if closed is not None and not trade.held else None
    return TradeStatistics(
        connector_name=key[-3],
        trading_pair=key[-2],
        position_id=key[-1],
        side="long" if trade.sign > 0 else "short",
        opened=trade.opened,
        closed=closed,
        quantity=trade.entered,
        entry_price=ratio(trade.paid, trade.entered) or ZERO,
        exit_price=ratio(trade.taken, trade.left),
        result=result,
        hold_seconds=None if closed is None else _seconds(trade, closed),
        max_favorable_excursion=trade.best,
        max_adverse_excursion=trade.worst,
        exit_efficiency=None if result is None else ratio(result, trade.best),
        is_sure=trade.is_sure,
    )


def _seconds(trade: Trade, closed: int) -> Decimal:
    """How long ``trade`` was held."""
    return divide(Decimal(closed - trade.opened), Decimal(clock.SECOND))


def _key(event: Mapping[str, Any]) -> Key:
    """A position by its id; one without is the pair's own."""
    return (*position_key(event), event["payload"].get("position_id") or "")


def _moment(event: Mapping[str, Any]) -> int:
    """When an event happened: of an execution its own time, where it has one."""
    moment: int = event["payload"].get("executed_ts_utc") or event["ts_utc"]
    return moment
