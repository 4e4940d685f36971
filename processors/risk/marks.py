"""The last price of each pair, as the instance's own stream records it (P-02).

A price of zero or below is no mark. One that lies FAR from the last is held back until the next agrees with it: one bad
tick moves no figure. Of two marks the later counts, by the time of their events; executions are marks too, and stand
in their position.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from tradetape.processors.money import ZERO, compact, divide, multiply
from tradetape.processors.risk.history import Position
from tradetape.processors.state import PartitionState, Record

FAR = Decimal(3)
"""A mark of more than three times the last, or less than a third of it, needs a second one."""

_PRICES = {
    "market_price": "price",
    "market_candle": "close",
    "market_funding": "mark_price",
    "position_priced": "new_price",
    "position_state": "current_price",
    "position_checked": "current_price",
}


class Mark(Record):
    """A price in quote per base and its time; ``doubted`` is one that waits for a second."""

    KEY: ClassVar[str] = "xm"

    price: Decimal = ZERO
    ts_utc: int = 0
    doubted: Decimal = ZERO


def told(event: Mapping[str, Any]) -> Decimal | None:
    """The price of the event's pair that ``event`` tells, executions aside."""
    payload = event["payload"]
    name = _PRICES.get(event["event_type"])
    price: Decimal | None = payload[name] if name is not None else None
    if price is None:
        market = (payload.get("context") or {}).get("market") or {}
        price = market.get("price")
    return price if price is not None and price > 0 and event["trading_pair"] else None


def take(price: Decimal, at: int, key: tuple[str, ...], state: PartitionState) -> bool:
    """Note ``price`` (> 0) of the pair at ``key``; False where a later one is known, or it waits for a second."""
    mark = state.get(Mark, *key)
    if at < mark.ts_utc:
        return False
    price = compact(price)
    last = current(state.find(Position, *key), mark)
    if last is not None and not _is_near(price, last) and not (mark.doubted and _is_near(price, mark.doubted)):
        mark.doubted = price
        state.touch(mark, *key)
        return False
    mark.price, mark.ts_utc, mark.doubted = price, at, ZERO
    state.touch(mark, *key)
    return True


def current(position: Position | None, mark: Mark | None) -> Decimal | None:
    """The later of the last mark and the last execution; None where neither has a price."""
    executed = position.cost.last_price if position is not None else ZERO
    if mark is not None and mark.price and (position is None or executed <= 0 or mark.ts_utc > position.last_ts):
        return mark.price
    return executed if executed > 0 else None


def of(key: tuple[str, ...], state: PartitionState) -> Decimal | None:
    """The mark of the pair at ``key``."""
    return current(state.find(Position, *key), state.find(Mark, *key))


def rate(sold: str, bought: str, key: tuple[str, ...], state: PartitionState) -> Decimal | None:
    """How much of ``bought`` one ``sold`` is worth, by a recorded mark of that pair or of its inverse.

    ``key`` is environment, account, instance and connector.
    """
    direct = of((*key, f"{sold}-{bought}"), state)
    if direct is not None:
        return direct
    inverse = of((*key, f"{bought}-{sold}"), state)
    return divide(Decimal(1), inverse) if inverse is not None else None


def _is_near(price: Decimal, other: Decimal) -> bool:
    return multiply(other, FAR) >= price and multiply(price, FAR) >= other
