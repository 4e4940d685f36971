"""The catalogue of Kafka topics: the only place that names one.

``tradetape.events`` is the only topic of the record that anything outside ``processors/`` writes to. Every other topic
is partitioned like it: what the event at (partition p, offset o) caused goes to partition p, under the text key
``p:o:d`` where ``d`` is the derived sequence (0 the event itself, 1… what it caused); only what concerns a portfolio
lies in that portfolio's partition. ``tradetape.dead_letters`` is no
part of the record: consumers write there what they could not process, with the original's partition and key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EVENTS = "tradetape.events"
AUDITED = "tradetape.audited"
RISK = "tradetape.risk"
ALERTS = "tradetape.alerts"
PORTFOLIO = "tradetape.portfolio"
PORTFOLIOS = "tradetape.portfolios"
STATE = "tradetape.state"
PORTFOLIO_STATE = "tradetape.portfolio_state"
DEAD_LETTERS = "tradetape.dead_letters"


def of_output(name: str) -> str:
    """The topic of an output schema (``catalogue.OUTPUTS``)."""
    return f"tradetape.{name}"


DEFAULT_PARTITIONS = 4
"""Fixed at creation; growth is a new topic generation (design, Contract)."""

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Largest message on ``tradetape.events``: a 10 MB payload (P-08) with room for its envelope."""

MAX_AUDITED_BYTES = 2 * MAX_EVENT_BYTES
"""An audited record carries the original bytes and the payload as JSON."""

COLUMNS_BYTES = 1024 * 1024
"""Room in an audited record for what it has beside these: 30 texts of 4 kB, one of 256 kB, findings."""

MAX_DEAD_LETTER_BYTES = MAX_AUDITED_BYTES + 64 * 1024
"""The original record, and headers that say why."""

_FOREVER = {"retention.ms": "-1", "retention.bytes": "-1"}
_CHANGELOG = {"cleanup.policy": "compact", "max.message.bytes": str(MAX_AUDITED_BYTES)}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and the settings it is created with."""

    name: str
    purpose: str
    config: Mapping[str, str] = field(default_factory=dict)


CATALOGUE: tuple[Topic, ...] = (
    Topic(
        EVENTS,
        "what the fleet emitted; key = instance_name; LogAppendTime is ingest_ts_utc",
        {
            **_FOREVER,
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_EVENT_BYTES),
        },
    ),
    Topic(
        AUDITED,
        "every raw offset once, in order, with its verdict",
        {**_FOREVER, "max.message.bytes": str(MAX_AUDITED_BYTES)},
    ),
    Topic(RISK, "a figure after every event that changed one", dict(_FOREVER)),
    Topic(ALERTS, "what a person should look at now", dict(_FOREVER)),
    Topic(PORTFOLIO, "what events change in portfolios; a portfolio has one partition", dict(_FOREVER)),
    Topic(PORTFOLIOS, "figures of portfolios after every change", dict(_FOREVER)),
    Topic(STATE, "changelog of what events are judged by", _CHANGELOG),
    Topic(PORTFOLIO_STATE, "changelog of the portfolios' books", _CHANGELOG),
    Topic(
        DEAD_LETTERS,
        "what a consumer group could not process: the original key and bytes; headers say why and where from",
        {**_FOREVER, "max.message.bytes": str(MAX_DEAD_LETTER_BYTES)},
    ),
)
