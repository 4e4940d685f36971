"""Recomputing a recorded figure from the inputs recorded beside it (S0-05).

A figure may have several formulas, where its document leaves open which input is meant or whether an intermediate
result was rounded: it is right if one of them gives it. It is not judged where inputs are missing.

How exactly: within half a unit of the last decimal that the recorded number has. Avro's decimals all have 18, so what
the bot printed is no longer known to the last zero: the last decimal is that before the trailing zeros (541.50 counts
as 541.5, 13650.00 as 13650). A program that computes in binary floats is further allowed their error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, DecimalException
from typing import NamedTuple

from tradetape.processors.findings import OPENED, Finding, detail, finding
from tradetape.schemas import numbers
from tradetape.schemas.numbers import WIDE

HALF = Decimal("0.5")
FLOAT_ERROR = Decimal("1e-11")
"""Of the largest number involved: what some operations on binary floats may be off by, with room."""

Facts = Mapping[str, Decimal]
"""Numbers by name; one that is not recorded is not there."""


class Formula(NamedTuple):
    """``compute`` of the facts named by ``inputs``."""

    inputs: tuple[str, ...]
    compute: Callable[..., Decimal]


class Rule(NamedTuple):
    """A figure by its name among the facts, and the formulas that may give it, the document's own first."""

    figure: str
    formulas: tuple[Formula, ...]


def of(inputs: str, compute: Callable[..., Decimal]) -> Formula:
    """A formula of the facts named in ``inputs``, separated by spaces."""
    return Formula(tuple(inputs.split()), compute)


def rule(figure: str, *formulas: Formula) -> Rule:
    """A row of a table of rules."""
    return Rule(figure, formulas)


def check(rules: Iterable[Rule], facts: Facts, subject: str) -> list[Finding]:
    """A finding for every figure of ``rules`` that is recorded and that no formula gives."""
    found = []
    for figure, formulas in rules:
        recorded = facts.get(figure)
        if recorded is None:
            continue
        expected = _contradiction(recorded, formulas, facts)
        if expected is not None:
            found.append(mismatch(subject, figure, expected=expected, recorded=recorded))
    return found


def _contradiction(recorded: Decimal, formulas: Sequence[Formula], facts: Facts) -> Decimal | None:
    """What the figure should be, None if it is right or cannot be told."""
    first: Decimal | None = None
    for inputs, compute in formulas:
        try:
            values = [facts[name] for name in inputs]
            expected = compute(*values)
        except (KeyError, DecimalException):  # an input is missing, or nothing follows from it: division by zero
            continue
        off = abs(expected - recorded)
        if not off or off <= half_unit(recorded) or off <= float_error(expected, *values):
            return None
        first = expected if first is None else first
    return first


def half_unit(number: Decimal) -> Decimal:
    """Half a unit of the last decimal of ``number`` that is not a trailing zero; 0.5 for a whole number."""
    exponent = number.normalize(WIDE).as_tuple().exponent
    assert isinstance(exponent, int)
    return HALF.scaleb(min(exponent, 0))


def float_error(*values: Decimal) -> Decimal:
    """How far a result of ``values`` may be off in binary floats."""
    return WIDE.multiply(FLOAT_ERROR, max(abs(value) for value in values))


def mismatch(subject: str, figure: str, *, expected: Decimal, recorded: Decimal) -> Finding:
    """The finding that shows both numbers."""
    proof = detail(figure=figure, expected=_text(expected), recorded=_text(recorded))
    return finding("arithmetic_mismatch", OPENED, subject, proof)


def _text(number: Decimal) -> str:
    try:
        return numbers.text(numbers.fit(number)[0])
    except numbers.NumberError:
        return f"{number:.6E}"
