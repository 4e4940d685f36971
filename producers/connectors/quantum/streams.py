"""The streams of one Quantum source as they are read: the buffer, the place, and what is known to be missing (S4-10).

The server counts every entry that a stream ever had. What it counted between two places and did not give is missing:
trimmed at the head of the stream, or deleted in it. Both are counted exactly, whenever they happened since the
checkpoint; what was lost with a stream that was deleted is not known.

A stream made anew with lower ids goes on under another name, its next *generation*. The checkpoint has it, and so has
Redis, for a connector that lost its checkpoint. One limit is left: the checkpoint lost between the deletion of a
stream and the first read of its new entries. Lower ids then pass for entries that are on record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tradetape.producers.adapters.quantum_entries import ZERO, EntryId
from tradetape.producers.connectors.quantum.merge import Cursor, Item, Missing, Stream
from tradetape.producers.connectors.quantum.store import Info, Read, Store
from tradetape.schemas.errors import TradetapeError

TRIMMED, REMOVED = "trimmed", "removed"

BATCH_BYTES = 32 * 1024 * 1024
"""Bytes of entries that all streams together buffer in one read, about, by the sizes of the entries seen before."""


class Streams:
    """The streams of one consumer group, by name. ``unreadable``: keys that hold no stream, with why. ``named`` is the
    database's name; ``was_named`` the one at the checkpoint, empty where that is not known.
    """

    def __init__(self, store: Store, group: str, saved: dict[str, Any], *, was_named: str = "") -> None:
        self.by_name: dict[str, Stream] = {}
        self.unreadable: dict[str, str] = {}
        self._store = store
        self._group = group
        self._saved = saved
        self.named = store.source_id(make=True)
        self._is_replaced = was_named not in ("", self.named)

    def attach(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Read these streams too, each from its checkpoint; returns those that cannot be, with why, if that is news."""
        news = []
        for name in names:
            if name in self.by_name:
                continue
            stream = self._restored(name)
            why = self._attach(stream)
            if not why:
                self.by_name[name] = stream
                self.unreadable.pop(name, None)
            elif self.unreadable.get(name) != why:
                self.unreadable[name] = why
                news.append((name, why))
        return news

    def read(self, most: int, *, at_end: bool) -> list[tuple[str, str]]:
        """Read up to ``most`` entries, and about its share of BATCH_BYTES, of each stream that has nothing buffered and
        may have more; with ``at_end`` also of those that were read to their end. Returns the streams that are none any
        more, with why.
        """
        wanted = [s for s in self.by_name.values() if (not s.items and s.more) or (at_end and not s.more)]
        share = BATCH_BYTES // max(1, len(self.by_name))
        counts = {stream.name: max(1, min(most, share // stream.size)) for stream in wanted}
        gone = []
        for name, read in self._store.read(counts, self._group).items() if counts else ():
            stream = self.by_name[name]
            stream.read_at_ms = read.at_ms
            if read.info is not None:
                self._receive(stream, read, read.info, exhausted=len(read.entries) < counts[name])
                continue
            why = self._attach(stream)
            stream.more = not why
            if why and not stream.items:
                del self.by_name[name]
                self._saved[name] = saved_stream(stream)
                self.unreadable[name] = why
                gone.append((name, why))
        return gone

    def last_of(self, name: str) -> EntryId:
        """The last entry taken of a stream, also of one that cannot be read now."""
        saved = self._saved.get(name)
        return self.by_name[name].taken.last if name in self.by_name else EntryId.of(saved["last"]) if saved else ZERO

    def saved(self) -> dict[str, Any]:
        """The checkpoint of all streams, also of those that cannot be read now."""
        return {**self._saved, **{name: saved_stream(stream) for name, stream in self.by_name.items()}}

    def _attach(self, stream: Stream) -> str:
        cursor = stream.read
        info = self._store.info(stream.name)
        made, why = self._store.make_group(stream.name, self._group, cursor.last)
        if why:
            return why
        if made and self._store.source_id(make=False) != self.named:
            raise TradetapeError(
                f"Redis at {self._store.shown} was emptied or replaced",
                hint="it is another source from now on: start the connector again",
            )
        if made and cursor.last > ZERO and (self._is_replaced or self._is_another(stream.name, cursor, info)):
            detail = "the stream was deleted: what was added and not read before that is not known"
            cursor = Cursor(added=0, generation=cursor.generation, floor=cursor.last)
            missing = Missing(REMOVED, None, stream.read.last, info.newest if info else stream.read.last, detail)
            stream.read = cursor
            _buffer(stream, stream.read.floor, missing)
        self._store.rewind(stream.name, self._group, cursor.last)
        return ""

    def _is_another(self, name: str, cursor: Cursor, info: Info | None) -> bool:
        """Whether a stream that lost our group is not the one that we read."""
        if info is None or (cursor.added is not None and info.added < cursor.added):
            return True
        may_be_trimmed = info.first is None or info.first > cursor.last or cursor.last <= info.deleted
        return not may_be_trimmed and not self._store.has_entry(name, cursor.last)

    def _restored(self, name: str) -> Stream:
        saved = self._saved.get(name)
        if saved is None:
            generation = self._store.generation(name, self._group)
            return Stream(name, taken=Cursor(generation=generation), read=Cursor(generation=generation))
        last, floor = EntryId.of(saved["last"]), EntryId.of(saved["floor"])
        cursor = Cursor(last, saved["added"], saved["generation"], floor)
        return Stream(name, taken=cursor, read=replace(cursor), rows=saved["rows"])

    def _receive(self, stream: Stream, read: Read, info: Info, *, exhausted: bool) -> None:
        cursor = stream.read
        if read.entries and read.entries[0][0] <= cursor.floor:
            # Its ids begin below those of the stream that was: only another name keeps the two apart.
            stream.read = replace(cursor, generation=cursor.generation + 1, floor=ZERO)
            self._store.keep_generation(stream.name, self._group, stream.read.generation)
        elif read.entries:
            cursor.floor = ZERO
        _measure(stream, read)
        _take_over(stream, read, info, exhausted=exhausted)


def _measure(stream: Stream, read: Read) -> None:
    """Bigger entries count at once, smaller ones by and by: a stream may have both."""
    if read.entries:
        total = sum(len(part) for _, fields in read.entries for pair in fields for part in pair)
        mean = total // len(read.entries) + 1
        stream.size = max(mean, (stream.size + mean) // 2)


def _take_over(stream: Stream, read: Read, info: Info, *, exhausted: bool) -> None:
    cursor = stream.read
    if cursor.added is not None and info.added < cursor.added:
        detail = "the server lost entries that it had: it was restored, or stopped before they were on its disk"
        cursor.added = None
        _buffer(stream, cursor.last, Missing(REMOVED, None, cursor.last, info.newest, detail))
    _find_trimmed(stream, info)
    for entry_id, fields in read.entries:
        cursor.last = entry_id
        cursor.added = None if cursor.added is None else cursor.added + 1
        stream.items.append(Item(entry_id, fields, None, replace(cursor)))
    stream.more = not exhausted
    if exhausted:
        missed = 0 if cursor.added is None else info.added - cursor.added
        cursor.added = info.added
        if missed > 0:
            before = max(info.newest, cursor.last)
            _buffer(
                stream,
                cursor.last,
                Missing(REMOVED, missed, stream.taken.last, before, "deleted before they were read"),
            )


def _find_trimmed(stream: Stream, info: Info) -> None:
    """Entries between our place and the first that is left."""
    cursor = stream.read
    if cursor.added is None or (info.first is not None and info.first <= cursor.last):
        return
    missed = info.added - info.length - cursor.added
    if missed > 0:
        before = info.first or info.newest
        cursor.added += missed
        _buffer(stream, before, Missing(TRIMMED, missed, cursor.last, before, "trimmed before they were read"))


def _buffer(stream: Stream, place: EntryId, missing: Missing) -> None:
    stream.items.append(Item(place, (), missing, replace(stream.read)))


def saved_stream(stream: Stream) -> dict[str, Any]:
    """The checkpoint of one stream, as JSON."""
    taken = stream.taken
    return {
        "last": str(taken.last),
        "added": taken.added,
        "generation": taken.generation,
        "floor": str(taken.floor),
        "rows": stream.rows,
    }
