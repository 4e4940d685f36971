"""Which bots a client may see, and how ClickHouse keeps every other row from its answers (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from tradetape.producers.serving import tokens
from tradetape.sinks.queries import NamedQuery
from tradetape.sinks.tables import ALERTS, DATABASE, EVENTS, PORTFOLIOS, QUARANTINE, RISK, RISK_LATEST
from tradetape.sinks.views import full_name, quoted

_BY_INSTANCE = (
    RISK_LATEST,
    *(name for t in (EVENTS, QUARANTINE, RISK, ALERTS) for name in (t.full_name, full_name(t))),
)
"""Tables and views of which each row is a bot's own."""

_OF_ALL = (PORTFOLIOS.full_name, full_name(PORTFOLIOS))
"""Tables and views whose rows say something of several bots."""

FLEET = frozenset({"baselines", "kills", "limits", "limits_in_force"})
"""Queries about orders to the whole fleet: without those rows their answer would be wrong, not smaller."""

_READS = re.compile(rf"\b(?:{DATABASE}|system)\.\w+")


class Scope(NamedTuple):
    """The bots that may be seen: names, or patterns with ``*`` and ``?``; empty: all."""

    patterns: tuple[str, ...] = ()

    @property
    def is_limited(self) -> bool:
        return bool(self.patterns)

    def allows(self, instance_name: str) -> bool:
        """Whether rows of the bot ``instance_name`` may be seen."""
        return tokens.allows(self.patterns, instance_name)

    def settings(self) -> Mapping[str, str]:
        """The settings under which ClickHouse reads no row of another bot, whatever the statement is."""
        if not self.patterns:
            return {}
        filters = {**dict.fromkeys(_BY_INSTANCE, self.condition()), **dict.fromkeys(_OF_ALL, "0")}
        entries = ", ".join(f"{quoted(table)}: {quoted(condition)}" for table, condition in filters.items())
        return {"additional_table_filters": f"{{{entries}}}"}

    def condition(self) -> str:
        """What is true in SQL of the rows that may be seen."""
        names = [pattern for pattern in self.patterns if not _is_wild(pattern)]
        alternatives = [
            f"instance_name LIKE {quoted(_like(pattern))}" for pattern in self.patterns if _is_wild(pattern)
        ]
        if names:
            alternatives.append(f"instance_name IN ({', '.join(map(quoted, names))})")
        return " OR ".join(alternatives)

    def may_ask(self, query: NamedQuery) -> bool:
        """Whether the answer of ``query`` is whole and right where only these bots' rows are read."""
        return not self.patterns or not is_of_fleet(query)


def is_of_fleet(query: NamedQuery) -> bool:
    """Whether ``query`` is about more than the rows of single bots."""
    return query.name in FLEET or not set(_READS.findall(query.sql)) <= set(_BY_INSTANCE)


def _is_wild(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _like(pattern: str) -> str:
    escaped = re.sub(r"([%_\\])", r"\\\1", pattern)
    return escaped.replace("*", "%").replace("?", "_")
