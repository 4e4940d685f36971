"""Running risk of one bot: fold an event into its position and its counts (P-02)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tradetape.processors import positions
from tradetape.processors.findings import OPENED, Finding, finding
from tradetape.processors.lineage import fill_of, order_id
from tradetape.processors.state import Fill, Instance, Order, PartitionState, Position

_COUNTED = {
    "order_created": "orders_created",
    "order_cancelled": "orders_cancelled",
    "order_failed": "orders_failed",
}


class Figures(NamedTuple):
    """What an event changed: the position of its pair and the counts of its instance."""

    position: Position
    instance: Instance


def instance_key(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Figures are kept per environment, account and instance, and never mixed."""
    return event["environment"], event["account"], event["instance_name"]


def position_key(event: Mapping[str, Any]) -> tuple[str, ...]:
    """One position per pair and connector of an instance."""
    return (*instance_key(event), event["connector_name"], event["trading_pair"])


def order_key(event: Mapping[str, Any]) -> tuple[str, ...]:
    """An order id is the connector's own."""
    return (*instance_key(event), event["connector_name"], order_id(event))


def observe(
    event: Mapping[str, Any], order: Order | None, was_open: bool, state: PartitionState
) -> tuple[Figures | None, list[Finding]]:
    """Fold ``event`` into the figures; None where it changed none. ``order`` already includes the event.

    An execution whose direction is unknown waits in its order and is folded when the order tells it.
    """
    kind = event["event_type"]
    position = state.get(Position, *position_key(event))
    folded, findings = _fold_due(event, order, position)
    if folded is not position:
        state.touch(folded, *position_key(event))
    counted = _COUNTED.get(kind)
    opened = (order is not None and order.is_open) - was_open
    instance = state.get(Instance, *instance_key(event))
    if counted or opened:
        if counted:
            setattr(instance, counted, getattr(instance, counted) + 1)
        instance.open_orders += opened
        state.touch(instance, *instance_key(event))
    elif folded is position:
        return None, findings
    return Figures(folded, instance), findings


def _fold_due(event: Mapping[str, Any], order: Order | None, position: Position) -> tuple[Position, list[Finding]]:
    findings: list[Finding] = []
    for side, fill in _due(event, order):
        if fill.quantity < 0:
            findings.append(finding("negative_quantity", OPENED, event["event_id"]))
            continue
        try:
            position = positions.fold(position, side=side, price=fill.price, quantity=fill.quantity, fees=fill.fees)
        except positions.FigureOutOfRange:
            findings.append(finding("figure_out_of_range", OPENED, event["event_id"]))
    return position, findings


def _due(event: Mapping[str, Any], order: Order | None) -> list[tuple[str, Fill]]:
    """The executions to fold now, each with its direction: those that waited, then the event's own."""
    if order is None or order.side is None:
        return []
    due = [(order.side, fill) for fill in order.pending]
    order.pending = []
    if event["event_type"] == "order_filled":
        payload = event["payload"]
        due.append((payload["side"] or order.side, fill_of(payload)))
    return due
