"""Is there an order of deltas that leads to these figures? (P-02, G3) Pure.

A portfolio's figures follow from the deltas of several raw partitions in the order in which ``tradetape.portfolio``
took them. Each partition's own order is known, how they were shuffled is not: it is found by folding, for the figure
after every delta is on record, and the next delta is one whose figure is the one on record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from tradetape.processors.portfolio import books
from tradetape.processors.portfolio.books import Book

LOOK_BACK = 64
"""Steps that may be taken back: where two deltas fit, the wrong one shows within a few."""
MOST_TRIES = 20_000
"""Folds without getting further, before it is taken for settled that there is no such order."""

E = TypeVar("E")
"""What stands for a delta: it is read when it is folded."""

Heads = dict[int, int]
"""How many deltas of each partition are folded."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Book).decode


class _Step(NamedTuple):
    heads: Heads
    book: bytes
    untried: Iterator[int]


class Interleaving(Generic[E]):
    """Looks for the order of ``queues``, the deltas of one book by raw partition.

    ``read`` gives a delta, ``when`` the time by which the likely next one is tried first, ``fits`` says whether the
    figure after a delta is the one on record.
    """

    def __init__(
        self,
        queues: Mapping[int, Sequence[E]],
        read: Callable[[E], Mapping[str, Any]],
        when: Callable[[E], int],
        fits: Callable[[E, Mapping[str, Any]], bool],
    ) -> None:
        self._queues = queues
        self._read, self._when, self._fits = read, when, fits
        self._total = sum(map(len, queues.values()))

    def broken_at(self) -> tuple[E, dict[str, Any]] | None:
        """None where there is such an order; else the first delta whose figure does not follow, and what does."""
        heads: Heads = dict.fromkeys(self._queues, 0)
        step = _Step(heads, _encode(Book()), self._likely(heads))
        taken: deque[_Step] = deque(maxlen=LOOK_BACK)
        furthest, reached, tries = step, 0, 0
        while sum(step.heads.values()) < self._total:
            following = self._next(step)
            tries += 1
            if following is not None:
                taken.append(step)
                step = following
                if sum(step.heads.values()) > reached:
                    furthest, reached, tries = step, sum(step.heads.values()), 0
            elif taken and tries < MOST_TRIES:
                step = taken.pop()
            else:
                return self._culprit(furthest)
        return None

    def _next(self, step: _Step) -> _Step | None:
        for partition in step.untried:
            entry = self._queues[partition][step.heads[partition]]
            book, figure = self._after(step.book, entry)
            if self._fits(entry, figure):
                return self._behind(step.heads, partition, book)
        return None

    def _culprit(self, step: _Step) -> tuple[E, dict[str, Any]]:
        """Of the deltas that might come next, the one after which it goes on, whatever its own figure on record."""
        waiting = list(self._likely(step.heads))
        for partition in waiting:
            entry = self._queues[partition][step.heads[partition]]
            book, figure = self._after(step.book, entry)
            behind = self._behind(step.heads, partition, book)
            if sum(behind.heads.values()) == self._total or self._next(behind) is not None:
                return entry, figure
        entry = self._queues[waiting[0]][step.heads[waiting[0]]]
        return entry, self._after(step.book, entry)[1]

    def _after(self, book: bytes, entry: E) -> tuple[bytes, dict[str, Any]]:
        copy = _decode(book)
        figure = books.after(copy, self._read(entry))
        return _encode(copy), figure

    def _behind(self, heads: Heads, partition: int, book: bytes) -> _Step:
        moved = {**heads, partition: heads[partition] + 1}
        return _Step(moved, book, self._likely(moved))

    def _likely(self, heads: Heads) -> Iterator[int]:
        """Partitions that have deltas left, the earliest next one first."""
        left = [partition for partition, head in heads.items() if head < len(self._queues[partition])]
        return iter(
            sorted(left, key=lambda partition: (self._when(self._queues[partition][heads[partition]]), partition))
        )
