"""What the first record of an order or a position says of it, for the later records that do not say it again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from tradetape.producers.adapters import catalyst as adapter
from tradetape.producers.connectors.catalyst.store import Numbered, Row, Store

CAPACITY = 10_000
"""Orders and positions remembered; of others the store is asked, by its index on the aggregate."""

Key = tuple[Any, Any]


class _Known(NamedTuple):
    """The opening of an aggregate at ``rowid``; where ``related`` is empty, none up to there."""

    rowid: int
    related: Mapping[str, Any]


class Openings:
    """Openings by aggregate, bounded.

    What a row gets depends on the rows before it in the log alone, never on how far the reading got.
    """

    def __init__(self, store: Store, capacity: int = CAPACITY) -> None:
        self._store = store
        self._capacity = capacity
        self._known: OrderedDict[Key, _Known] = OrderedDict()

    def forget(self) -> None:
        """The rows were renumbered."""
        self._known.clear()

    def of(self, numbered: Numbered) -> Mapping[str, Any]:
        """What the store says of the order or the position that this row belongs to; empty where it says nothing."""
        rowid, row = numbered
        key = (row["aggregate_type"], row["aggregate_id"])
        if not adapter.opener(row) or not all(isinstance(part, str | int) for part in key):
            return {}
        known = self._known.get(key)
        if known is None or (not known.related and known.rowid < rowid - 1):
            known = self._look_up(row, key, 0 if known is None else known.rowid, rowid)
            self._known[key] = known
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return known.related if known.rowid < rowid else {}

    def _look_up(self, row: Row, key: Key, after: int, before: int) -> _Known:
        wanted = adapter.opener(row)
        for rowid, earlier in self._store.history(*key, after=after, before=before):
            if adapter.native_type(earlier["event_type"]) == wanted:
                related = adapter.opening(earlier)
                if related.get("ticker"):
                    return _Known(rowid, related)
        return _Known(before - 1, {})
