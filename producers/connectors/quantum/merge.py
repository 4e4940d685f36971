"""Several streams of one bot as one sequence, in the order of entry ids: pure.

The ids of all streams come from one server's clock, so their order is that of the bot's actions. An entry may be let go
when nothing before it can come any more: every stream was read beyond it, or read to its end at a server time that lies
more than ``settle`` behind it. Within a millisecond the flow of the document decides. What can be promised: each stream
keeps its own order always; entries of different streams keep theirs as long as ids are made by the server (``XADD *``);
ids that a bot makes itself are merged as far as they were there when they were read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tradetape.producers.adapters.quantum_entries import ZERO, EntryId, Fields, rank

Key = tuple[int, int, int]

SIZE_UNSEEN = 64 * 1024
"""Bytes that an entry is taken to have until one was seen: so the first read of a stream is a small one."""


class Missing(NamedTuple):
    """``entries`` (None: unknown how many) that are known to have been between ``after`` and ``before``."""

    reason: str
    entries: int | None
    after: EntryId
    before: EntryId
    detail: str


@dataclass(slots=True)
class Cursor:
    """How far a stream was taken: the last id, and how many entries it ever had up to there (None: not known).

    ``generation`` counts how often the stream was made anew with lower ids. After it was deleted, ``floor`` is the last
    id of the stream that was, until its first new entry shows whether its ids go on above that.
    """

    last: EntryId = ZERO
    added: int | None = 0
    generation: int = 0
    floor: EntryId = ZERO


class Item(NamedTuple):
    """One entry, or entries that are ``missing`` before or after ``entry_id``; ``then`` is the place behind it."""

    entry_id: EntryId
    fields: Fields
    missing: Missing | None
    then: Cursor


@dataclass(slots=True)
class Stream:
    """One stream: ``taken`` is what was let go, ``read`` what was read; what is between waits in ``items``.

    ``size``: bytes of one entry, about. ``more``: the last read did not reach its end. ``read_at_ms``: the server's
    time at the last read. ``rows``: entries let go, from the beginning.
    """

    name: str
    taken: Cursor = field(default_factory=Cursor)
    read: Cursor = field(default_factory=Cursor)
    items: deque[Item] = field(default_factory=deque)
    size: int = SIZE_UNSEEN
    more: bool = True
    read_at_ms: int = 0
    rows: int = 0
    order: int = 0

    def __post_init__(self) -> None:
        self.order = rank(self.name)

    def key(self, entry_id: EntryId) -> Key:
        """Place of an entry among those of all streams."""
        return entry_id.ms, self.order, entry_id.number

    def let_go(self) -> Item:
        """Take the next item; ``taken`` then speaks of it."""
        item = self.items.popleft()
        self.taken = item.then
        self.rows += item.missing is None
        return item


def next_stream(streams: Iterable[Stream], settle_ms: int, *, anything: bool = False) -> Stream | None:
    """The stream whose next item is the next of all and may go; None where nothing may yet.

    ``anything`` lets go of what has waited long enough for what may come before it.
    """
    first: Stream | None = None
    lowest: Key | None = None
    bound: Key | None = None
    settled: int | None = None
    for stream in streams:
        if stream.items:
            key = stream.key(stream.items[0].entry_id)
            if lowest is None or key < lowest:
                first, lowest = stream, key
        if stream.more:
            limit = stream.key(stream.items[-1].entry_id if stream.items else stream.read.last)
            bound = limit if bound is None else min(bound, limit)
        else:
            horizon = stream.read_at_ms - settle_ms
            settled = horizon if settled is None else min(settled, horizon)
    if first is None or lowest is None or (bound is not None and lowest > bound):
        return None
    if not anything and settled is not None and lowest[0] > settled:
        return None
    return first
