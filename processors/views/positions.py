"""A position as its executions and marks stand (P-02, S1-06)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tradetape.processors.risk import accounts, marks
from tradetape.processors.risk.history import Position
from tradetape.processors.risk.lots import Lot, Lots
from tradetape.processors.risk.marks import Mark
from tradetape.processors.risk.positions import average_cost
from tradetape.processors.views.look import Look
from tradetape.schemas import instruments

KEY = ("environment", "account", "instance_name", "connector_name", "trading_pair")


def keys(look: Look, owner: tuple[str, str, str], trading_pair: str = "") -> Iterator[tuple[str, ...]]:
    """The positions of the instance ``owner``; only those in ``trading_pair`` where one is given."""
    for key in look.names(Position, *owner):
        if trading_pair in ("", key[-1]):
            yield key


def position(look: Look, key: tuple[str, ...]) -> dict[str, Any] | None:
    """The position at ``key`` (fields of KEY): quantities in base, money in quote; None where there was none.

    ``lots`` are what is held first in, first out, oldest first.
    """
    state = look.state
    found, mark = state.find(Position, *key), state.find(Mark, *key)
    if found is None:
        return None
    cost, price = found.cost, marks.current(found, mark)
    worth = accounts.worth(found, price, instruments.split(key[-1])[1])
    held = Lots(found.first_lot, found.lot_count, lambda slot: state.get(Lot, *key, str(slot)))
    return {
        **dict(zip(KEY, key, strict=True)),
        "net_base": cost.net_base,
        "cost_quote": cost.cost_quote,
        "avg_cost": average_cost(cost),
        "realised_quote": cost.realised_quote,
        "realised_fifo_quote": found.realised_fifo,
        "fees": dict(cost.fees),
        "fills": cost.fills,
        "last_price": cost.last_price,
        "last_ts_utc": found.last_ts or None,
        "mark_price": price,
        "mark_ts_utc": mark.ts_utc if mark is not None and mark.ts_utc else None,
        "unrealised_quote": None if worth.unmarked else worth.unrealised,
        "lots": [{"quantity": lot.quantity, "cost": lot.cost} for lot in held],
    }
