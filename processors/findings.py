"""The catalogue of findings: what an accepted event may show that a person should know (P-04, N-07).

A finding never hides an event. ``opened`` findings stay open until a later event resolves them; ``noted`` ones state
a fact that nothing can change and nobody has to act on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

OPENED = "opened"
RESOLVED = "resolved"
NOTED = "noted"

ALERTING = frozenset({"error", "critical"})
"""Severities that also become an alert when they open (S0-10)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. ``subject`` says what it is counted by: the order or the event."""

    severity: str
    subject: str
    meaning: str


class Finding(NamedTuple):
    """A finding as the audited record carries it; ``detail`` is a JSON object with the numbers that prove it."""

    code: str
    severity: str
    status: str
    subject: str
    detail: str


CATALOGUE: dict[str, Kind] = {
    "fill_without_order": Kind("warning", "order", "an execution of an order that the record does not have"),
    "completed_without_fill": Kind("error", "order", "completed, and no execution is on record"),
    "completed_underfilled": Kind("warning", "order", "completed, and the executions sum to less than its amount"),
    "overfill": Kind("critical", "order", "the executions sum to more than the order's amount"),
    "conflicting_terminals": Kind("error", "order", "more than one distinct terminal status"),
    "duplicate_terminal": Kind("warning", "order", "the same terminal status more than once"),
    "fill_after_terminal": Kind("error", "order", "an execution reported after a terminal status"),
    "fill_before_created": Kind("info", "order", "an execution reported while the order's creation was not"),
    "out_of_order": Kind("warning", "order", "statuses whose times run backwards in the order the source wrote them"),
    "correlation_mismatch": Kind("warning", "order", "events of one order carry different correlation ids"),
    "fill_side_unknown": Kind("warning", "order", "an execution whose direction nothing on record tells"),
    "sequence_gap": Kind("error", "run or aggregate", "numbers are missing in a numbered history"),
    "sequence_repeated": Kind("warning", "run or aggregate", "a number of a history came twice, on different events"),
    "sequence_regressed": Kind("info", "run or aggregate", "a missing number came after a later one"),
    "execution_power_not_none": Kind("critical", "event", "an advisory signal that claims power to execute"),
    "value_assumed": Kind("info", "event", "the source lacks values that the adapter computed or assumed"),
    "duplicate_event_id": Kind("warning", "event", "the source wrote the same event id twice"),
    "precision_rounded": Kind("info", "event", "a number had more than 18 decimals; the original is kept"),
    "zero_price": Kind("warning", "event", "a price of zero: truncated by its source, or wrong"),
    "negative_quantity": Kind("error", "event", "an execution of a negative quantity; folded into no figure"),
    "figure_out_of_range": Kind("error", "event", "it would push a figure beyond ±1.7e20; folded into no figure"),
    "clock_ahead": Kind("warning", "event", "its time lies more than five minutes after it was taken in"),
}


def finding(code: str, status: str, subject: str, detail: str = "{}") -> Finding:
    """A finding of a catalogued ``code``."""
    return Finding(code, CATALOGUE[code].severity, status, subject, detail)
