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
    """NEW, REPEATED or DUPLICATE_ID. Takes note of a new position; of an id only ``remember`` does."""
    position, source_id = event["source_position"], event["source_id"] or ""
    if position is not None and _at_or_below_watermark(position, source_id, event["source_stream"] or "", state):
        return REPEATED
    seen = state.find(Seen, event["event_id"]) if _known_by_id(event) else None
    if seen is None:
        return NEW
    return DUPLICATE_ID if position is not None and seen.source == crc32(source_id.encode()) else REPEATED


def remember(event: Mapping[str, Any], state: PartitionState) -> None:
    """Know an accepted event again by its id. A rejected one must not be: its correction comes under the same id."""
    if not _known_by_id(event):
        return
    slot_name = str(state.progress.seen_count % SEEN_CAPACITY)
    evicted = state.find(Slot, slot_name)
    if evicted is not None:
        state.forget(Seen, evicted.event_id)
    state.touch(Slot(event["event_id"]), slot_name)
    state.touch(Seen(crc32((event["source_id"] or "").encode())), event["event_id"])
    state.progress.seen_count += 1


def _known_by_id(event: Mapping[str, Any]) -> bool:
    return bool(event["event_id"]) and (event["source_position"] is None or event["source_system"] in _NATIVE_IDS)


def _at_or_below_watermark(position: int, source_id: str, stream: str, state: PartitionState) -> bool:
    watermark = state.get(Watermark, source_id, stream)
    if position <= watermark.position:
        return True
    watermark.position = position
    state.touch(watermark, source_id, stream)
    return False
