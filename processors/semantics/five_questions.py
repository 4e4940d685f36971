"""The Five Questions of Turtle's document: price, volatility, equity, system and risk (S0-04).

"Every sizing/entry/pyramid event MUST capture enough context to answer" them. Which events these are:

- every ``ENTRY_ATTEMPTED`` and ``PYRAMID_ATTEMPTED``, whatever its outcome (submitted, refused for cash or shares,
  rejected, market closed, delayed in a fast market): the bot has sized a unit. All five are asked. Here they are
  ``order_created``, ``order_failed`` and ``order_status`` with purpose entry or pyramid.
- every other event that carries a ``sizing`` block. All five are asked.
- ``ENTRY_FILLED`` and ``PYRAMID_FILLED`` that executed something (``order_filled``). Price, volatility and system are
  asked: the document's own flow records an entry's fill with market, order and position, and these answer exactly
  those three; equity and risk were answered where the unit was sized.
- an order that ended without an execution (cancelled, expired) entered nothing, and is not asked; nor are exits.

An answer may stand in any block that the document gives it a place in. Risk is answered by the percentage alone: the
amount follows from it and the equity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradetape.processors.findings import OPENED, Finding, detail, finding

ANSWERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "price": {
        "price": ("sizing.price", "market.price", "order.fill_price", "pyramid.fill_price", "pyramid.new_entry_price")
    },
    "volatility": {
        "n": ("market.n.value", "sizing.n_value", "pyramid.n_current", "pyramid.n_at_new_entry"),
        "n_period": ("market.n.period", "sizing.atr_period"),
    },
    "equity": {
        "equity_actual": ("account.equity_actual", "sizing.equity_actual"),
        "equity_notional": ("account.equity_notional", "sizing.equity_notional", "pyramid.equity_notional"),
    },
    "system": {"system": ("signal.system", "position.system", "sizing.system")},
    "risk": {"risk_percent": ("sizing.risk_percent", "pyramid.risk_percent")},
}
"""What each question needs, and where it may stand."""

_PATHS = {
    question: {name: tuple(tuple(path.split(".")) for path in paths) for name, paths in needs.items()}
    for question, needs in ANSWERS.items()
}

ALL = tuple(ANSWERS)
OF_A_FILL = ("price", "volatility", "system")

PURPOSES = frozenset({"entry", "pyramid"})
ATTEMPTS = frozenset({"order_created", "order_failed", "order_status"})
FILL = "order_filled"
TURTLE = "turtle"


def observe(event: Mapping[str, Any]) -> list[Finding]:
    """The questions that an event whose type has a decision context leaves open."""
    context = event["payload"]["context"]
    if context is None and event["source_system"] != TURTLE:
        return []
    asked = questions(event)
    if not asked:
        return []
    missing = {question: _missing(context or {}, question) for question in asked}
    unanswered = [question for question in asked if missing[question]]
    if not unanswered:
        return []
    names = [name for question in unanswered for name in missing[question]]
    proof = detail(unanswered=unanswered, missing=names)
    return [finding("question_unanswered", OPENED, event["event_id"], proof)]


def questions(event: Mapping[str, Any]) -> tuple[str, ...]:
    """What ``event`` must answer."""
    payload = event["payload"]
    if payload.get("purpose") in PURPOSES:
        if event["event_type"] == FILL or (event["event_type"] == "order_status" and _is_fill(event)):
            return OF_A_FILL
        if event["event_type"] in ATTEMPTS:
            return ALL
    return ALL if (payload["context"] or {}).get("sizing") is not None else ()


def _is_fill(event: Mapping[str, Any]) -> bool:
    """A fill with an outcome that the document does not list."""
    return (event["native_type"] or "").casefold().endswith("filled")


def _missing(context: Mapping[str, Any], question: str) -> list[str]:
    return [name for name, paths in _PATHS[question].items() if all(_at(context, path) is None for path in paths)]


def _at(context: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = context
    for key in path:
        if value is None:
            return None
        value = value.get(key)
    return value
