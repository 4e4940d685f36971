"""What an event changes of the figures: its position, its account in one quote asset, its instance (P-02).

A figure comes after every event that changes a position, an account or a count: executions, marks of a pair in which a
position is open, recorded equity, funding, and what opens, ends or fails an order.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import msgspec

from tradetape.processors import clock
from tradetape.processors.clock import DAY
from tradetape.processors.findings import NOTED, OPENED, Finding, detail, finding
from tradetape.processors.lineage import Order, fill_of, order_id
from tradetape.processors.money import FigureOutOfRange, add, compact, sound
from tradetape.processors.reading import RawRecord
from tradetape.processors.risk import accounts, equity, history, marks, rates, trips, turtle_limits
from tradetape.processors.risk.accounts import Account, Worth
from tradetape.processors.risk.equity import Standing
from tradetape.processors.risk.history import Position
from tradetape.processors.risk.keys import instance_key, order_key, position_key, when
from tradetape.processors.risk.marks import Mark
from tradetape.processors.risk.positions import Assets, Execution, average_cost
from tradetape.processors.risk.rates import Window
from tradetape.processors.state import SEPARATOR, PartitionState, Record
from tradetape.schemas import instruments, times

_COUNTED = dict(zip(rates.KINDS, ("orders_created", "orders_cancelled", "orders_failed"), strict=True))

WAITING = 32

QUOTES = 32
"""Quote assets of an instance that its figures are looked up by; an account in one more stands for itself alone."""


class Instance(Record):
    """Counts of one bot since its first event, its windows, and its first QUOTES quote assets; ``home`` is the first
    asset in which it recorded its equity.
    """

    KEY: ClassVar[str] = "i"

    open_orders: int = 0
    orders_created: int = 0
    orders_cancelled: int = 0
    orders_failed: int = 0
    minute: Window = msgspec.field(default_factory=Window)
    hour: Window = msgspec.field(default_factory=Window)
    quotes: list[str] = []
    home: str | None = None
    cooldown_until: int | None = None


class Waiting(Record):
    """Orders and times of the last WAITING executions of an instance that wait in their order for its direction."""

    KEY: ClassVar[str] = "xw"

    times: list[tuple[str, int]] = []


class Figures(NamedTuple):
    """The figures after an event, as ``risk_figure.avsc`` names and describes them."""

    trading_pair: str
    net_base: Decimal
    cost_quote: Decimal
    avg_cost: Decimal
    realised_quote: Decimal
    fees: Mapping[str, Decimal]
    last_price: Decimal
    fills: int
    open_orders: int
    orders_created: int
    orders_cancelled: int
    orders_failed: int
    quote_asset: str
    realised_fifo_quote: Decimal
    mark_price: Decimal | None
    unrealised_quote: Decimal | None
    account_realised: Decimal | None
    account_fees: Decimal | None
    account_funding: Decimal | None
    account_unrealised: Decimal | None
    exposure_gross: Decimal | None
    exposure_net: Decimal | None
    concentration: Decimal | None
    day: str
    daily_pnl: Decimal | None
    daily_pnl_pct: Decimal | None
    consecutive_losses: int
    equity_asset: str
    equity: Decimal | None
    day_equity: Decimal | None
    peak_equity: Decimal | None
    drawdown_quote: Decimal | None
    drawdown_pct: Decimal | None
    orders_1m: int
    cancels_1m: int
    rejects_1m: int
    orders_1h: int
    cancels_1h: int
    rejects_1h: int
    cooldown_until: int | None


def observe(
    raw: RawRecord, event: Mapping[str, Any], order: Order | None, opened: int, state: PartitionState
) -> tuple[Figures | None, list[Finding]]:
    """Fold ``event`` into the figures; None where it changed none. ``order`` already includes the event,
    by which ``opened`` more orders of the instance are open.

    An execution whose direction is unknown waits in its order and is folded when the order tells it.
    """
    change = _Change(event, when(raw, event), state)
    change.count(opened)
    for execution in _due(event, change.at, order, state):
        change.execute(execution)
    price = marks.told(event)
    if price is not None:
        change.mark(price)
    if event["event_type"] == "funding_paid":
        change.fund(event["payload"]["asset"], event["payload"]["amount"])
    change.take_note(equity.told(event))
    change.findings += turtle_limits.observe(event, state)
    return change.figures(), change.findings


def shown(key: tuple[str, ...], at: int, state: PartitionState) -> Figures:
    """The figures of the position at ``key`` as an event of it at the time ``at`` shows them that changes nothing else.

    ``state`` is one to look at: an equity above the peak raises it.
    """
    names = ("environment", "account", "instance_name", "connector_name", "trading_pair")
    return _Change({**dict(zip(names, key, strict=True)), "event_type": ""}, at, state).now()


def _due(event: Mapping[str, Any], at: int, order: Order | None, state: PartitionState) -> list[Execution]:
    """The executions to fold now: those that waited, then the event's own."""
    is_fill = event["event_type"] == "order_filled"
    if order is None or not (is_fill or order.pending):
        return []
    key = instance_key(event)
    if order.side is None:
        if is_fill:
            waiting = state.get(Waiting, *key)
            waiting.times = [*waiting.times[-WAITING + 1 :], (_name(event), at)]
            state.touch(waiting, *key)
        return []
    due = []
    if order.pending:
        waiting, name = state.get(Waiting, *key), _name(event)
        known = [ts_utc for other, ts_utc in waiting.times if other == name][-len(order.pending) :]
        # One whose time is no longer known stands at that of the event that tells its direction.
        known = [at] * (len(order.pending) - len(known)) + known
        due = [(order.side, ts_utc, fill) for ts_utc, fill in zip(known, order.pending, strict=True)]
        order.pending = []
        waiting.times = [each for each in waiting.times if each[0] != name]
        state.touch(waiting, *key)
    if is_fill:
        due.append((event["payload"]["side"] or order.side, at, fill_of(event["payload"])))
    return [
        Execution(
            ts_utc,
            0,
            side == "buy",
            compact(fill.price),
            compact(fill.quantity),
            [(asset, compact(amount)) for asset, amount in fill.fees if amount],
        )
        for side, ts_utc, fill in due
    ]


def _name(event: Mapping[str, Any]) -> str:
    """The event's order among those of its instance."""
    return SEPARATOR.join(order_key(event)[3:])


class _Change:
    """One event on its way into the figures."""

    def __init__(self, event: Mapping[str, Any], at: int, state: PartitionState) -> None:
        self.event, self.at, self.state = event, at, state
        self.findings: list[Finding] = []
        self.instance_key = instance_key(event)
        self.position_key = position_key(event)
        self.assets = Assets(*instruments.split(event["trading_pair"]))
        self.is_changed = False
        self._known_instance: Instance | None = None
        self._known_worth: Worth | None = None

    def count(self, opened: int) -> None:
        """Count an order that was opened, cancelled or refused."""
        kind = self.event["event_type"]
        counted = _COUNTED.get(kind)
        if not counted and not opened:
            return
        instance = self._instance()
        if counted:
            setattr(instance, counted, getattr(instance, counted) + 1)
            rates.count(instance.minute, clock.MINUTE, rates.KINDS[kind], self.at)
            rates.count(instance.hour, clock.HOUR, rates.KINDS[kind], self.at)
        instance.open_orders += opened
        self._touch(instance)

    def execute(self, execution: Execution) -> None:
        """Fold an execution into its position."""
        event_id = self.event["event_id"]
        if execution.quantity < 0:
            self.findings.append(finding("negative_quantity", OPENED, event_id))
            return
        before = self._worth()
        at = execution.ts_utc
        try:
            folded = history.fold(execution, self.position_key, self.assets, self.state)
        except FigureOutOfRange:
            self.findings.append(finding("figure_out_of_range", OPENED, event_id))
            return
        account = self._account(self.assets.quote)
        if not folded.position.number:
            account.positions += 1
            folded.position.number = account.positions
        account.connector = self.event["connector_name"]
        losses = trips.fold(folded, self._key(self.assets.quote), self.state)
        account.losses = account.losses if losses is None else losses
        if folded.is_late:
            self.findings.append(finding("late_fill", NOTED, order_id(self.event)))
        self._revalue(account, before, at)

    def mark(self, price: Decimal) -> None:
        """Note a price of the event's pair."""
        before = self._worth()
        taken = marks.take(price, self.at, self.position_key, self.state)
        self._known_worth = None
        if taken and before.open and self._worth() != before:
            self._revalue(self._account(self.assets.quote), before, self.at)

    def fund(self, asset: str, amount: Decimal) -> None:
        """Funding that was paid or received; on an account in that asset.

        Where that is not the quote of the event's pair, the figures are those of that account, and of no pair.
        """
        if asset != self.assets.quote:
            self.assets = Assets("", asset)
            self.position_key = (*self.position_key[:-1], "")
            self._known_worth = None
        account = self._account(asset)
        account.funding = add(account.funding, compact(amount))
        accounts.date_change(account, amount, self.at)
        self._write(account, asset)

    def take_note(self, told: equity.Told) -> None:
        """Equity and cooldown as the bot records them."""
        if told.cooldown_until is not None:
            instance = self._instance()
            instance.cooldown_until = told.cooldown_until
            self._touch(instance)
        if told.equity is None:
            return
        asset = self._equity_asset()
        account, members = self._account(asset), self._members(asset)
        if equity.record(account, told.equity, self.at, [member for _, member in members]):
            instance = self._instance()
            if instance.home is None:
                instance.home = asset
                self._touch(instance)
            for other, member in members:
                self._write(member, other)
            self._write(account, asset)

    def figures(self) -> Figures | None:
        """The figures now, None where the event changed none."""
        return self.now() if self.is_changed else None

    def now(self) -> Figures:
        """The figures now."""
        state, quote, instance = self.state, self.assets.quote, self._instance()
        standing = self._stand(quote)
        position = state.find(Position, *self.position_key) or Position()
        worth = self._worth()
        account = state.find(Account, *self._key(quote)) or Account()
        cost, is_marked = position.cost, not account.unmarked
        minute = rates.counts(instance.minute, clock.MINUTE, self.at)
        hour = rates.counts(instance.hour, clock.HOUR, self.at)
        return Figures(
            self.position_key[-1],
            cost.net_base,
            cost.cost_quote,
            average_cost(cost),
            cost.realised_quote,
            cost.fees,
            cost.last_price,
            cost.fills,
            instance.open_orders,
            instance.orders_created,
            instance.orders_cancelled,
            instance.orders_failed,
            quote,
            position.realised_fifo,
            worth.mark,
            None if worth.unmarked else sound(worth.unrealised),
            sound(account.realised),
            sound(account.fees),
            sound(account.funding),
            sound(account.unrealised) if is_marked else None,
            sound(account.gross) if is_marked else None,
            sound(account.net) if is_marked else None,
            accounts.concentration(account),
            _date(account.day or self.at // DAY),
            sound(accounts.daily_pnl(account)),
            sound(accounts.daily_pnl_pct(account)),
            account.losses,
            *standing,
            *minute,
            *hour,
            instance.cooldown_until,
        )

    def _instance(self) -> Instance:
        if self._known_instance is None:
            self._known_instance = self.state.get(Instance, *self.instance_key)
        return self._known_instance

    def _touch(self, instance: Instance) -> None:
        self.is_changed = True
        self.state.touch(instance, *self.instance_key)

    def _key(self, asset: str) -> accounts.Key:
        return (*self.instance_key, asset)

    def _account(self, asset: str) -> Account:
        """The account in ``asset``, on the day of the event; a new one is made known to its instance."""
        key = self._key(asset)
        account = self.state.find(Account, *key)
        if account is None:
            account = self._new_account(asset)
        if self.at // DAY > account.day:
            before, _ = equity.now(account, self._members(asset), key, self.state)
            equity.begin_day(account, self.at, before)
            self.state.touch(account, *key)
        return account

    def _new_account(self, asset: str) -> Account:
        """A new account; equity that was recorded before any quote asset was known becomes its own."""
        instance = self._instance()
        nameless = self.state.find(Account, *self._key("")) if instance.quotes == [""] else None
        if nameless is not None and not nameless.positions:
            self.state.forget(Account, *self._key(""))
            instance.quotes, instance.home = [asset], asset
            account = nameless
        else:
            account = Account()
            if len(instance.quotes) < QUOTES:
                instance.quotes = [*instance.quotes, asset]
            else:
                self._tell_apart(account, asset, instance.home or instance.quotes[0])
        self.state.touch(account, *self._key(asset))
        self._touch(instance)
        return account

    def _write(self, account: Account, asset: str) -> None:
        self.is_changed = True
        self.state.touch(account, *self._key(asset))

    def _worth(self) -> Worth:
        """What the position of the event's pair adds to its account now."""
        if self._known_worth is None:
            position = self.state.find(Position, *self.position_key)
            mark = marks.current(position, self.state.find(Mark, *self.position_key))
            self._known_worth = accounts.worth(position, mark, self.assets.quote)
        return self._known_worth

    def _revalue(self, account: Account, before: Worth, at: int) -> None:
        """The event's position is worth something else than ``before``, through something that happened at ``at``."""
        self._known_worth = None
        after, key = self._worth(), self._key(self.assets.quote)
        accounts.date_change(account, accounts.revalue(account, before, after), at)
        name = SEPARATOR.join(self.position_key[3:])
        accounts.note_exposure(account, name, before, after, key=key, state=self.state)
        self._write(account, self.assets.quote)

    def _equity_asset(self) -> str:
        """The quote asset of a recorded equity: that of the event's pair, else the instance's own."""
        instance = self._instance()
        if self.assets.quote:
            return self.assets.quote
        return instance.home or (instance.quotes[0] if instance.quotes else "")

    def _members(self, asset: str) -> list[tuple[str, Account]]:
        """Accounts whose P&L counts in the equity in ``asset``: those without one, in that of the first."""
        instance = self._instance()
        if len(instance.quotes) < 2 or (instance.home is not None and instance.home != asset):
            return []
        others = [(other, self.state.get(Account, *self._key(other))) for other in instance.quotes if other != asset]
        return [(other, account) for other, account in others if account.recorded is None]

    def _stand(self, quote: str) -> Standing:
        """The equity that counts for ``quote``: in that asset, else the instance's first."""
        home = self._instance().home
        if home is None:
            return equity.NO_STANDING
        own = self.state.find(Account, *self._key(quote))
        asset = quote if own is not None and own.recorded is not None else home
        key = self._key(asset)
        account = self.state.get(Account, *key)
        value, unconverted = equity.now(account, self._members(asset), key, self.state)
        if unconverted:
            apart = self.state.get(Account, *self._key(unconverted))
            if not apart.is_apart:
                self._tell_apart(apart, unconverted, asset)
                self.state.touch(apart, *self._key(unconverted))
        peak = account.peak
        standing = equity.stand(account, asset, value)
        if account.peak != peak:
            self.state.touch(account, *key)
        return standing

    def _tell_apart(self, account: Account, asset: str, home: str) -> None:
        """``account`` does not count in the equity in ``home``: told once."""
        account.is_apart = True
        noted = finding("no_conversion", NOTED, self.event["instance_name"], detail(asset=asset, into=home))
        self.findings.append(noted)


@lru_cache(maxsize=64)
def _date(day: int) -> str:
    return times.text(day * DAY)[: len("YYYY-MM-DD")]
