"""The fold of a bot's events into its TradingState (S2-03, S2-04).

Followed is every instance whose events come from Trend, its ledger or its bus, and every other one whose configuration
is on record. A handler takes what its event has, defaults for what it lacks; what it cannot make sense of changes
nothing and is told. An event that is applied twice in a row changes nothing the second time (S1-11).

Where the document gives a field and no rule for it:

- equity is what the configuration began with plus the results that closings report; fees and funding are in it as far
  as the bot puts them into its results. Of several configurations the last one holds for the whole record.
- today is the UTC date of the latest event; an event whose clock runs ahead of the broker's begins no day.
- daily_loss is the sum of today's losses, gains not counted in. A result of 0 is no loss, and ends a row of losses.
- every loss at or beyond max_consecutive_losses in a row makes cooldown_until its own time plus cooldown_seconds. It
  stays as it is when it is over, or when the row ends.
- a review's acknowledgement also ends the circuit breaker: no other event of the document can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from tradetape.processors import shelf
from tradetape.processors.clock import DAY, SECOND, TOLERANCE
from tradetape.processors.money import ZERO
from tradetape.processors.reading import RawRecord
from tradetape.processors.risk import instance_key
from tradetape.processors.state import PartitionState
from tradetape.processors.trading_state.records import (
    MOST_CHARACTERS,
    MOST_COUNTED,
    MOST_FLAGS,
    MOST_ORDERS,
    MOST_POSITIONS,
    MOST_SYMBOLS,
    HeldPosition,
    NewsRisk,
    OpenOrder,
    Sequence,
    Settings,
    Standing,
    Universe,
)
from tradetape.schemas import numbers, times
from tradetape.schemas.numbers import WIDE

SYSTEM = "trend"
CONFIGURATION = "configuration_recorded"

_PARTS = {
    **dict.fromkeys(("quantity", "qty", "size", "amount"), "quantity"),
    **dict.fromkeys(("entry", "entry_price"), "entry_price"),
    **dict.fromkeys(("stop", "stop_price", "stop_loss", "stop_loss_price"), "stop_loss_price"),
    **dict.fromkeys(("target", "target_price", "take_profit", "take_profit_price"), "take_profit_price"),
    "leverage": "leverage",
}
"""What a bot may call a number of its position → what it is called here."""


class Changes(NamedTuple):
    """Fields of the TradingState that an event changed, and what it said that makes no sense; empty if nothing."""

    fields: tuple[str, ...]
    unexpected: str = ""


@dataclass(slots=True)
class _Folding:
    """One event on its way into the state of its instance, ``owner``."""

    state: PartitionState
    owner: tuple[str, str, str]
    event: Mapping[str, Any]
    standing: Standing
    fields: list[str] = field(default_factory=list)
    unexpected: str = ""

    @property
    def payload(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.event["payload"]
        return found

    @property
    def now(self) -> int:
        found: int = self.event["ts_utc"]
        return found

    @property
    def position(self) -> str:
        """The name of the position that the event is about."""
        found: str = self.payload["position_id"] or self.event["trading_pair"]
        return found

    def settings(self) -> Settings:
        return self.state.get(Settings, *self.owner)

    def note(self, unexpected: str) -> None:
        self.unexpected = unexpected[:200]

    def is_too_long(self, name: str) -> bool:
        """Whether nothing can be kept under ``name``, which is noted."""
        if len(name) > MOST_CHARACTERS:
            self.note(f"a name of {len(name)} characters: {name}")
        return len(name) > MOST_CHARACTERS


def observe(raw: RawRecord, event: Mapping[str, Any], state: PartitionState) -> Changes | None:
    """Fold an accepted ``event`` that is no repeat; None where it changed nothing. Never raises."""
    owner = instance_key(event)
    if not _is_followed(event, owner, state):
        return None
    folding = _Folding(state, owner, event, state.get(Standing, *owner))
    _begin_day(folding, raw.timestamp)
    handler = _HANDLERS.get(event["event_type"])
    if handler is not None:
        handler(folding)
    _count(folding)
    if not folding.fields and not folding.unexpected:
        return None
    return Changes(tuple(dict.fromkeys(folding.fields)), folding.unexpected)


def _is_followed(event: Mapping[str, Any], owner: tuple[str, str, str], state: PartitionState) -> bool:
    if _is_trend(event) or event["event_type"] == CONFIGURATION:
        return True
    return state.find(Settings, *owner) is not None


def _is_trend(event: Mapping[str, Any]) -> bool:
    """Of Trend's ledger, or of a bus like Trend's."""
    return event["source_system"] == SYSTEM or (event["adapter"] or "").startswith(f"{SYSTEM}@")


def _count(folding: _Folding) -> None:
    number, sequence = folding.event["sequence"], folding.state.get(Sequence, *folding.owner)
    if number is not None and (sequence.last is None or number > sequence.last):
        sequence.last = number
        folding.state.touch(sequence, *folding.owner)
        folding.fields.append("last_event_sequence")


def _begin_day(folding: _Folding, timestamp: int) -> None:
    standing, day = folding.standing, folding.now // DAY
    if day <= standing.day or folding.now > timestamp + TOLERANCE:
        return
    if standing.realised_today:
        folding.fields.append("realized_pnl_today")
    if standing.losses_today:
        folding.fields.append("daily_loss")
    standing.day, standing.realised_today, standing.losses_today = day, ZERO, ZERO
    _touch(folding)


def _touch(folding: _Folding) -> None:
    folding.state.touch(folding.standing, *folding.owner)


def _configuration(folding: _Folding) -> None:
    settings = folding.settings()
    before = settings.initial_equity
    for name in ("initial_equity", "max_consecutive_losses", "cooldown_seconds", "news_risk_seconds"):
        value = folding.payload[name]
        if value is not None:
            setattr(settings, name, value)
    folding.state.touch(settings, *folding.owner)
    if settings.initial_equity != before:
        folding.fields += ["equity", "peak_equity"]


def _position_opened(folding: _Folding) -> None:
    payload, name = folding.payload, folding.position
    if not name:
        folding.note("a position without id and pair")
        return
    if folding.is_too_long(name):
        return
    held = HeldPosition(
        since=folding.now,
        trading_pair=folding.event["trading_pair"][:MOST_CHARACTERS],
        position_id=payload["position_id"],
        side=payload["side"],
        quantity=payload["quantity"],
        entry_price=payload["entry_price"],
        leverage=payload["leverage"],
        stop_loss_price=payload["stop_loss_price"],
        take_profit_price=payload["take_profit_price"],
    )
    gone = shelf.put(folding.state, held, name, *folding.owner, most=MOST_POSITIONS)
    folding.fields.append("positions")
    if gone:
        folding.note(f"more than {MOST_POSITIONS} open positions: {gone} is left out")


def _position_changed(folding: _Folding) -> None:
    name = _PARTS.get(folding.payload["field"].casefold())
    text = (folding.payload["new_value"] or "").strip().strip('"')
    if name is None or not text:
        return
    try:
        value = numbers.read(text)[0]
    except numbers.NumberError:
        folding.note(f"{folding.payload['field']} became {text}, which is no number")
        return
    _set(folding, name, value)


def _stop_modified(folding: _Folding) -> None:
    if folding.payload["new_stop"] is not None:
        _set(folding, "stop_loss_price", folding.payload["new_stop"])


def _take_profit_modified(folding: _Folding) -> None:
    if folding.payload["new_take_profit"] is not None:
        _set(folding, "take_profit_price", folding.payload["new_take_profit"])


def _set(folding: _Folding, name: str, value: Decimal) -> None:
    held = folding.state.find(HeldPosition, *folding.owner, folding.position)
    if held is None:
        folding.note(f"no open position {folding.position}")
    elif getattr(held, name) != value:
        setattr(held, name, value)
        folding.state.touch(held, *folding.owner, folding.position)
        folding.fields.append("positions")


def _position_closed(folding: _Folding) -> None:
    if shelf.take(folding.state, HeldPosition, folding.position, *folding.owner) is None:
        folding.note(f"no open position {folding.position}")
    else:
        folding.fields.append("positions")
    result: Decimal | None = folding.payload["realized_pnl"]
    digest = blake2b(folding.event["event_id"].encode(), digest_size=8).digest()
    standing = folding.standing
    if result is None or digest in standing.counted:
        return
    standing.counted = [*standing.counted[-MOST_COUNTED + 1 :], digest]
    standing.realised = WIDE.add(standing.realised, result)
    standing.realised_peak = max(standing.realised_peak, standing.realised)
    folding.fields += ["equity", "peak_equity"]
    if folding.now // DAY == standing.day:
        standing.realised_today = WIDE.add(standing.realised_today, result)
        folding.fields.append("realized_pnl_today")
    if result < 0:
        _lose(folding, result)
    elif standing.consecutive_losses:
        standing.consecutive_losses = 0
        folding.fields.append("consecutive_losses")
    _touch(folding)


def _lose(folding: _Folding, result: Decimal) -> None:
    standing, settings = folding.standing, folding.settings()
    if folding.now // DAY == standing.day:
        standing.losses_today = WIDE.subtract(standing.losses_today, result)
        folding.fields.append("daily_loss")
    standing.consecutive_losses += 1
    folding.fields.append("consecutive_losses")
    most, seconds = settings.max_consecutive_losses, settings.cooldown_seconds
    if most is not None and seconds is not None and standing.consecutive_losses >= most:
        standing.cooldown_until = _after(folding.now, seconds)
        folding.fields.append("cooldown_until")


def _after(moment: int, seconds: int) -> int:
    """``seconds`` after ``moment``, within the times of the contract."""
    return min(moment + max(seconds, 0) * SECOND, times.LATEST - 1)


def _order_created(folding: _Folding) -> None:
    payload = folding.payload
    if folding.is_too_long(payload["client_order_id"]):
        return
    order = OpenOrder(
        since=folding.now,
        trading_pair=folding.event["trading_pair"][:MOST_CHARACTERS],
        side=payload["side"],
        order_type=payload["order_type"],
        price=payload["price"],
        stop_price=payload["stop_price"],
        amount_base=payload["amount_base"],
        purpose=payload["purpose"],
    )
    gone = shelf.put(folding.state, order, payload["client_order_id"], *folding.owner, most=MOST_ORDERS)
    folding.fields.append("open_orders")
    if gone:
        folding.note(f"more than {MOST_ORDERS} open orders: {gone} is left out")


def _order_filled(folding: _Folding) -> None:
    """Trend says ORDER_FILLED of an order that is filled, others of every execution."""
    name, payload = folding.payload["client_order_id"], folding.payload
    order = folding.state.find(OpenOrder, *folding.owner, name)
    if order is None:
        folding.note(f"no open order {name}")
        return
    filled = WIDE.add(order.filled_base, payload["fill_qty_base"])
    if _is_trend(folding.event) or filled >= order.amount_base:
        _order_ended(folding)
    else:
        _progress(folding, order, filled)


def _order_partially_filled(folding: _Folding) -> None:
    """What Trend reports of an order on its way; it names the order only where the bot adds its id."""
    name, filled = folding.payload["client_order_id"], folding.payload["filled_qty_base"]
    if not name or filled is None or not _is_trend(folding.event):
        return
    order = folding.state.find(OpenOrder, *folding.owner, name)
    if order is None:
        folding.note(f"no open order {name}")
    elif filled != order.filled_base:
        _progress(folding, order, filled)


def _progress(folding: _Folding, order: OpenOrder, filled: Decimal) -> None:
    order.filled_base = filled
    folding.state.touch(order, *folding.owner, folding.payload["client_order_id"])
    folding.fields.append("open_orders")


def _order_ended(folding: _Folding) -> None:
    name = folding.payload["client_order_id"]
    if not name:
        return
    if shelf.take(folding.state, OpenOrder, name, *folding.owner) is None:
        folding.note(f"no open order {name}")
    else:
        folding.fields.append("open_orders")


def _order_completed(folding: _Folding) -> None:
    """It follows the last execution, which ended the order already."""
    if shelf.take(folding.state, OpenOrder, folding.payload["client_order_id"], *folding.owner) is not None:
        folding.fields.append("open_orders")


def _news_classified(folding: _Folding) -> None:
    payload, seconds = folding.payload, folding.settings().news_risk_seconds
    if folding.is_too_long(folding.event["trading_pair"]):
        return
    flag = NewsRisk(
        since=folding.now,
        risk_level=payload["risk_level"][:MOST_CHARACTERS],
        reason=payload["reason"] and payload["reason"][:MOST_CHARACTERS],
        confidence=payload["confidence"],
        until=None if seconds is None else _after(folding.now, seconds),
    )
    shelf.put(folding.state, flag, folding.event["trading_pair"], *folding.owner, most=MOST_FLAGS)
    folding.fields.append("news_risk_flags")


def _universe_updated(folding: _Folding) -> None:
    named = dict.fromkeys(folding.payload["symbols"])
    symbols = [symbol for symbol in named if not folding.is_too_long(symbol)]
    if len(symbols) > MOST_SYMBOLS:
        folding.note(f"a universe of {len(symbols)} symbols: the first {MOST_SYMBOLS} are kept")
    _look_at(folding, symbols[:MOST_SYMBOLS])


def _symbol_filtered(folding: _Folding) -> None:
    gone = folding.payload["symbol"]
    symbols = folding.state.get(Universe, *folding.owner).symbols
    _look_at(folding, [symbol for symbol in symbols if symbol != gone])


def _look_at(folding: _Folding, symbols: list[str]) -> None:
    if symbols != folding.state.get(Universe, *folding.owner).symbols:
        folding.state.touch(Universe(symbols), *folding.owner)
        folding.fields.append("universe")


def _breaker_triggered(folding: _Folding) -> None:
    _switch(folding, "circuit_breaker_active", True)


def _breaker_reset(folding: _Folding) -> None:
    _switch(folding, "circuit_breaker_active", False)


def _review_required(folding: _Folding) -> None:
    _switch(folding, "requires_manual_review", True)


def _review_acknowledged(folding: _Folding) -> None:
    _switch(folding, "requires_manual_review", False)
    _switch(folding, "circuit_breaker_active", False)


def _reconciled(folding: _Folding) -> None:
    _switch(folding, "last_reconciliation", folding.now)


def _switch(folding: _Folding, name: str, value: object) -> None:
    if getattr(folding.standing, name) != value:
        setattr(folding.standing, name, value)
        _touch(folding)
        folding.fields.append(name)


_HANDLERS: Mapping[str, Callable[[_Folding], None]] = {
    CONFIGURATION: _configuration,
    "position_opened": _position_opened,
    "position_changed": _position_changed,
    "stop_modified": _stop_modified,
    "take_profit_modified": _take_profit_modified,
    "position_closed": _position_closed,
    "order_created": _order_created,
    "order_filled": _order_filled,
    "order_partially_filled": _order_partially_filled,
    "order_cancelled": _order_ended,
    "order_expired": _order_ended,
    "order_failed": _order_ended,
    "order_completed": _order_completed,
    "news_classified": _news_classified,
    "universe_updated": _universe_updated,
    "symbol_filtered": _symbol_filtered,
    "circuit_breaker_triggered": _breaker_triggered,
    "circuit_breaker_reset": _breaker_reset,
    "manual_intervention_required": _review_required,
    "manual_review_acknowledged": _review_acknowledged,
    "reconciliation_completed": _reconciled,
}
