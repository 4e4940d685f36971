"""What names a Hummingbot row: its database, its bot, its ids and its bytes (see ``hummingbot``)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from tradetape.producers.adapters.hummingbot_values import Row
from tradetape.schemas import identity

_ENDING = re.compile(r"\.(yml|yaml|py)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Database:
    """What holds for every row of one database.

    ``scaled`` has the (table, column) pairs whose integers stand for value × 10^6. ``only`` stands in for an order
    that neither Order nor TradeFill knows: the config, market and symbol of a database that has one of each.
    """

    source_id: str
    location: str
    scaled: frozenset[tuple[str, str]] = frozenset()
    only: Row = field(default_factory=dict)


def instance_of(config_file_path: object) -> str:
    """The instance that a config file stands for: its name without folder and ending."""
    if not isinstance(config_file_path, str):
        return ""
    return _ENDING.sub("", config_file_path.replace("\\", "/").rpartition("/")[2])


def order_event_id(database: Database, order_id: object) -> str:
    """The id of an order's first Created event, which is the correlation id of all its events."""
    return _order_event_id(database.source_id, key(order_id))


@lru_cache(maxsize=4096)
def _order_event_id(source_id: str, order_id: str) -> str:
    return identity.derive(source_id, "Order", order_id)


def fill_event_id(database: Database, fill: Row, rowid: int, copy: int = 1) -> str:
    """The id of a TradeFill row's event. ``copy`` counts rows of the same exchange_trade_id, from 1."""
    trade_id = fill.get("exchange_trade_id")
    trade = ("rowid", str(rowid)) if trade_id in (None, "") else (key(trade_id),)
    again = () if copy == 1 or trade_id in (None, "") else (str(copy),)
    market, order_id = key(fill.get("market")), key(fill.get("order_id"))
    return identity.derive(database.source_id, "TradeFill", market, order_id, *trade, *again)


def snapshot_event_id(database: Database, order: Row) -> str:
    """The id of the snapshot of an order that has no Created status."""
    return identity.derive(database.source_id, "OrderSnapshot", key(order.get("id")))


def is_utf8(text: str) -> bool:
    """Whether ``text`` came from valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def key(value: object) -> str:
    """Any native value as text that ids are derived from."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else str(value)
