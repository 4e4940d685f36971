"""Shadow-execution parity: the orders of a live instance against those of its paper twin, one by one (S3-11). Pure.

Orders belong together where they have an id in common (signal, request, the bot's own order id), else where pair and
side are the same and the times lie within the tolerance: the nearest first, of those the nearest in price and amount.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from tradetape.schemas import times
from tradetape.schemas.numbers import QUANTUM, WIDE, text
from tradetape.sinks.reconciliation.differences import Difference, Values, shown

ONLY_LIVE, ONLY_PAPER, DIFFERS, SLIPPED = "only_live", "only_paper", "differs", "slipped"

BPS = Decimal(10_000)
_IDS = ("signal_id", "request_id", "order_id")


class Order(NamedTuple):
    """One order: what was asked (``asked`` is microseconds), what was executed, and how it ended (an event type)."""

    order_id: str
    trading_pair: str
    side: str
    asked: int
    order_type: str = ""
    price: Decimal | None = None
    amount: Decimal | None = None
    filled: Decimal = Decimal(0)
    filled_quote: Decimal = Decimal(0)
    outcome: str = ""
    signal_id: str = ""
    request_id: str = ""

    @property
    def fill_price(self) -> Decimal | None:
        """The mean price of what was executed."""
        return WIDE.divide(self.filled_quote, self.filled).quantize(QUANTUM, context=WIDE) if self.filled else None


class Tolerance(NamedTuple):
    """What is still the same. ``seconds`` between two orders without a common id; ``price_bps`` between limit prices,
    ``amount_pct`` between amounts and executed amounts; ``slippage_bps`` None judges no slippage.
    """

    seconds: Decimal = Decimal(5)
    price_bps: Decimal = Decimal(0)
    amount_pct: Decimal = Decimal(0)
    slippage_bps: Decimal | None = None


class Pair(NamedTuple):
    """Two orders that belong together: by which id, or ``time``. ``slippage_bps`` is what live paid more (bought) or
    got less (sold) than paper, of paper's mean price; None where one of them executed nothing.
    """

    live: Order
    paper: Order
    by: str
    slippage_bps: Decimal | None


@dataclass(slots=True)
class Parity:
    """What became of the orders of both."""

    pairs: list[Pair] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)


def order_of(row: Mapping[str, Any]) -> Order:
    """A row of the query ``orders``."""
    return Order(
        order_id=row["order_id"],
        trading_pair=row["trading_pair"],
        side=row["side"],
        asked=int(row["asked_ts_micros"]),
        order_type=row["order_type"],
        price=Decimal(row["price"]) if row["price"] else None,
        amount=Decimal(row["amount_base"]) if row["amount_base"] else None,
        filled=Decimal(row["filled_base"]),
        filled_quote=Decimal(row["filled_quote"]),
        outcome=row["ended"] or ("order_filled" if int(row["fills"]) else "open"),
        signal_id=row["signal_id"],
        request_id=row["request_id"],
    )


def compare(subject: str, live: Sequence[Order], paper: Sequence[Order], tolerance: Tolerance) -> Parity:
    """Pair the orders of both and compare each pair; ``subject`` names the two instances."""
    parity = Parity()
    left_live, left_paper = list(live), list(paper)
    for by in _IDS:
        parity.pairs += _by_id(by, left_live, left_paper)
    parity.pairs += _by_time(left_live, left_paper, tolerance)
    parity.pairs.sort(key=lambda pair: (pair.live.asked, pair.live.order_id))
    for pair in parity.pairs:
        parity.differences += _differences(subject, pair, tolerance)
    parity.differences += [_alone(ONLY_LIVE, subject, order) for order in left_live]
    parity.differences += [_alone(ONLY_PAPER, subject, order) for order in left_paper]
    return parity


def _by_id(by: str, live: list[Order], paper: list[Order]) -> Iterator[Pair]:
    """Pairs with the same id of that kind, pair and side, in the order in which they were asked; they are taken out."""
    waiting: dict[tuple[str, str, str], list[Order]] = defaultdict(list)
    for order in sorted(paper, key=_asked):
        waiting[getattr(order, by), order.trading_pair, order.side].append(order)
    for order in sorted(live, key=_asked):
        named = getattr(order, by)
        others = waiting[named, order.trading_pair, order.side] if named else []
        if others:
            yield _taken(order, others.pop(0), by, live, paper)


def _by_time(live: list[Order], paper: list[Order], tolerance: Tolerance) -> Iterator[Pair]:
    """Pairs within the tolerance, the nearest first; they are taken out."""
    allowed = int(tolerance.seconds * 1_000_000)
    near: list[tuple[tuple[Any, ...], Order, Order]] = []
    by_kind: dict[tuple[str, str], list[Order]] = defaultdict(list)
    for order in sorted(paper, key=_asked):
        by_kind[order.trading_pair, order.side].append(order)
    for order in live:
        for other in by_kind[order.trading_pair, order.side]:
            apart = abs(order.asked - other.asked)
            if apart <= allowed:
                rank = (apart, _apart(order.price, other.price), _apart(order.amount, other.amount))
                near.append(((*rank, order.order_id, other.order_id), order, other))
    taken: set[tuple[str, str]] = set()
    for _, order, other in sorted(near, key=lambda each: each[0]):
        if taken.isdisjoint({("live", order.order_id), ("paper", other.order_id)}):
            taken |= {("live", order.order_id), ("paper", other.order_id)}
            yield _taken(order, other, "time", live, paper)


def _taken(order: Order, other: Order, by: str, live: list[Order], paper: list[Order]) -> Pair:
    live.remove(order)
    paper.remove(other)
    return Pair(order, other, by, _slippage(order, other))


def _slippage(live: Order, paper: Order) -> Decimal | None:
    got, wanted = live.fill_price, paper.fill_price
    if got is None or not wanted:
        return None
    worse = WIDE.subtract(got, wanted) if live.side == "buy" else WIDE.subtract(wanted, got)
    return WIDE.divide(WIDE.multiply(worse, BPS), wanted).quantize(QUANTUM, context=WIDE)


def _differences(subject: str, pair: Pair, tolerance: Tolerance) -> Iterator[Difference]:
    live, paper = pair.live, pair.paper
    price = tolerance.price_bps / BPS
    amount = tolerance.amount_pct / 100
    values: list[tuple[str, str | None, str | None]] = []
    for name, one, other, allowed in (
        ("price", live.price, paper.price, price),
        ("amount", live.amount, paper.amount, amount),
        ("filled", live.filled, paper.filled, amount),
    ):
        if _is_beyond(one, other, allowed):
            values.append((name, shown(one), shown(other)))
    for name, said, other_said in (
        ("order_type", live.order_type, paper.order_type),
        ("outcome", live.outcome, paper.outcome),
    ):
        if said != other_said:
            values.append((name, said, other_said))
    item = f"{live.order_id} {paper.order_id}"
    if values:
        yield _difference(DIFFERS, subject, item, pair, tuple(values))
    if None not in (tolerance.slippage_bps, pair.slippage_bps) and pair.slippage_bps > tolerance.slippage_bps:  # type: ignore[operator]
        prices = shown(live.fill_price), shown(paper.fill_price)
        yield _difference(SLIPPED, subject, item, pair, (("fill_price", *prices),))


def _difference(kind: str, subject: str, item: str, pair: Pair, values: Values) -> Difference:
    return Difference(
        kind,
        subject,
        item,
        label=f"{pair.live.trading_pair} {pair.live.side}",
        native_place=_place(pair.live),
        stored_place=_place(pair.paper),
        values=values,
    )


def _alone(kind: str, subject: str, order: Order) -> Difference:
    is_live = kind == ONLY_LIVE
    sides = (_terms(order), None) if is_live else (None, _terms(order))
    return Difference(
        kind,
        subject,
        order.order_id,
        label=f"{order.trading_pair} {order.side}",
        native_place=_place(order) if is_live else "",
        stored_place="" if is_live else _place(order),
        values=(("order", *sides),),
    )


def _terms(order: Order) -> str:
    filled = f", {text(order.filled)} filled" if order.filled else ""
    return f"{shown(order.amount) or '?'} at {shown(order.price) or 'market'}{filled}, {order.outcome}"


def _place(order: Order) -> str:
    return f"{order.order_id} {times.text(order.asked)}"


def _is_beyond(one: Decimal | None, other: Decimal | None, allowed: Decimal) -> bool:
    if one is None or other is None:
        return one is not other
    return abs(WIDE.subtract(one, other)) > WIDE.multiply(allowed, max(abs(one), abs(other)))


def _apart(one: Decimal | None, other: Decimal | None) -> Decimal:
    return abs(WIDE.subtract(one or Decimal(0), other or Decimal(0)))


def _asked(order: Order) -> tuple[int, str]:
    return order.asked, order.order_id


def orders_of(rows: Iterable[Mapping[str, Any]]) -> list[Order]:
    """All rows of the query ``orders``."""
    return [order_of(row) for row in rows]
