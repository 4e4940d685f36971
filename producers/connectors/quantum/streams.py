"""The streams of one Quantum source as they are read: the buffer, the place, and what is known to be missing (S4-10).

The server counts every entry that a stream ever had. What it counted between two places and did not give is missing:
trimmed at the head of the stream, or deleted in it. Both are counted exactly, whenever they happened since the
checkpoint; what was lost with a stream that was deleted is not known.
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


class Streams:
    """The streams of one consumer group, by name. ``unreadable``: keys that hold no stream, with why."""

    def __init__(self, store: Store, group: str, saved: dict[str, Any]) -> None:
        self.by_name: dict[str, Stream] = {}
        self.unreadable: dict[str, str] = {}
        self._store = store
        self._group = group
        self._saved = saved
        self._named = store.source_id(make=False)

    def attach(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Read these streams too, each from its checkpoint; returns those that cannot be, with why, if that is news."""
        news = []
        for name in names:
            if name in self.by_name:
                continue
            stream = _restored(name, self._saved.get(name))
            why = self._attach(stream)
            if not why:
                self.by_name[name] = stream
                self.unreadable.pop(name, None)
            elif self.unreadable.get(name) != why:
                self.unreadable[name] = why
                news.append((name, why))
        return news

    def read(self, count: int, *, at_end: bool) -> list[tuple[str, str]]:
        """Read ``count`` entries of each stream that has nothing buffered and may have more; with ``at_end`` also of
        those that were read to their end. Returns the streams that are none any more.
        """
        wanted = [s.name for s in self.by_name.values() if (not s.items and s.more) or (at_end and not s.more)]
        gone = []
        for name, read in self._store.read(wanted, self._group, count).items() if wanted else ():
            stream = self.by_name[name]
            stream.read_at_ms = read.at_ms
            if read.info is not None:
                _receive(stream, read, read.info, exhausted=len(read.entries) < count)
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
        if made and cursor.last > ZERO and self._is_another(stream.name, cursor, info):
            if self._store.source_id(make=False) != self._named:
                raise TradetapeError(
                    f"Redis at {self._store.shown} was emptied or replaced",
                    hint="it is another source from now on: start the connector again",
                )
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


def _receive(stream: Stream, read: Read, info: Info, *, exhausted: bool) -> None:
    cursor = stream.read
    if read.entries and read.entries[0][0] <= cursor.floor:
        # Its ids begin below those of the stream that was: only another name keeps the two apart.
        cursor = stream.read = replace(cursor, generation=cursor.generation + 1, floor=ZERO)
    elif read.entries:
        cursor.floor = ZERO
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


def _restored(name: str, saved: dict[str, Any] | None) -> Stream:
    if saved is None:
        return Stream(name)
    last, floor = EntryId.of(saved["last"]), EntryId.of(saved["floor"])
    cursor = Cursor(last, saved["added"], saved["generation"], floor)
    return Stream(name, taken=cursor, read=replace(cursor), rows=saved["rows"])
