"""Has this event been taken in before? Exact for positioned sources, for ever; bounded for the rest (design, Ids)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from zlib import crc32

from tradetape.processors import expiry, references
from tradetape.processors.reading import RawRecord
from tradetape.processors.state import PartitionState, Record

NEW = ""
REPEATED = "repeated"
"""The same record of the same source came in again."""
DUPLICATE_ID = "duplicate_event_id"
"""The source wrote another record under an id that it had used."""

SEEN_CAPACITY = 200_000
"""Ids of positionless events remembered per partition at most: at 100 such events a second, the last half hour."""

EVICTED_PER_EVENT = 2
"""An event adds one id, so the queue shrinks while there is something to forget."""

_NATIVE_IDS = frozenset({"envelope"})
"""Systems whose event ids are the producer's own: a position does not vouch for them."""


class Watermark(Record):
    """The highest source_position taken in of one (source_id, source_stream), kept by the digest of the two."""

    KEY: ClassVar[str] = "w"

    position: int = -1


class Seen(Record):
    """Where an id was first seen: the checksum of its source_id."""

    KEY: ClassVar[str] = "s"

    source: int = 0


class Slot(Record):
    """One place of the queue of seen ids: the id, and when it came in (LogAppendTime, microseconds)."""

    KEY: ClassVar[str] = "r"

    event_id: str = ""
    since: int = 0


def check(event: Mapping[str, Any], state: PartitionState) -> str:
    """NEW, REPEATED or DUPLICATE_ID. Takes note of a new position; of an id only ``remember`` does."""
    position, source_id = event["source_position"], event["source_id"] or ""
    if position is not None and _at_or_below_watermark(position, source_id, event["source_stream"] or "", state):
        return REPEATED
    seen = state.find(Seen, event["event_id"]) if _known_by_id(event) else None
    if seen is None:
        return NEW
    return DUPLICATE_ID if position is not None and seen.source == crc32(source_id.encode()) else REPEATED


def remember(raw: RawRecord, event: Mapping[str, Any], state: PartitionState) -> None:
    """Know an accepted event again by its id, for ``Horizons.seen_id`` or until SEEN_CAPACITY more came.

    A rejected one must not be: its correction comes under the same id.
    """
    if not _known_by_id(event):
        return
    progress = state.progress
    state.touch(Slot(event["event_id"], raw.timestamp), str(progress.seen_count))
    state.touch(Seen(crc32((event["source_id"] or "").encode())), event["event_id"])
    progress.seen_count += 1
    for _ in range(EVICTED_PER_EVENT):
        name = str(progress.seen_first)
        oldest = state.get(Slot, name)
        in_time = raw.timestamp - oldest.since <= state.horizons.seen_id
        if in_time and progress.seen_count - progress.seen_first <= SEEN_CAPACITY:
            break
        state.forget(Seen, oldest.event_id)
        state.forget(Slot, name)
        progress.seen_first += 1
        expiry.count(state, "seen id" if not in_time else "seen id above capacity")


def _known_by_id(event: Mapping[str, Any]) -> bool:
    return bool(event["event_id"]) and (event["source_position"] is None or event["source_system"] in _NATIVE_IDS)


def _at_or_below_watermark(position: int, source_id: str, stream: str, state: PartitionState) -> bool:
    name = references.place("", (source_id, stream))
    watermark = state.get(Watermark, name)
    if position <= watermark.position:
        return True
    watermark.position = position
    state.touch(watermark, name)
    return False
