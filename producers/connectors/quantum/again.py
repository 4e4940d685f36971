"""Quantum's streams read once more without a trace: no consumer group, no key, no acknowledgement (S3-11).

What a checkpoint would have told is taken from Redis: the database's name, and how often a stream was made anew. Of a
rate-limited stream that lost its head, the second in which it now begins is left out: which of its entries were within
the limit does not show any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from tradetape.producers.adapters import quantum as adapter
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.quantum_entries import EntryId, Fields
from tradetape.producers.connectors.quantum.limits import LIMITS, SECOND, RateLimits
from tradetape.producers.connectors.quantum.source import DEFAULTS
from tradetape.producers.connectors.quantum.store import Location, Store
from tradetape.producers.connectors.source import Lag
from tradetape.producers.events import Event
from tradetape.schemas.errors import TradetapeError

__all__ = ["DEFAULTS", "QuantumAgain", "fingerprint", "open_source"]

_PAGE = 500


def fingerprint(location: str) -> str:
    """The name of the database at ``location``. Raises TradetapeError, also where it has none: nothing was taken in."""
    store = Store(Location.of(location))
    try:
        found = store.source_id(make=False)
    finally:
        store.close()
    if not found:
        raise TradetapeError(
            "this database has no name yet: it was never taken in", hint="run `tradetape connect quantum` first"
        )
    return found


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> QuantumAgain:
    """The database at ``location``, for one reading; ``saved`` is not looked at. Raises TradetapeError."""
    where = Location.of(location)
    return QuantumAgain(Store(where), origin, {**LIMITS, **where.limits})


class QuantumAgain:
    """One database (``Source``), stream after stream; a reading has no place and no end event."""

    def __init__(self, store: Store, origin: Origin, limits: Mapping[str, int]) -> None:
        self.name = origin.instance_name
        self.source_id = origin.source_id
        self._store = store
        self._origin = origin
        self._limits = limits
        self._events = self._all()

    def poll(self, limit: int) -> Sequence[Event]:
        """The next events; see ``Source``."""
        return list(islice(self._events, limit))

    def state(self) -> dict[str, Any]:
        """Nothing: see the module."""
        return {}

    def acknowledge(self) -> None:
        """Nothing was handed out."""

    def lag(self) -> Lag:
        """Not known."""
        return Lag(None, None)

    def ended(self) -> Sequence[Event]:
        """None."""
        return ()

    def close(self) -> None:
        """Let the connection go."""
        self._store.close()

    def _all(self) -> Iterator[Event]:
        group = f"tradetape:{self._origin.source_id}"
        for name in self._store.known_streams():
            info = self._store.info(name)
            if info is None or not info.length:
                continue
            generation = self._store.generation(name, group)
            limits, unsure = RateLimits(self._limits), -1
            if limits.limit_of(name) is not None and info.first is not None and info.added > info.length:
                unsure = info.first.ms // SECOND
            for entry_id, fields in self._store.entries(name, _PAGE):
                if entry_id.ms // SECOND == unsure:
                    continue
                if self._is_within(limits, name, entry_id, fields):
                    yield adapter.from_entry(self._origin, name, entry_id, fields, generation=generation)

    @staticmethod
    def _is_within(limits: RateLimits, name: str, entry_id: EntryId, fields: Fields) -> bool:
        """Whether the entry's rate is within its limit, which is counted."""
        if limits.limit_of(name) is None:
            return True
        symbol = adapter.symbol_of(fields, name)
        has_room = limits.has_room(name, symbol, entry_id)
        limits.take(name, symbol, entry_id)
        return has_room
