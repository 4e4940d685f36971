"""Whether figures keep within their limits: levels with confirmation and hysteresis (S4-06).

A level changes only after the figure was past its mark ``confirm_events`` times in a row over ``confirm_seconds`` of
the broker's clock, and changes back at ``clear_at``: one bad tick neither latches nor flaps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from tradetape.processors.control.figures import FIGURES
from tradetape.processors.control.limits import Limit, LimitSet
from tradetape.processors.findings import OPENED, RESOLVED, Finding, finding
from tradetape.processors.state import PartitionState, Record
from tradetape.schemas.numbers import text

KEPT, WARNED, BREACHED = "", "warning", "breached"

_CODES = {WARNED: "limit_warning", BREACHED: "limit_breached"}


class Held(Record):
    """How one limit stands for one figure: its level, and the level it is on its way to."""

    KEY: ClassVar[str] = "h"

    level: str = KEPT
    towards: str = KEPT
    seen: int = 0
    since: int = 0


_WITHIN = Held()


def observe(
    timestamp: int, figure: Mapping[str, Any], limits: Iterable[Limit], state: PartitionState
) -> tuple[list[Finding], list[tuple[Limit, Decimal]]]:
    """Compare a risk ``figure`` (its fields by name) with ``limits``, all of which cover it.

    ``timestamp`` is the LogAppendTime, microseconds. Returns findings and the limits that were breached just now with
    their values. A figure that is null says nothing.
    """
    findings: list[Finding] = []
    breached: list[tuple[Limit, Decimal]] = []
    for limit in limits:
        value = figure.get(limit.figure)
        if value is None:
            continue
        number = Decimal(value)
        subject = _subject(limit, figure)
        held = state.get(Held, *subject)
        if _is_quiet(limit, held, number):
            continue
        before = held.level
        _move(limit, held, number, timestamp)
        if held == _WITHIN:
            state.forget(Held, *subject)
        else:
            state.touch(held, *subject)
        if held.level != before:
            findings += _changed(limit, before, held.level, " ".join(filter(None, subject)), number)
            if held.level == BREACHED:
                breached.append((limit, number))
    return findings, breached


def covering(rules: LimitSet, figure: Mapping[str, Any]) -> list[Limit]:
    """The limits of ``rules`` that are about the instance of ``figure``."""
    where = (figure["environment"], figure["account"], figure["instance_name"])
    return [limit for limit in rules.limit if limit.covers(*where) and _is_about(limit, figure)]


def _is_about(limit: Limit, figure: Mapping[str, Any]) -> bool:
    return (not limit.quote_asset or limit.quote_asset == figure["quote_asset"]) and fnmatchcase(
        figure["trading_pair"], limit.trading_pair
    )


def _subject(limit: Limit, figure: Mapping[str, Any]) -> tuple[str, ...]:
    told_apart = (str(figure[name] or "") for name in FIGURES[limit.figure])
    return (limit.name, figure["environment"], figure["account"], figure["instance_name"], *told_apart)


def _is_quiet(limit: Limit, held: Held, value: Decimal) -> bool:
    """The common case, without a write: within its limits, and was before."""
    return not held.level and not held.towards and _level(limit, KEPT, value) == KEPT


def _level(limit: Limit, now: str, value: Decimal) -> str:
    """The level that ``value`` speaks for, given the present one."""
    breach = limit.threshold
    if now == BREACHED and limit.clear_at is not None:
        breach = limit.clear_at
    if limit.is_past(value, breach):
        return BREACHED
    if limit.warn_at is not None and limit.is_past(value, limit.warn_at):
        return WARNED
    return KEPT


def _move(limit: Limit, held: Held, value: Decimal, timestamp: int) -> None:
    level = _level(limit, held.level, value)
    if level == held.level:
        held.towards, held.seen, held.since = KEPT, 0, 0
        return
    if level != held.towards or not held.seen:
        held.towards, held.seen, held.since = level, 0, timestamp
    held.seen += 1
    if held.seen >= limit.confirm_events and timestamp - held.since >= limit.confirm_seconds * 1_000_000:
        held.level, held.towards, held.seen, held.since = level, KEPT, 0, 0


def _changed(limit: Limit, before: str, after: str, subject: str, value: Decimal) -> list[Finding]:
    detail = json.dumps(
        {"limit": limit.name, "figure": limit.figure, "value": text(value), "threshold": text(limit.threshold)},
        separators=(",", ":"),
    )
    found = [finding(_CODES[before], RESOLVED, subject, detail)] if before else []
    return found + ([finding(_CODES[after], OPENED, subject, detail)] if after else [])
