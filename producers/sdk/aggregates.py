"""What an emitter remembers of the orders and positions that it emits events of: bounded, by last use. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

MOST_AGGREGATES = 100_000
"""Aggregates remembered: as many orders and positions that are open, and as many others."""

LATE = 1_000
"""Ended orders and positions of which the opening is remembered, for what comes after their end all the same."""

Key = tuple[str, str]
"""(aggregate_type, aggregate_id)"""


@dataclass(slots=True)
class Aggregate:
    """The number of its last event on record, and what its opening says; None where it has none."""

    number: int = 0
    opening: dict[str, Any] | None = None


class Aggregates:
    """Used last: ``most`` open orders and positions, ``most`` others; ``late`` openings of ended ones."""

    def __init__(self, most: int = MOST_AGGREGATES, late: int = LATE) -> None:
        self._most = most
        self._late = late
        self.open: OrderedDict[Key, Aggregate] = OrderedDict()
        self.others: OrderedDict[Key, Aggregate] = OrderedDict()
        self.ended: OrderedDict[Key, Aggregate] = OrderedDict()
        """Those of the others that have an opening, in the order of their ends."""

    def get(self, key: Key) -> Aggregate:
        """What is known of ``key``, which counts as a use of it; a new one is not remembered yet."""
        for kept in (self.open, self.others):
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        return Aggregate()

    def advance(self, key: Key, aggregate: Aggregate, opening: dict[str, Any] | None, *, ends: bool) -> Key | None:
        """``aggregate``, which ``get`` returned, has one more event on record, which may open or end it.

        Returns the key that was forgotten for it, None where there was room.
        """
        aggregate.number += 1
        if opening is not None:
            aggregate.opening = opening
            self.ended.pop(key, None)
        elif ends and aggregate.opening is not None and key not in self.ended:
            self.ended[key] = aggregate
            if len(self.ended) > self._late:
                self.ended.popitem(last=False)[1].opening = None
        is_open = aggregate.opening is not None and key not in self.ended
        kept, left = (self.open, self.others) if is_open else (self.others, self.open)
        left.pop(key, None)
        kept[key] = aggregate
        if len(kept) <= self._most:
            return None
        over, _ = kept.popitem(last=False)
        self.ended.pop(over, None)
        return over
