"""Has this event been taken in before? Exact for positioned sources, for ever; bounded for the rest (design, Ids)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from tradetape.processors.state import SEEN_CAPACITY, PartitionState, Seen, Slot, Watermark

NEW = ""
REPEATED = "repeated"
"""The same record of the same source came in again."""
DUPLICATE_ID = "duplicate_event_id"
"""The source wrote another record under an id that it had used."""

_NATIVE_IDS = frozenset({"envelope"})
"""Systems whose event ids are the producer's own: a position does not vouch for them."""


def check(event: Mapping[str, Any], state: PartitionState) -> str:
    """NEW, REPEATED or DUPLICATE_ID; remembers a new event."""
    position, source_id = event["source_position"], event["source_id"] or ""
    if position is not None and _at_or_below_watermark(position, source_id, event["source_stream"] or "", state):
        return REPEATED
    if position is None or event["source_system"] in _NATIVE_IDS:
        return _check_id(event["event_id"], source_id, position is not None, state)
    return NEW


def _at_or_below_watermark(position: int, source_id: str, stream: str, state: PartitionState) -> bool:
    watermark = state.get(Watermark, source_id, stream)
    if position <= watermark.position:
        return True
    watermark.position = position
    state.touch(watermark, source_id, stream)
    return False


def _check_id(event_id: str, source_id: str, positioned: bool, state: PartitionState) -> str:
    if not event_id:
        return NEW
    source = crc32(source_id.encode())
    seen = state.find(Seen, event_id)
    if seen is not None:
        return DUPLICATE_ID if positioned and seen.source == source else REPEATED
    slot_name = str(state.progress.seen_count % SEEN_CAPACITY)
    evicted = state.find(Slot, slot_name)
    if evicted is not None:
        state.forget(Seen, evicted.event_id)
    state.touch(Slot(event_id), slot_name)
    state.touch(Seen(source), event_id)
    state.progress.seen_count += 1
    return NEW
