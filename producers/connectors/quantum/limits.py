"""Rate limits of Quantum's streams (S4-03): what is over a limit is counted, and told, not lost silently. Pure.

A window is one second of entry ids, by stream and symbol, so the same entries give the same answer whenever they are
read. It is over when a later second of its stream is seen, or when the server's clock says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tradetape.producers.adapters.quantum_entries import EntryId, type_of

LIMITS: Mapping[str, int] = {"market.tick.price": 10}
"""Entries a second and symbol that are recorded, by native type. All others are recorded without a limit."""

SECOND = 1000


class Excess(NamedTuple):
    """``dropped`` entries of ``stream`` over the limit in one second, for one symbol."""

    stream: str
    symbol: str
    limit: int
    dropped: int
    first: EntryId
    last: EntryId


@dataclass(slots=True)
class _Window:
    second: int
    passed: int = 0
    dropped: int = 0
    first: EntryId | None = None
    last: EntryId | None = None


@dataclass(slots=True)
class RateLimits:
    """The windows of one source."""

    limits: Mapping[str, int] = field(default_factory=lambda: LIMITS)
    _windows: dict[str, dict[str, _Window]] = field(default_factory=dict)

    def limit_of(self, stream: str) -> int | None:
        """Entries a second and symbol, None where there is no limit."""
        return self.limits.get(type_of(stream))

    def has_room(self, stream: str, symbol: str, entry_id: EntryId) -> bool:
        """Whether the entry is within its limit; nothing is counted."""
        limit = self.limit_of(stream)
        window = self._windows.get(stream, {}).get(symbol)
        is_new = window is None or window.second < entry_id.ms // SECOND
        return limit is None or (limit > 0 if is_new or window is None else window.passed < limit)

    def take(self, stream: str, symbol: str, entry_id: EntryId) -> list[Excess]:
        """Count the entry; returns the windows that end with it."""
        limit = self.limit_of(stream)
        if limit is None:
            return []
        over = self.close(stream, entry_id.ms // SECOND)
        window = self._windows.setdefault(stream, {}).setdefault(symbol, _Window(entry_id.ms // SECOND))
        if window.passed < limit:
            window.passed += 1
        else:
            window.dropped += 1
            window.first, window.last = window.first or entry_id, entry_id
        return over

    def close(self, stream: str, second: int) -> list[Excess]:
        """End the windows of ``stream`` before ``second``: those that dropped something."""
        windows = self._windows.get(stream)
        if not windows:
            return []
        ended = {symbol: window for symbol, window in windows.items() if window.second < second}
        for symbol in ended:
            del windows[symbol]
        limit = self.limit_of(stream) or 0
        return [
            Excess(stream, symbol, limit, window.dropped, window.first, window.last)
            for symbol, window in ended.items()
            if window.first is not None and window.last is not None
        ]

    def streams(self) -> Sequence[str]:
        """Streams with a window that is not over."""
        return [stream for stream, windows in self._windows.items() if windows]

    def dropping(self) -> Iterator[tuple[str, int]]:
        """Stream and second of the open windows that dropped something."""
        for stream, windows in self._windows.items():
            yield from ((stream, window.second) for window in windows.values() if window.dropped)

    def saved(self) -> list[list[Any]]:
        """The open windows, as JSON."""
        return [
            [stream, symbol, window.second, window.passed, window.dropped, _text(window.first), _text(window.last)]
            for stream, windows in self._windows.items()
            for symbol, window in windows.items()
        ]

    def restore(self, saved: Sequence[Sequence[Any]]) -> None:
        """Go on with the windows of a checkpoint."""
        for stream, symbol, second, passed, dropped, first, last in saved:
            window = _Window(second, passed, dropped, _id(first), _id(last))
            self._windows.setdefault(stream, {})[symbol] = window


def _text(entry_id: EntryId | None) -> str:
    return "" if entry_id is None else str(entry_id)


def _id(text: str) -> EntryId | None:
    return EntryId.of(text) if text else None
