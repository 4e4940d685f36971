"""Named records that can also be listed: a partition's state finds a record by its name only.

Each entry has a place, 0 to count − 1, and a small ``Place`` record leads from there to its name. To put, change or
take one writes a few small records, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, TypeVar

from tradetape.processors.state import PartitionState, Record


class Entry(Record):
    """A record on a shelf: its place, and since when it is there, microseconds (its event's time)."""

    place: int = -1
    since: int = 0


class Place(Record):
    """The name of the entry at a place."""

    KEY: ClassVar[str] = "TS"

    name: str = ""


class Count(Record):
    """How many entries there are."""

    KEY: ClassVar[str] = "TK"

    entries: int = 0


E = TypeVar("E", bound=Entry)


def put(state: PartitionState, entry: Entry, name: str, *owner: str, most: int | None = None) -> str:
    """Put ``entry`` on the owner's shelf of its kind, in place of one of that name.

    ``most`` bounds the shelf, None does not. Returns the name of the oldest entry where it had to go, else an empty
    text.
    """
    kind = type(entry)
    known = state.find(kind, *owner, name)
    gone = ""
    if known is not None:
        entry.place = known.place
    else:
        count = state.get(Count, kind.KEY, *owner)
        if most is not None and count.entries >= most:
            gone = min(names_and_entries(state, kind, *owner), key=lambda item: (item[1].since, item[0]))[0]
            take(state, kind, gone, *owner)
            count = state.get(Count, kind.KEY, *owner)
        entry.place = count.entries
        state.touch(Place(name), kind.KEY, *owner, str(entry.place))
        count.entries += 1
        state.touch(count, kind.KEY, *owner)
    state.touch(entry, *owner, name)
    return gone


def take(state: PartitionState, kind: type[E], name: str, *owner: str) -> E | None:
    """Take the entry of that name off the shelf; the last one moves to its place."""
    entry = state.find(kind, *owner, name)
    if entry is None:
        return None
    count = state.get(Count, kind.KEY, *owner)
    count.entries -= 1
    if count.entries:
        state.touch(count, kind.KEY, *owner)
    else:
        state.forget(Count, kind.KEY, *owner)
    last = str(count.entries)
    if entry.place != count.entries:
        moved = state.get(Place, kind.KEY, *owner, last)
        other = state.get(kind, *owner, moved.name)
        other.place = entry.place
        state.touch(other, *owner, moved.name)
        state.touch(Place(moved.name), kind.KEY, *owner, str(entry.place))
    state.forget(Place, kind.KEY, *owner, last)
    state.forget(kind, *owner, name)
    return entry


def is_empty(state: PartitionState, kind: type[Entry], *owner: str) -> bool:
    """Whether nothing stands on the shelf."""
    return state.find(Count, kind.KEY, *owner) is None


def names_and_entries(state: PartitionState, kind: type[E], *owner: str) -> Iterator[tuple[str, E]]:
    """Every entry of the shelf with its name, in no order that means anything."""
    for place in range(state.get(Count, kind.KEY, *owner).entries):
        name = state.get(Place, kind.KEY, *owner, str(place)).name
        yield name, state.get(kind, *owner, name)
