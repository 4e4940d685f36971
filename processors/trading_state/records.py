"""What is kept of an instance's TradingState (S2-03).

Every record is small and of one concern, so that an event writes only what it changed. Money is in quote, quantities in
base, prices in quote per base, times in microseconds.

No text is longer than MOST_CHARACTERS: a bot may write megabytes, and the whole state must fit into one record. What
only describes is cut there; an order, a position or a symbol whose name is longer is left out, and that is told.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from tradetape.processors.money import ZERO
from tradetape.processors.shelf import Entry
from tradetape.processors.state import Record

MOST_POSITIONS = 256
MOST_ORDERS = 256
MOST_FLAGS = 256
"""Of more, the oldest is no longer shown."""
MOST_SYMBOLS = 1_000
"""Symbols of a universe; the first ones are kept."""
MOST_CHARACTERS = 200
"""Of a text, names included."""
MOST_COUNTED = 16
"""Closings that are known again when the bot's ledger has them twice."""


class Settings(Record):
    """What the bot was given, none of which its other events tell; None is not told."""

    KEY: ClassVar[str] = "TC"

    initial_equity: Decimal | None = None
    max_consecutive_losses: int | None = None
    cooldown_seconds: int | None = None
    news_risk_seconds: int | None = None


class Sequence(Record):
    """The highest number of the bot's events; on its own, because every event changes it."""

    KEY: ClassVar[str] = "TQ"

    last: int | None = None


class Standing(Record):
    """Results and switches. ``realised`` and its highest, ``realised_peak``, are sums since the first event.

    ``day`` is that of the latest event, counted from 1970; results of an earlier one are not today's. ``counted`` are
    digests of the latest closings.
    """

    KEY: ClassVar[str] = "TA"

    realised: Decimal = ZERO
    realised_peak: Decimal = ZERO
    day: int = 0
    realised_today: Decimal = ZERO
    losses_today: Decimal = ZERO
    consecutive_losses: int = 0
    cooldown_until: int | None = None
    circuit_breaker_active: bool = False
    requires_manual_review: bool = False
    last_reconciliation: int | None = None
    counted: list[bytes] = []


class Universe(Record):
    """Symbols that the bot looks at, as it calls them."""

    KEY: ClassVar[str] = "TU"

    symbols: list[str] = []


class HeldPosition(Entry):
    """An open position, by its id, else by its pair. ``trading_pair`` is cut."""

    KEY: ClassVar[str] = "TP"

    trading_pair: str = ""
    position_id: str | None = None
    side: str = ""
    quantity: Decimal = ZERO
    entry_price: Decimal = ZERO
    leverage: Decimal | None = None
    stop_loss_price: Decimal | None = None
    take_profit_price: Decimal | None = None


class OpenOrder(Entry):
    """An order that was sent and has not ended, by client_order_id. ``trading_pair`` is cut."""

    KEY: ClassVar[str] = "TO"

    trading_pair: str = ""
    side: str = ""
    order_type: str = ""
    price: Decimal | None = None
    stop_price: Decimal | None = None
    amount_base: Decimal = ZERO
    filled_base: Decimal = ZERO
    purpose: str | None = None


class NewsRisk(Entry):
    """The latest judgement of news about a pair; of the whole market where the pair is empty.

    ``risk_level`` and ``reason`` are the bot's own words, cut.
    """

    KEY: ClassVar[str] = "TN"

    risk_level: str = ""
    reason: str | None = None
    confidence: Decimal | None = None
    until: int | None = None
