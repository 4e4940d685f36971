"""A bot's streams on a real Valkey, and the connector opened on them as a test needs it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from tradetape.producers.adapters import quantum as adapter
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.quantum_entries import EntryId, Fields, rank
from tradetape.producers.connectors.quantum import source as quantum
from tradetape.producers.connectors.quantum.store import Location, Store
from tradetape.producers.events import Event

PAST = 1_714_564_800_000
"""Milliseconds of the first entry that tests write with ids of their own."""


def client_of(url: str) -> Any:
    return redis.Redis.from_url(url, decode_responses=True)


def tick(price: str = "1800", symbol: str = "ETHUSDT") -> dict[str, str]:
    return {"symbol": symbol, "price": price}


def origin_of(url: str, source_id: str = "") -> Origin:
    return Origin(source_id or quantum.fingerprint(url), "quantum1", "binance", "quantum", location="redis")


def opened(
    url: str, saved: dict[str, Any] | None = None, *, source_id: str = "", **injected: Any
) -> quantum.QuantumSource:
    """The connector on ``url``; ``saved`` is what its checkpoint would hold."""
    origin = origin_of(url, source_id)
    where = Location.of(url)
    store = Store(where, client_name=f"tradetape:{origin.source_id}")
    try:
        return quantum.QuantumSource(store, origin, saved, **injected)
    except BaseException:
        store.close()
        raise


def through(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as it comes back from its file."""
    loaded: dict[str, Any] = json.loads(json.dumps(state))
    return loaded


def drain(source: quantum.QuantumSource, limit: int = 2000) -> list[Event]:
    """Everything there is, acknowledged batch by batch."""
    found: list[Event] = []
    while polled := source.poll(limit):
        found += polled
        source.state()
        source.acknowledge()
    source.acknowledge()
    return found


def taken(url: str, saved: dict[str, Any] | None = None, **injected: Any) -> list[Event]:
    """Everything there is, by a connector that is closed again."""
    source = opened(url, saved, **injected)
    try:
        return drain(source)
    finally:
        source.close()


def place(event: Event) -> tuple[str, int]:
    return event["source_stream"], event["source_position"]


def entries_in_order(url: str) -> list[tuple[str, int]]:
    """Where the events of all entries must come from, in the order of ids."""
    client = client_of(url)
    streams = [name for name in client.scan_iter(_type="stream") if not name.startswith("tradetape.")]
    ids = [(name, EntryId.of(entry_id)) for name in streams for entry_id, _ in client.xrange(name)]
    ordered = sorted(ids, key=lambda each: (each[1].ms, rank(each[0]), each[1].number))
    return [(name, found.position or 0) for name, found in ordered]


def gaps(events: Iterable[Event], reason: str) -> list[dict[str, Any]]:
    return [e["payload"] for e in events if e["event_type"] == "system_gap" and e["payload"]["reason"] == reason]


class Failing:
    """An adapter that fails for entries of ``stream``, ``times`` times each."""

    def __init__(self, stream: str, times: int) -> None:
        self.stream = stream
        self.times = times
        self.calls: dict[EntryId, int] = {}

    def __call__(self, origin: Origin, stream: str, entry_id: EntryId, fields: Fields, **more: Any) -> Event:
        calls = self.calls[entry_id] = self.calls.get(entry_id, 0) + 1
        if stream == self.stream and calls <= self.times:
            raise KeyError(f"attempt {calls}")
        return adapter.from_entry(origin, stream, entry_id, fields, **more)


def positions(events: Sequence[Event]) -> list[tuple[str, int]]:
    return [place(event) for event in events if event["source_position"] is not None]
