"""The arithmetic of what bots say about their executions and positions, whatever system they run (S0-05, P-04).

The contract defines these figures: prices in quote per base, quantities in base, results in quote. What it leaves open
is whether a result is told before or after costs, and over what a percentage is: a result may therefore lie below the
one that the prices give by ``COSTS``, and above it by ``REBATES``; percentages are not recomputed.

A bot whose positions have no id (Trend) closes them without saying what they were: its opening is remembered until
then. An opening that was changed, or came twice and differs, is no longer sure and judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from tradetape.processors.findings import Finding
from tradetape.processors.money import ZERO
from tradetape.processors.risk import position_key
from tradetape.processors.semantics.arithmetic import float_error, half_unit, mismatch
from tradetape.processors.state import PartitionState, Record

COSTS = Decimal("0.02")
"""Of the turnover: fees, funding and slippage that a result may be told after."""
REBATES = Decimal("0.0005")
"""Of the turnover: maker rebates and funding received."""

SIGNS = {"long": Decimal(1), "short": Decimal(-1)}
SIZING_FIELDS = ("quantity", "qty", "size", "amount", "entry", "side")
"""Parts of the names of a position's values that its result depends on."""

EVENTS = frozenset({"position_opened", "position_changed", "position_state", "position_closed"})


class Opening(Record):
    """How a position without an id began. Kept from its opening to its closing: one per pair of an instance."""

    KEY: ClassVar[str] = "q"

    side: str = ""
    quantity: Decimal = ZERO
    entry_price: Decimal = ZERO
    is_sure: bool = True


def observe(event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    """What does not add up in an event about a position; openings are folded into ``state``."""
    kind, payload, subject = event["event_type"], event["payload"], event["event_id"]
    if kind == "position_changed":
        _change(event, state)
        return []
    if kind == "position_opened":
        _open(event, state)
        return _cost(payload, subject)
    if kind == "position_closed":
        side, quantity, entry = _opening(event, state)
        return _result(payload, subject, "realized_pnl", (side, quantity, entry, payload["exit_price"]))
    held = (payload["side"], payload["quantity"], payload["entry_price"], payload["current_price"])
    return _result(payload, subject, "unrealized_pnl", held)


def observe_execution(event: Mapping[str, Any]) -> list[Finding]:
    """Whether an execution's quote is its price times its base; 0 is a source that does not tell it.

    A price that averages several executions is itself rounded: half a unit of it is allowed for.
    """
    payload = event["payload"]
    recorded, price, base = payload["fill_qty_quote"], payload["fill_price"], payload["fill_qty_base"]
    if not recorded or "fill_qty_quote" in event["assumed"]:
        return []
    expected = price * base
    allowed = half_unit(recorded) + half_unit(price) * abs(base) + float_error(expected, price, base)
    if abs(expected - recorded) <= allowed:
        return []
    return [mismatch(event["event_id"], "fill_qty_quote", expected=expected, recorded=recorded)]


def _result(
    payload: Mapping[str, Any],
    subject: str,
    figure: str,
    held: tuple[str | None, Decimal | None, Decimal | None, Decimal | None],
) -> list[Finding]:
    """Whether a result follows from side, quantity, entry and price, up to costs."""
    side, quantity, entry, price = held
    recorded, sign = payload[figure], SIGNS.get(side or "")
    if recorded is None or sign is None or quantity is None or entry is None or price is None:
        return []
    size = abs(quantity)
    expected = sign * (price - entry) * size
    turnover = (price + entry) * size
    slack = half_unit(recorded) + float_error(expected, turnover)
    if -COSTS * turnover - slack <= recorded - expected <= REBATES * turnover + slack:
        return []
    return [mismatch(subject, figure, expected=expected, recorded=recorded)]


def _cost(payload: Mapping[str, Any], subject: str) -> list[Finding]:
    recorded, quantity, price = payload["cost_basis"], payload["quantity"], payload["entry_price"]
    if not recorded:
        return []
    expected = price * abs(quantity)
    slack = half_unit(recorded) + float_error(expected) + REBATES * expected
    if -slack <= recorded - expected <= COSTS * expected + slack:
        return []
    return [mismatch(subject, "cost_basis", expected=expected, recorded=recorded)]


def _open(event: Mapping[str, Any], state: PartitionState) -> None:
    payload = event["payload"]
    if payload["position_id"] or not event["trading_pair"]:
        return
    said = (payload["side"], payload["quantity"], payload["entry_price"])
    known = state.find(Opening, *position_key(event))
    if known is None:
        state.touch(Opening(*said), *position_key(event))
    elif known.is_sure and (known.side, known.quantity, known.entry_price) != said:
        known.is_sure = False
        state.touch(known, *position_key(event))


def _change(event: Mapping[str, Any], state: PartitionState) -> None:
    field = event["payload"]["field"].casefold()
    if not any(part in field for part in SIZING_FIELDS):
        return
    known = state.find(Opening, *position_key(event))
    if known is not None and known.is_sure:
        known.is_sure = False
        state.touch(known, *position_key(event))


def _opening(event: Mapping[str, Any], state: PartitionState) -> tuple[str | None, Decimal | None, Decimal | None]:
    """Side, quantity and entry of the position that ``event`` closes, from itself, else from its opening."""
    payload = event["payload"]
    side, quantity, entry = payload["side"], payload["quantity"], payload["entry_price"]
    if payload["position_id"]:
        return side, quantity, entry
    known = state.find(Opening, *position_key(event))
    if known is None:
        return side, quantity, entry
    state.forget(Opening, *position_key(event))
    if not known.is_sure:
        return side, quantity, entry
    own = (side or known.side, known.quantity if quantity is None else quantity)
    return (*own, known.entry_price if entry is None else entry)
