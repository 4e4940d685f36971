"""How long a partition remembers, in microseconds of the broker's clock (LogAppendTime): what bounds its state.

Outputs follow from these numbers, so every worker and every replay of a log must have the same.

What comes after its horizon is taken for something new. An order: its executions are without an order, and an
execution that comes again without a position counts twice; an order that was open stays counted as open. An id that
events were tied by: what names it is unresolved. An event without a position: its repeat is accepted. A numbered
history: it is told as a gap from its first number. Sources with positions have no horizon: their repeats are known for
ever.
"""

from __future__ import annotations

from typing import NamedTuple

from tradetape.processors.clock import DAY, MINUTE


class Horizons(NamedTuple):
    """Microseconds since the last event about a record; ``bucket`` is the precision with which they are kept."""

    bucket: int = 10 * MINUTE
    closed_order: int = 7 * DAY
    open_order: int = 90 * DAY
    link: int = 30 * DAY
    """Ids of payloads (client_order_id, signal_id, …) that tie events of legacy sources into chains."""
    cause: int = DAY
    """Ids of events that later ones may name as their cause."""
    seen_id: int = DAY
    """Ids of events without a position."""
    history: int = 90 * DAY
    """Numbering of a run or an aggregate."""


DEFAULT = Horizons()
