"""Whether figures keep within their limits: marks with confirmation and hysteresis (S4-06).

A limit has two marks, its warning and itself. A figure passes one when it was past it ``confirm_events`` times in a row
over ``confirm_seconds`` of the broker's clock, and comes back over it in the same way; a breach ends at ``clear_at``.
So one bad tick neither latches nor flaps. A rule that is changed is another rule: how the figure stood with the old one
is over, and the new one judges it from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from tradetape.processors import shelf
from tradetape.processors.clock import SECOND
from tradetape.processors.control import limits, patterns
from tradetape.processors.control.figures import FIGURES
from tradetape.processors.control.limits import Limit
from tradetape.processors.findings import OPENED, RESOLVED, Finding, detail, finding
from tradetape.processors.shelf import Entry
from tradetape.processors.state import SEPARATOR, PartitionState, Record
from tradetape.schemas.numbers import text

KEPT, WARNED, BREACHED = "", "warning", "breached"

_CODES = {WARNED: "limit_warning", BREACHED: "limit_breached"}


class InForce(Record):
    """The limits of a partition, as canonical JSON, empty before the first; ``sets`` were set so far.

    Its length is bounded by what ``limits`` says of rules, names and patterns.
    """

    KEY: ClassVar[str] = "L"

    limits: str = ""
    sets: int = 0


class Mark(msgspec.Struct, array_like=True):
    """Whether a figure is past a mark, and how many figures in a row say otherwise, ``since`` when."""

    is_passed: bool = False
    seen: int = 0
    since: int = 0

    def take(self, is_past: bool, limit: Limit, timestamp: int) -> bool:
        """Take in whether the next figure is past it; returns whether anything is new."""
        if is_past == self.is_passed:
            was_counting, self.seen, self.since = bool(self.seen), 0, 0
            return was_counting
        if not self.seen:
            self.since = timestamp
        self.seen += 1
        if self.seen >= limit.confirm_events and timestamp - self.since >= limit.confirm_seconds * SECOND:
            self.is_passed, self.seen, self.since = is_past, 0, 0
        return True


class Held(Entry):
    """How one figure stands with one limit, which ``rule`` is the digest of."""

    KEY: ClassVar[str] = "h"

    rule: bytes = b""
    warning: Mark = msgspec.field(default_factory=Mark)
    breach: Mark = msgspec.field(default_factory=Mark)

    @property
    def level(self) -> str:
        """The mark that it passed, the farther one of two."""
        if self.breach.is_passed:
            return BREACHED
        return WARNED if self.warning.is_passed else KEPT

    def is_idle(self) -> bool:
        """Within its limits, and no figure says otherwise."""
        return not (self.level or self.warning.seen or self.breach.seen)


class Under(Record):
    """Which set of limits (``InForce.sets``) the entries of an instance are of; there is none where it has no entry."""

    KEY: ClassVar[str] = "H"

    sets: int = 0


def observe(
    timestamp: int, figure: Mapping[str, Any], in_force: InForce, state: PartitionState
) -> tuple[list[Finding], list[tuple[Limit, Decimal]]]:
    """Compare a risk ``figure`` (its fields by name) with the limits that are about it.

    ``timestamp`` is the LogAppendTime, microseconds. Returns findings and the limits that were breached just now with
    their values. A figure that is null says nothing.
    """
    owner = (figure["environment"], figure["account"], figure["instance_name"])
    about = limits.of_instance(in_force.limits, *owner)
    findings = _let_go(about, owner, in_force, state)
    breached: list[tuple[Limit, Decimal]] = []
    has_entries = state.find(Under, *owner) is not None
    for limit in about:
        value = figure.get(limit.figure)
        if value is None or not _is_about(limit, figure):
            continue
        if not has_entries and not limit.is_past(value, limit.first_mark):
            continue  # the common case, without a look at the state
        name = state.name(limit.name, *(str(figure[each] or "") for each in FIGURES[limit.figure]))
        held = state.find(Held, *owner, name) or Held(rule=limits.short_digest(limit))
        before = held.level
        if not _take(held, limit, value, timestamp):
            continue
        _keep(held, name, owner, in_force, state)
        has_entries = True
        if held.level != before:
            number = Decimal(value)
            findings += _changed(limit, before, held.level, _subject(name, owner), number)
            if held.level == BREACHED:
                breached.append((limit, number))
    return findings, breached


def _is_about(limit: Limit, figure: Mapping[str, Any]) -> bool:
    """Whether a limit of the figure's instance is about its pair and quote asset as well."""
    return (not limit.quote_asset or limit.quote_asset == figure["quote_asset"]) and patterns.matches(
        figure["trading_pair"], limit.trading_pair
    )


def _take(held: Held, limit: Limit, value: Decimal, timestamp: int) -> bool:
    """Take in the next ``value``; returns whether anything is new."""
    end = limit.threshold
    if held.breach.is_passed and limit.clear_at is not None:
        end = limit.clear_at
    is_new = held.breach.take(limit.is_past(value, end), limit, timestamp)
    if limit.warn_at is not None:
        is_new |= held.warning.take(limit.is_past(value, limit.warn_at), limit, timestamp)
    return is_new


def _keep(held: Held, name: str, owner: tuple[str, ...], in_force: InForce, state: PartitionState) -> None:
    if held.is_idle():
        _drop(name, owner, state)
        return
    shelf.put(state, held, name, *owner)
    if state.find(Under, *owner) is None:
        state.touch(Under(in_force.sets), *owner)


def _drop(name: str, owner: tuple[str, ...], state: PartitionState) -> None:
    shelf.take(state, Held, name, *owner)
    if shelf.is_empty(state, Held, *owner):
        state.forget(Under, *owner)


def _let_go(
    about: tuple[Limit, ...], owner: tuple[str, ...], in_force: InForce, state: PartitionState
) -> list[Finding]:
    """After limits were set: what stood under a rule that is gone or another one now is over."""
    under = state.find(Under, *owner)
    if under is None or under.sets == in_force.sets:
        return []
    state.touch(Under(in_force.sets), *owner)
    rules = {limit.name: limits.short_digest(limit) for limit in about}
    findings = []
    for name, held in [*shelf.names_and_entries(state, Held, *owner)]:
        rule = name.split(SEPARATOR)[0]
        if rules.get(rule) == held.rule:
            continue
        _drop(name, owner, state)
        if held.level:
            proof = detail(limit=rule, why="changed" if rule in rules else "gone")
            findings.append(finding(_CODES[held.level], RESOLVED, _subject(name, owner), proof))
    return findings


def _subject(name: str, owner: tuple[str, ...]) -> str:
    limit, *told_apart = name.split(SEPARATOR)
    return " ".join(filter(None, (limit, *owner, *told_apart)))


def _changed(limit: Limit, before: str, after: str, subject: str, value: Decimal) -> Iterator[Finding]:
    proof = detail(limit=limit.name, figure=limit.figure, value=text(value), threshold=text(limit.threshold))
    if before:
        yield finding(_CODES[before], RESOLVED, subject, proof)
    if after:
        yield finding(_CODES[after], OPENED, subject, proof)
