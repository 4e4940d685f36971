"""One order's history: what its events say together, and where they contradict each other (P-04).

Every condition is a function of the order's state, so that each is found whatever the order of arrival, and a later
event that mends it resolves it: ``observe`` folds one event, ``conditions`` says what now holds, and the difference
to what was open before is the event's findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from tradetape.processors.expiry import Expiring
from tradetape.processors.findings import NOTED, OPENED, RESOLVED, Finding, detail, finding
from tradetape.processors.horizons import Horizons
from tradetape.processors.money import ZERO, add, compact
from tradetape.processors.state import packed
from tradetape.schemas.numbers import text

CREATED, CANCELLED, FAILED = "order_created", "order_cancelled", "order_failed"

TERMINALS = frozenset({CANCELLED, FAILED, "order_expired", "order_completed"})
PROGRESS = frozenset({"order_accepted", "order_partially_filled"})
"""What tells how an order is getting on, and neither executes nor ends it."""
ORDER_EVENTS = TERMINALS | PROGRESS | {CREATED, "order_filled", "order_status", "order_snapshot"}

NATIVE_FILLED = "OrderFilled"
"""Hummingbot's status of an execution; without its trade it tells when, not how much."""

FILL_IDS = 64
"""Executions of one order that are recognised when they come again without a position."""


NATIVE_TERMINALS = 8
"""Ways of ending an order that are told apart as its source calls them; more go by their event type."""


class Fill(msgspec.Struct, array_like=True):
    """An execution that waits for its order to tell its direction. Base quantity, quote price, fees by asset."""

    price: Decimal
    quantity: Decimal
    fees: list[tuple[str, Decimal]]


class Order(Expiring):
    """What the record knows of one order; ``open_findings`` are the codes now open on it."""

    KEY: ClassVar[str] = "o"

    known: bool = False
    created: bool = False
    is_open: bool = False
    side: str | None = None
    amount: Decimal | None = None
    filled: Decimal = ZERO
    fill_ids: list[bytes] = []
    pending: list[Fill] = []
    fill_reported: bool = False
    terminals: dict[str, int] = {}
    filled_after_terminal: bool = False
    ran_backwards: bool = False
    last_ts: int = 0
    correlation_id: bytes = b""
    correlations_differ: bool = False
    open_findings: list[str] = []

    def lasts(self, horizons: Horizons) -> int:
        return horizons.open_order if self.is_open else horizons.closed_order

    def looked_at(self, horizons: Horizons) -> int:
        return horizons.closed_order

    def called(self) -> str:
        return "open order" if self.is_open else "order"


def order_id(event: Mapping[str, Any]) -> str:
    """The order that ``event`` is about, empty if about none."""
    if event["event_type"] not in ORDER_EVENTS:
        return ""
    return event["payload"]["client_order_id"] or ""


def is_repeated_fill(order: Order, event: Mapping[str, Any]) -> bool:
    """Whether this very execution is in the order already (it came once without a position, once with)."""
    return event["event_type"] == "order_filled" and packed(event["event_id"]) in order.fill_ids


def observe(order: Order, event: Mapping[str, Any], *, carried: bool = True) -> list[Finding]:
    """Fold ``event`` into ``order``; returns the findings that it opens, resolves or notes.

    ``carried`` says that its correlation_id is its source's, not one that was found for it.
    """
    kind, payload = event["event_type"], event["payload"]
    placed = event["source_position"] is not None or event["source_stream"] is None
    findings: list[Finding] = []
    if kind == "order_snapshot":
        _know(order, payload)
    else:
        if placed:
            order.ran_backwards |= event["ts_utc"] < order.last_ts
            order.last_ts = event["ts_utc"]
        if kind == CREATED:
            order.created = True
            _know(order, payload)
        elif kind in TERMINALS:
            name = event["native_type"] or kind
            if name not in order.terminals and len(order.terminals) >= NATIVE_TERMINALS:
                name = kind
            order.terminals[name] = order.terminals.get(name, 0) + 1
        elif kind == "order_filled" or payload.get("status") == NATIVE_FILLED:
            if placed:
                if not order.created and not order.fill_reported:
                    findings.append(finding("fill_before_created", NOTED, payload["client_order_id"]))
                order.fill_reported = True
                order.filled_after_terminal |= bool(order.terminals)
            if kind == "order_filled":
                _fill(order, event)
    if carried and not (event["legacy"] and event["correlation_id"] == event["event_id"]):
        _correlate(order, packed(event["correlation_id"]))
    order.is_open = order.known and not order.terminals and not _is_filled(order)
    findings += _changed(order, payload["client_order_id"])
    return findings


def _know(order: Order, payload: Mapping[str, Any]) -> None:
    order.known = True
    order.side = payload["side"] or order.side
    if payload["amount_base"] is not None:
        order.amount = compact(payload["amount_base"])


def _fill(order: Order, event: Mapping[str, Any]) -> None:
    payload = event["payload"]
    order.filled = compact(add(order.filled, payload["fill_qty_base"]))
    order.fill_ids = [*order.fill_ids[-FILL_IDS + 1 :], packed(event["event_id"])]
    order.side = order.side or payload["side"]
    if order.side is None:
        order.pending = [*order.pending[-FILL_IDS + 1 :], fill_of(payload)]


def _is_filled(order: Order) -> bool:
    """Executed to its amount: over, also where the source writes no completion."""
    return order.amount is not None and 0 < order.amount <= order.filled


def fill_of(payload: Mapping[str, Any]) -> Fill:
    """The execution that an order_filled payload reports."""
    fees = [(payload["fee_asset"], payload["fee_amount"])]
    fees += [(fee["asset"], fee["amount"]) for fee in payload["other_fees"]]
    return Fill(payload["fill_price"], payload["fill_qty_base"], fees)


def _correlate(order: Order, correlation_id: bytes) -> None:
    if not order.correlation_id:
        order.correlation_id = correlation_id
    elif order.correlation_id != correlation_id:
        order.correlations_differ = True


def conditions(order: Order) -> Iterator[str]:
    """The codes that hold of ``order`` as it stands."""
    completed = any(name == "order_completed" or name.endswith("OrderCompleted") for name in order.terminals)
    if order.fill_ids and not order.known:
        yield "fill_without_order"
    if completed and not order.fill_ids:
        yield "completed_without_fill"
    if order.amount is not None and order.fill_ids:
        if completed and order.filled < order.amount:
            yield "completed_underfilled"
        if order.filled > order.amount:
            yield "overfill"
    if len(order.terminals) > 1:
        yield "conflicting_terminals"
    if any(count > 1 for count in order.terminals.values()):
        yield "duplicate_terminal"
    if order.filled_after_terminal:
        yield "fill_after_terminal"
    if order.ran_backwards:
        yield "out_of_order"
    if order.correlations_differ:
        yield "correlation_mismatch"
    if order.pending and order.side is None:
        yield "fill_side_unknown"


def _changed(order: Order, subject: str) -> list[Finding]:
    holding = list(conditions(order))
    before = order.open_findings
    if holding == before:
        return []
    order.open_findings = holding
    amount = {} if order.amount is None else {"amount": text(order.amount)}
    proof = detail(filled=text(order.filled), terminals=order.terminals, **amount)
    return [finding(code, OPENED, subject, proof) for code in holding if code not in before] + [
        finding(code, RESOLVED, subject, proof) for code in before if code not in holding
    ]
