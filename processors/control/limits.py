"""Limits as an operator writes them: checked, and in the terms of the figures that they hold (S4-06).

[[limit]]
name = "daily-loss"
figure = "daily_pnl_pct"     # a number of tradetape.risk
above = "-5"                 # or at_least, at_most, below; numbers in quotes: a float is not exact
warn_at = "-3"
clear_at = "-4"              # a breach ends only here
confirm_events = 2           # one bad tick is no breach
confirm_seconds = 1
action = "kill"              # or "alert"
environment = "live"
account = "*"
instance = "*"

[portfolio.majors]           # instances whose figures are looked at together
environment = "live"
instance = "btc_*"
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal

import msgspec

from tradetape.processors.control.figures import FIGURES, INSTANCE, POSITION
from tradetape.schemas import numbers
from tradetape.schemas.errors import TradetapeError

MOST_LIMITS = 200
"""Rules of one set: each figure is compared with those of its name."""

ALL = "all"
"""The portfolio of everything in one environment; it is always there."""


Environment = Literal["live", "paper", "testnet", "backtest"]


class LimitsRefused(TradetapeError):
    """The rules cannot be used as they are written."""


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule. One of ``at_most``, ``at_least``, ``below`` and ``above`` is the limit itself: what the figure may be.

    Patterns are those of file names.
    """

    name: str
    figure: str
    at_most: Decimal | None = None
    at_least: Decimal | None = None
    below: Decimal | None = None
    above: Decimal | None = None
    warn_at: Decimal | None = None
    clear_at: Decimal | None = None
    confirm_events: int = 1
    confirm_seconds: int = 0
    action: Literal["alert", "kill"] = "alert"
    kill: Literal["instance", "account", "environment"] = "instance"
    environment: Environment = "live"
    account: str = "*"
    instance: str = "*"
    quote_asset: str = ""
    trading_pair: str = "*"

    def given(self) -> tuple[Decimal, ...]:
        """What is written as the limit itself; of a checked rule, one."""
        return tuple(mark for mark in (self.at_most, self.at_least, self.below, self.above) if mark is not None)

    @property
    def threshold(self) -> Decimal:
        """The limit itself."""
        (limit,) = self.given()
        return limit

    def is_past(self, value: Decimal, mark: Decimal) -> bool:
        """Whether ``value`` lies beyond ``mark``, on the wrong side."""
        if self.at_most is not None:
            return value > mark
        if self.at_least is not None:
            return value < mark
        return value >= mark if self.below is not None else value <= mark

    def covers(self, environment: str, account: str, instance: str) -> bool:
        """Whether it is about this instance."""
        return (
            environment == self.environment
            and fnmatchcase(account, self.account)
            and fnmatchcase(instance, self.instance)
        )


class Portfolio(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Instances that are looked at together."""

    environment: Environment = "live"
    account: str = "*"
    instance: str = "*"

    def holds(self, environment: str, account: str, instance: str) -> bool:
        """Whether the instance belongs to it."""
        return (
            environment == self.environment
            and fnmatchcase(account, self.account)
            and fnmatchcase(instance, self.instance)
        )


class LimitSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All rules that hold at one time. No rules are a valid set.

    ``silent_after_seconds``: how long any instance may say nothing; 0 is for ever. A service that sends heartbeats may
    not miss three of them, whatever it says.
    """

    limit: tuple[Limit, ...] = ()
    portfolio: dict[str, Portfolio] = {}
    silent_after_seconds: int = 0

    def portfolios(self, environment: str, account: str, instance: str) -> tuple[str, ...]:
        """Names of the portfolios that an instance belongs to, in order; ``all`` first."""
        return (ALL, *(name for name in sorted(self.portfolio) if self._holds(name, environment, account, instance)))

    def _holds(self, name: str, *instance: str) -> bool:
        return self.portfolio[name].holds(*instance)


def check(document: Mapping[str, Any]) -> LimitSet:
    """The rules of a parsed TOML or JSON document. Raises LimitsRefused with the place and what to write instead."""
    _refuse_floats(document, "")
    try:
        rules = msgspec.convert(document, LimitSet, strict=False)
    except msgspec.ValidationError as error:
        raise LimitsRefused(f"limits: {error}") from None
    if len(rules.limit) > MOST_LIMITS:
        raise LimitsRefused(f"limits: {len(rules.limit)} rules, {MOST_LIMITS} are possible", hint="use patterns")
    if rules.silent_after_seconds < 0:
        raise LimitsRefused(f"limits: silent_after_seconds is {rules.silent_after_seconds}", hint="0 is no limit")
    if ALL in rules.portfolio:
        raise LimitsRefused(f"limits: [portfolio.{ALL}] is there already", hint="it holds everything; use another name")
    names = [limit.name for limit in rules.limit]
    for name in names:
        if not name or names.count(name) > 1:
            raise LimitsRefused(f"limits: {name!r} names {names.count(name)} rules", hint="give each a name of its own")
    for limit in rules.limit:
        _check(limit)
    return rules


def text(rules: LimitSet) -> str:
    """``rules`` as canonical JSON: the same rules give the same text."""
    return msgspec.json.encode(rules, order="deterministic").decode()


def digest(rules: LimitSet) -> str:
    """SHA-256 of their canonical text, hexadecimal."""
    return hashlib.sha256(text(rules).encode()).hexdigest()


@lru_cache(maxsize=16)
def parse(canonical: str) -> LimitSet:
    """The rules in a control record. Raises LimitsRefused where a foreign producer wrote none."""
    try:
        return check(msgspec.json.decode(canonical))
    except (msgspec.DecodeError, AttributeError, TypeError) as error:
        raise LimitsRefused(f"limits: {error}") from None


def _check(limit: Limit) -> None:
    def refuse(what: str, hint: str) -> LimitsRefused:
        return LimitsRefused(f"limit {limit.name!r}: {what}", hint=hint)

    if limit.figure not in FIGURES:
        raise refuse(f"{limit.figure!r} is no figure", f"one of {', '.join(sorted(FIGURES))}")
    if len(limit.given()) != 1:
        raise refuse("it needs at_most, at_least, below or above, one of them", 'for example above = "-5"')
    for name in ("at_most", "at_least", "below", "above", "warn_at", "clear_at"):
        _check_number(getattr(limit, name), name, refuse)
    if limit.warn_at is not None and limit.is_past(limit.warn_at, limit.threshold):
        raise refuse(f"warn_at {limit.warn_at} lies beyond {limit.threshold}", "a warning comes before the breach")
    if limit.clear_at is not None and limit.is_past(limit.clear_at, limit.threshold):
        raise refuse(f"clear_at {limit.clear_at} lies beyond {limit.threshold}", "a breach ends on the safe side")
    if limit.confirm_events < 1 or limit.confirm_seconds < 0:
        raise refuse("it cannot be confirmed", "confirm_events is at least 1, confirm_seconds at least 0")
    told_apart = FIGURES[limit.figure]
    if limit.trading_pair != "*" and told_apart != POSITION:
        raise refuse(f"{limit.figure} is not kept by trading_pair", "leave trading_pair out")
    if limit.quote_asset and told_apart == INSTANCE:
        raise refuse(f"{limit.figure} is not kept by quote_asset", "leave quote_asset out")


def _check_number(number: Decimal | None, name: str, refuse: Callable[[str, str], LimitsRefused]) -> None:
    if number is None:
        return
    try:
        numbers.fit(number)
    except numbers.NumberError as error:
        raise refuse(f"{name}: {error}", "write a number that a figure can reach") from None


def _refuse_floats(value: object, path: str) -> None:
    if isinstance(value, float):
        raise LimitsRefused(f"limits: {path} is a float ({value!r})", hint=f'write it in quotes: "{value!r}"')
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_floats(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _refuse_floats(inner, f"{path}[{index}]")
