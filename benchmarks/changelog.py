"""What the worker's changelogs hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import stack
from tradetape.schemas import topics

TOPICS = (topics.STATE, topics.PORTFOLIO_STATE)

Places = Mapping[str, Mapping[int, int]]
"""Offsets by topic and partition."""


@dataclass(frozen=True, slots=True)
class Contents:
    """``records`` and ``written`` (bytes of keys and values, uncompressed) from some place on; state as a whole."""

    records: int
    written: int
    keys: int
    state_bytes: int


def ends(bootstrap_servers: str) -> Places:
    """Where the changelogs end now."""
    found = stack.Ends(bootstrap_servers)
    return {topic: found.of(topic) for topic in TOPICS}


def contents(bootstrap_servers: str, since: Places | None = None) -> Contents:
    """Count what was written ``since``, by default ever, and the state that all of it comes to."""
    records = written = 0
    state: dict[tuple[str, bytes], int] = {}
    for topic in TOPICS:
        begins = since[topic] if since else {}
        for message in stack.read(bootstrap_servers, topic):
            key, value = message.key(), message.value()
            size = len(key) + len(value or b"")
            if message.offset() >= begins.get(message.partition(), 0):
                records += 1
                written += size
            if value is None:
                state.pop((topic, key), None)
            else:
                state[topic, key] = size
    return Contents(records, written, len(state), sum(state.values()))
