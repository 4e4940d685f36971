"""What is known to be missing in Quantum's streams, as ``system_gap`` events: pure, the same for the same entries."""

from __future__ import annotations

from typing import Any

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.quantum import ADAPTER, stream_name
from tradetape.producers.adapters.quantum_entries import EntryId
from tradetape.producers.connectors.quantum.limits import Excess
from tradetape.producers.connectors.quantum.merge import Missing
from tradetape.producers.events import Event
from tradetape.schemas import times

_LONGEST_SYMBOL = 200


def missing(origin: Origin, stream: str, generation: int, found: Missing) -> Event:
    """Entries that were gone before they were read (S4-10)."""
    first, last = str(found.after), str(found.before)
    payload = {
        "stream": stream_name(stream, generation),
        "reason": found.reason,
        "count": found.entries,
        "first": first,
        "last": last,
        "detail": f"{found.detail}; after {first}, before {last}",
    }
    return _gap(origin, payload, first, last, at=found.before)


def excess(origin: Origin, found: Excess) -> Event:
    """Entries over a rate limit (S4-03)."""
    first, last = str(found.first), str(found.last)
    symbol = found.symbol.encode("utf-8", "backslashreplace").decode()
    payload = {
        "stream": found.stream,
        "reason": "rate_limited",
        "count": found.dropped,
        "first": first,
        "last": last,
        "detail": f"more than {found.limit} entries a second for {symbol[:_LONGEST_SYMBOL] or 'no symbol'}",
    }
    return _gap(origin, payload, symbol, first, last, at=found.first)


def unreadable(origin: Origin, stream: str, why: str, last: EntryId) -> Event:
    """A stream that is none; ``last`` was taken from it before."""
    payload = {"stream": stream, "reason": "unreadable", "first": str(last), "detail": why}
    return _gap(origin, payload, why, str(last), at=last)


def _gap(origin: Origin, payload: dict[str, Any], *key: str, at: EntryId) -> Event:
    micros = min(max(at.ms * 1000, times.EARLIEST), times.LATEST - 1)
    return ADAPTER.gap(origin, payload, *key, ts_utc=micros)
