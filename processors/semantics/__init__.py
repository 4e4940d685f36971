"""What an accepted event shows of itself: open questions, figures that do not add up, values untrue to life.

Contract rules reject (``schemas.rules``); these find, and never reject (S0-04, S0-05, N-07). Which of them an event
meets depends on its type alone, so that one with nothing to check costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradetape.processors.findings import Finding
from tradetape.processors.reading import RawRecord
from tradetape.processors.semantics import advice, context_rules, fidelity, five_questions, results
from tradetape.processors.state import PartitionState
from tradetape.schemas.catalogue import EventType


def observe(raw: RawRecord, event: Mapping[str, Any], event_type: EventType, state: PartitionState) -> list[Finding]:
    """The findings of an accepted ``event``."""
    found = fidelity.observe(raw, event)
    found += advice.observe(event)
    found += fidelity.observe_source(raw, event, event_type, state)
    if "context" in event_type.payload_keys:
        found += five_questions.observe(event)
        found += context_rules.observe(event)
    elif event_type.name in results.EVENTS:
        found += results.observe(event, state)
    if event_type.name == "order_filled":
        found += results.observe_execution(event)
    return found
