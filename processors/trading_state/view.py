"""The whole TradingState of an instance under the document's names, and as text (S2-03)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

from tradetape.processors import shelf
from tradetape.processors.shelf import Entry
from tradetape.processors.state import PartitionState
from tradetape.processors.trading_state.records import (
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

TIMES = frozenset({"cooldown_until", "last_reconciliation", "since", "until"})
"""Keys of the view whose values are microseconds."""


def view(state: PartitionState, environment: str, account: str, instance: str) -> dict[str, Any]:
    """Every field of TradingState: money in quote as Decimal, times in microseconds, None for what cannot be known.

    equity, peak_equity and cooldown_until follow from a recorded configuration; without one they are None. An instance
    that is not followed has the state of one without events.
    """
    owner = (environment, account, instance)
    settings, standing = state.get(Settings, *owner), state.get(Standing, *owner)
    initial = settings.initial_equity
    return {
        "equity": None if initial is None else WIDE.add(initial, standing.realised),
        "peak_equity": None if initial is None else WIDE.add(initial, standing.realised_peak),
        "realized_pnl_today": standing.realised_today,
        "daily_loss": standing.losses_today,
        "consecutive_losses": standing.consecutive_losses,
        "cooldown_until": standing.cooldown_until,
        "circuit_breaker_active": standing.circuit_breaker_active,
        "requires_manual_review": standing.requires_manual_review,
        "last_reconciliation": standing.last_reconciliation,
        "last_event_sequence": state.get(Sequence, *owner).last,
        "universe": list(state.get(Universe, *owner).symbols),
        "positions": _shelf(state, HeldPosition, owner),
        "open_orders": _shelf(state, OpenOrder, owner),
        "news_risk_flags": _shelf(state, NewsRisk, owner),
    }


def as_json(state_view: Mapping[str, Any]) -> str:
    """A view as canonical JSON: keys sorted, decimals as text, times as ISO-8601. Equal views give equal text."""
    return orjson.dumps(_plain(state_view), option=orjson.OPT_SORT_KEYS).decode()


def _shelf(state: PartitionState, kind: type[Entry], owner: tuple[str, str, str]) -> dict[str, Any]:
    names = [name for name in kind.__struct_fields__ if name != "place"]
    found = sorted(shelf.names_and_entries(state, kind, *owner), key=lambda item: item[0])
    return {name: {each: getattr(entry, each) for each in names} for name, entry in found}


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, Decimal):
        return numbers.text(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner, name) for name, inner in value.items()}
    if key in TIMES and value is not None:
        return times.text(value)
    return value
