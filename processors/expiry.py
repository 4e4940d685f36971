"""How a partition forgets: each record that expires is looked at again when its time is up (design, State).

A record carries the bucket of time in which an event last was about it. When it is new, one ``Due`` that names it is
filed under the bucket in which it could expire; when the partition's time passes that bucket, the record is forgotten,
or its ``Due`` is filed anew where it was touched since. A record that is over before its time stays, as one that lasts
no longer: forgotten and made again, it would have two. A few are looked at per event, so no event pays for many. What
was forgotten is counted and told once a bucket.

Time is the LogAppendTime of the records, never a clock; where it runs backwards, the partition's time stands still.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from tradetape.processors.horizons import Horizons
from tradetape.processors.state import PartitionState, Record

PER_EVENT = 32
"""Records looked at, and buckets passed, per event. An event makes fewer, so what is due is caught up with."""

KEEP_ALIVE = 8
"""A record that is only read is written again at most this often within its horizon."""


class Expiring(Record):
    """A record that is forgotten some time after ``bucket``, in which an event last was about it."""

    bucket: int = 0

    @abstractmethod
    def lasts(self, horizons: Horizons) -> int:
        """Microseconds from the last event about it until it is forgotten."""

    def looked_at(self, horizons: Horizons) -> int:
        """Microseconds after which it is looked at; less than it ``lasts`` where it may come to last less."""
        return self.lasts(horizons)

    @abstractmethod
    def called(self) -> str:
        """What it is counted as when it is forgotten; empty where nobody needs to be told."""


class Due(Record):
    """Entry (bucket, number): the record of kind ``kind`` with the state key ``name`` may have expired."""

    KEY: ClassVar[str] = "d"

    kind: str
    name: str


class Page(Record):
    """How many entries were filed under a bucket."""

    KEY: ClassVar[str] = "g"

    filed: int = 0


class Cursor(Record):
    """The first bucket that is not worked off, its first entry that is not, and what was forgotten but not told."""

    KEY: ClassVar[str] = "e"

    bucket: int = 0
    entry: int = 0
    forgotten: dict[str, int] = {}


Kinds = Mapping[str, type[Expiring]]
"""The kinds of records that expire, by KEY."""


def touch(state: PartitionState, record: Expiring, now: int, *parts: str) -> None:
    """``record`` is new or changed by an event of the time ``now``."""
    # One that was forgotten a moment ago, by the same event, has no entry either.
    is_new = state.find(type(record), *parts) is None
    record.bucket = max(now // state.horizons.bucket, record.bucket)
    state.touch(record, *parts)
    if is_new:
        cursor = state.get(Cursor)
        if not cursor.bucket:
            cursor.bucket = record.bucket
            state.touch(cursor)
        _file(state, cursor, record, Due(record.KEY, state.name(*parts)))


def keep(state: PartitionState, record: Expiring, now: int, *parts: str) -> None:
    """``record`` was of use at the time ``now``: it is written again if it was not for part of its horizon."""
    if now - record.bucket * state.horizons.bucket > record.lasts(state.horizons) // KEEP_ALIVE:
        touch(state, record, now, *parts)


def count(state: PartitionState, called: str) -> None:
    """One record was forgotten elsewhere; it is told with the others."""
    cursor = state.get(Cursor)
    cursor.forgotten[called] = cursor.forgotten.get(called, 0) + 1
    state.touch(cursor)


def work_off(state: PartitionState, now: int, kinds: Kinds) -> dict[str, int]:
    """Forget what has expired at ``now``; returns what was forgotten, by name, when a bucket is done."""
    cursor = state.get(Cursor)
    present = now // state.horizons.bucket
    if cursor.bucket >= present:
        return {}
    state.touch(cursor)
    if not cursor.bucket:
        cursor.bucket = present
        return {}
    told: dict[str, int] = {}
    for _ in range(PER_EVENT):
        if cursor.bucket >= present:
            break
        page = state.find(Page, str(cursor.bucket))
        if page is not None and cursor.entry < page.filed:
            _look_at(state, cursor, kinds)
            continue
        if page is not None:
            state.forget(Page, str(cursor.bucket))
        for called, number in cursor.forgotten.items():
            told[called] = told.get(called, 0) + number
        cursor.bucket, cursor.entry, cursor.forgotten = cursor.bucket + 1, 0, {}
    return told


def _look_at(state: PartitionState, cursor: Cursor, kinds: Kinds) -> None:
    place = (str(cursor.bucket), str(cursor.entry))
    cursor.entry += 1
    due = state.find(Due, *place)
    if due is None:
        return
    state.forget(Due, *place)
    record = state.find(kinds[due.kind], due.name)
    if record is None:
        return
    if _expires(state, record) > cursor.bucket:
        _file(state, cursor, record, due)
        return
    if called := record.called():
        cursor.forgotten[called] = cursor.forgotten.get(called, 0) + 1
    state.forget(kinds[due.kind], due.name)


def _expires(state: PartitionState, record: Expiring) -> int:
    """The bucket with whose end ``record`` has been left alone for its horizon."""
    return record.bucket + _buckets(state, record.lasts(state.horizons))


def _buckets(state: PartitionState, duration: int) -> int:
    return -(-duration // state.horizons.bucket)


def _file(state: PartitionState, cursor: Cursor, record: Expiring, due: Due) -> None:
    """File ``due`` under the bucket after which ``record`` is to be looked at."""
    first = max(record.bucket, cursor.bucket) + _buckets(state, record.looked_at(state.horizons))
    bucket = str(max(min(_expires(state, record), first), cursor.bucket + 1))
    page = state.get(Page, bucket)
    state.touch(due, bucket, str(page.filed))
    page.filed += 1
    state.touch(page, bucket)
