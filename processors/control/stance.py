"""Where an instance stands after an event: does it add to what it risks, does it hold anything (S4-06)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tradetape.processors.money import ZERO
from tradetape.processors.risk import accounts, figures
from tradetape.processors.risk.history import Position
from tradetape.processors.risk.keys import instance_key, position_key
from tradetape.processors.state import PartitionState


class Stance(NamedTuple):
    """``grows``: the event sends an order that is not known to reduce a position, looked at by itself.

    ``is_flat``: no position is held and no order is open. Who is under no kill is asked neither.
    """

    grows: bool = False
    is_flat: bool = False


def of(event: Mapping[str, Any], state: PartitionState) -> Stance:
    """The stance of the event's instance; ``state`` includes the event."""
    return Stance(event["event_type"] == "order_created" and not _reduces(event, state), _is_flat(event, state))


def _reduces(event: Mapping[str, Any], state: PartitionState) -> bool:
    position = state.find(Position, *position_key(event))
    held = position.cost.net_base if position is not None else ZERO
    amount = event["payload"]["amount_base"]
    closes = event["payload"]["side"] == ("sell" if held > 0 else "buy")
    return bool(held) and closes and amount is not None and amount <= held.copy_abs()


def _is_flat(event: Mapping[str, Any], state: PartitionState) -> bool:
    key = instance_key(event)
    instance = state.get(figures.Instance, *key)
    held = (state.get(accounts.Account, *key, quote).open for quote in instance.quotes)
    return instance.open_orders == 0 and not any(held)
