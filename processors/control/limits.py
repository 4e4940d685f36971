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
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from tradetape.processors.control import patterns
from tradetape.processors.control.figures import FIGURES, INSTANCE, POSITION
from tradetape.schemas import numbers
from tradetape.schemas.errors import TradetapeError

MOST_LIMITS = 200
"""Rules of one set: each figure is compared with those of its name."""
MOST_PORTFOLIOS = 200
"""Of one set: each figure counts in those of its instance."""
MOST_CHARACTERS = 200
"""Of a name; a pattern may have ``patterns.MOST_CHARACTERS``. A partition keeps the whole set as one record."""
MOST = 2**31 - 1
"""Of events and seconds."""

ALL = "all"
"""The portfolio of everything in one environment; it is always there."""


Environment = Literal["live", "paper", "testnet", "backtest"]
_NUMBERS = ("at_most", "at_least", "below", "above", "warn_at", "clear_at")


class LimitsRefused(TradetapeError):
    """The rules cannot be used as they are written."""


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Instances of one environment, by patterns of their accounts and names."""

    environment: Environment = "live"
    account: str = "*"
    instance: str = "*"

    def covers(self, environment: str, account: str, instance: str) -> bool:
        """Whether it is about this instance."""
        return (
            environment == self.environment
            and patterns.matches(account, self.account)
            and patterns.matches(instance, self.instance)
        )


class Limit(Scope, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
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
    quote_asset: str = ""
    trading_pair: str = "*"

    def given(self) -> tuple[Decimal, ...]:
        """What is written as the limit itself: one mark, unless the rule is wrong."""
        return tuple(mark for mark in (self.at_most, self.at_least, self.below, self.above) if mark is not None)

    @property
    def threshold(self) -> Decimal:
        """The limit itself, of a checked rule."""
        for mark in (self.at_most, self.at_least, self.below):
            if mark is not None:
                return mark
        assert self.above is not None
        return self.above

    def is_past(self, value: Decimal, mark: Decimal) -> bool:
        """Whether ``value`` lies beyond ``mark``, on the wrong side."""
        if self.at_most is not None:
            return value > mark
        if self.at_least is not None:
            return value < mark
        return value >= mark if self.below is not None else value <= mark

    @property
    def first_mark(self) -> Decimal:
        """What a figure passes first: the warning where there is one."""
        return self.threshold if self.warn_at is None else self.warn_at


class LimitSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All rules that hold at one time. No rules are a valid set.

    ``silent_after_seconds``: how long any instance may say nothing; 0 is for ever. A service that sends heartbeats may
    not miss three of them, whatever it says.
    """

    limit: tuple[Limit, ...] = ()
    portfolio: dict[str, Scope] = {}
    silent_after_seconds: int = 0

    def portfolios(self, environment: str, account: str, instance: str) -> tuple[str, ...]:
        """Names of the portfolios that an instance belongs to, in order; ``all`` first."""
        return (ALL, *(name for name in sorted(self.portfolio) if self._holds(name, environment, account, instance)))

    def _holds(self, name: str, *instance: str) -> bool:
        return self.portfolio[name].covers(*instance)


def check(document: Mapping[str, Any]) -> LimitSet:
    """The rules of a parsed TOML document. Raises LimitsRefused with the place and what to write instead."""
    _refuse_floats(document, "")
    try:
        rules = msgspec.convert(document, LimitSet, strict=False)
    except msgspec.ValidationError as error:
        raise LimitsRefused(f"limits: {error}") from None
    return _checked(rules)


def read(text: str) -> LimitSet:
    """The rules in a control record: any JSON that anyone wrote. Raises LimitsRefused where it is no set of rules."""
    try:
        # Typed, so that nesting ends where no field is that deep; numbers are read as decimals, digit by digit.
        rules = msgspec.json.decode(text, type=LimitSet, strict=False)
    except msgspec.DecodeError as error:
        raise LimitsRefused(f"limits: {error}") from None
    return _checked(rules)


def text(rules: LimitSet) -> str:
    """``rules`` as canonical JSON: the same rules give the same text."""
    return msgspec.json.encode(rules, order="deterministic").decode()


def digest(rules: LimitSet) -> str:
    """SHA-256 of their canonical text, hexadecimal."""
    return hashlib.sha256(text(rules).encode()).hexdigest()


parse = lru_cache(maxsize=16)(read)
"""As ``read``, of a canonical text."""


@lru_cache(maxsize=16_384)
def of_instance(canonical: str, environment: str, account: str, instance: str) -> tuple[Limit, ...]:
    """The limits of a canonical text that are about an instance: remembered, as every figure asks for them."""
    return tuple(limit for limit in parse(canonical).limit if limit.covers(environment, account, instance))


@lru_cache(maxsize=1_024)
def short_digest(limit: Limit) -> bytes:
    """Eight bytes that tell a rule from every other, also from one of its name."""
    return blake2b(msgspec.json.encode(limit, order="deterministic"), digest_size=8).digest()


def _checked(rules: LimitSet) -> LimitSet:
    """``rules`` with every number as figures have them. Raises LimitsRefused."""
    for what, count, most in (
        ("rules", len(rules.limit), MOST_LIMITS),
        ("portfolios", len(rules.portfolio), MOST_PORTFOLIOS),
    ):
        if count > most:
            raise LimitsRefused(f"limits: {count} {what}, {most} are possible", hint="use patterns")
    if not 0 <= rules.silent_after_seconds <= MOST:
        raise LimitsRefused(f"limits: silent_after_seconds is {rules.silent_after_seconds}", hint="0 is no limit")
    if ALL in rules.portfolio:
        raise LimitsRefused(f"limits: [portfolio.{ALL}] is there already", hint="it holds everything; use another name")
    for name, scope in rules.portfolio.items():
        _check_texts(f"[portfolio.{name[:MOST_CHARACTERS]}]", name, scope.account, scope.instance)
    names = [limit.name for limit in rules.limit]
    for limit in rules.limit:
        name, others = limit.name, (limit.account, limit.instance, limit.trading_pair, limit.quote_asset)
        _check_texts(f"limit {name[:MOST_CHARACTERS]!r}", name, *others)
        if not name or names.count(name) > 1:
            raise LimitsRefused(f"limits: {name!r} names {names.count(name)} rules", hint="give each a name of its own")
    return msgspec.structs.replace(rules, limit=tuple(_check(limit) for limit in rules.limit))


def _check_texts(what: str, name: str, *others: str) -> None:
    for text, most in ((name, MOST_CHARACTERS), *((other, patterns.MOST_CHARACTERS) for other in others)):
        if len(text) > most:
            raise LimitsRefused(f"{what}: a text of {len(text)} characters, {most} are possible", hint="shorten it")
    if not name.isprintable():
        raise LimitsRefused(f"{what}: not every character of its name can be printed", hint="use other ones")


def _check(limit: Limit) -> Limit:
    """``limit`` with its numbers as figures have them."""

    def refuse(what: str, hint: str) -> LimitsRefused:
        return LimitsRefused(f"limit {limit.name!r}: {what}", hint=hint)

    if limit.figure not in FIGURES:
        raise refuse(f"{limit.figure!r} is no figure", f"one of {', '.join(sorted(FIGURES))}")
    if len(limit.given()) != 1:
        raise refuse("it needs at_most, at_least, below or above, one of them", 'for example above = "-5"')
    numbers_of = {name: getattr(limit, name) for name in _NUMBERS}
    limit = msgspec.structs.replace(limit, **{n: _fitted(v, n, refuse) for n, v in numbers_of.items()})
    if limit.warn_at is not None and limit.is_past(limit.warn_at, limit.threshold):
        raise refuse(f"warn_at {limit.warn_at} lies beyond {limit.threshold}", "a warning comes before the breach")
    if limit.clear_at is not None and limit.is_past(limit.clear_at, limit.threshold):
        raise refuse(f"clear_at {limit.clear_at} lies beyond {limit.threshold}", "a breach ends on the safe side")
    if not (1 <= limit.confirm_events <= MOST and 0 <= limit.confirm_seconds <= MOST):
        raise refuse("it cannot be confirmed", "confirm_events is at least 1, confirm_seconds at least 0")
    told_apart = FIGURES[limit.figure]
    if limit.trading_pair != "*" and told_apart != POSITION:
        raise refuse(f"{limit.figure} is not kept by trading_pair", "leave trading_pair out")
    if limit.quote_asset and told_apart == INSTANCE:
        raise refuse(f"{limit.figure} is not kept by quote_asset", "leave quote_asset out")
    return limit


def _fitted(number: Decimal | None, name: str, refuse: Callable[[str, str], LimitsRefused]) -> Decimal | None:
    if number is None:
        return None
    try:
        fitted, is_rounded = numbers.fit(number)
    except numbers.NumberError as error:
        raise refuse(f"{name}: {error}", "write a number that a figure can reach") from None
    if is_rounded:
        raise refuse(f"{name} has more than {numbers.SCALE} decimals", "figures have no more")
    return fitted


def _refuse_floats(value: object, path: str) -> None:
    if isinstance(value, float):
        raise LimitsRefused(f"limits: {path} is a float ({value!r})", hint=f'write it in quotes: "{value!r}"')
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_floats(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _refuse_floats(inner, f"{path}[{index}]")
