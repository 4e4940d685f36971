"""A source's own records against the rows stored of it: counted by type, compared one by one (S3-09, S3-11, N-03).

Who is who is decided by the event's id, and among records of one id by their position, then by what they say. Pure:
native records are read twice at most, the second time for the values of those that differ, so that only a digest of
each is held.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tradetape.sinks.reconciliation.differences import Difference, Values
from tradetape.sinks.reconciliation.records import UNMAPPED, Record

MISSING, UNEXPECTED, CHANGED, NOT_ACCEPTED = "missing", "unexpected", "changed", "not_accepted"
"""A native record that is not stored · a stored one that the source does not have · both, with other values · stored
as a duplicate, and what it repeats is nowhere accepted."""

ACCEPTED, DUPLICATE, REJECTED = "accepted", "duplicate", "rejected"
_MOVES = frozenset({"ts_utc", "native_type", "native_event_id", "payload.executed_ts_utc"})


class Ways(NamedTuple):
    """What a kind of store does to its own records, without anything being wrong.

    ``forgets``: old records go (trimmed streams, deleted log files), oldest first in a stream. ``has_fragments``: the
    end of its last line may not be written yet. ``fills_in``: values that it adds to a record later. ``replaces``:
    event types of which only the latest version is kept. ``overtakes``: what a look found unconfirmed is part of
    another record at a later look (Hummingbot's fills and orders).
    """

    forgets: bool = False
    has_fragments: bool = False
    fills_in: frozenset[str] = frozenset()
    replaces: frozenset[str] = frozenset()
    overtakes: bool = False


@dataclass(slots=True)
class Tally:
    """Records of one native type. ``accepted`` to ``missing`` add up to ``native``; ``unexpected`` are stored alone.

    ``expired`` and ``overtaken`` are stored and no longer in the source, as its ways are: no difference.
    """

    native: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    missing: int = 0
    unexpected: int = 0
    changed: int = 0
    expired: int = 0
    overtaken: int = 0


@dataclass(slots=True)
class Outcome:
    """What a comparison found. ``repeats`` are rows beyond the one that stands for a record: deliveries that came
    twice, and refused attempts at what was accepted in the end. ``filled_in`` are records to which the source added
    values later.
    """

    by_native_type: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    native_events: Counter[str] = field(default_factory=Counter)
    stored_events: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    repeats: int = 0
    filled_in: int = 0

    def deltas(self) -> dict[str, tuple[int, int, int]]:
        """By canonical type: native, stored (without what expired or was overtaken), and native − stored."""
        names = sorted(self.native_events.keys() | self.stored_events.keys())
        counts = {name: (self.native_events[name], self.stored_events[name]) for name in names}
        return {name: (native, stored, native - stored) for name, (native, stored) in counts.items()}


Elsewhere = Callable[[Sequence[Record]], set[str]]
"""Of native records that are stored as duplicates alone: the event ids for which another accepted row stands."""


class _Seen:
    """A native record of which only a digest is kept; ``state`` is its disposition once a row was found."""

    __slots__ = ("chain", "digest", "event_type", "native_type", "place", "position", "state", "stream")

    def __init__(self, record: Record) -> None:
        self.stream, self.position, self.chain = record.stream, record.position, record.chain
        self.digest, self.place = record.digest, record.place
        self.event_type, self.native_type = record.event_type, record.native_type
        self.state = ""

    @property
    def is_settled(self) -> bool:
        return self.state in (ACCEPTED, REJECTED)

    def difference(self, kind: str, key: _Key) -> Difference:
        return Difference(kind, *key, label=self.event_type, native_place=self.place, content=self.digest.hex())


_Key = tuple[str, str]
"""Source and event id."""

_Place = tuple[str, str, int | None, bytes]
"""Of a native record: key, position and digest."""


def compare(
    native: Callable[[], Iterable[Record]],
    stored: Callable[[], Iterable[Record]],
    elsewhere: Elsewhere,
    ways: Ways,
) -> Outcome:
    """Compare all of a source. ``native`` reads it from its beginning whenever it is called; ``stored`` is called after
    that, so that what was read can be there, and gives accepted rows first, then rejected ones, then duplicates.
    """
    comparison = _Comparison(ways)
    for record in native():
        comparison.take_native(record)
    for record in stored():
        comparison.take_stored(record)
    return comparison.finish(native, elsewhere)


class _Comparison:
    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._outcome = Outcome()
        self._seen: dict[_Key, list[_Seen]] = {}
        self._first: dict[tuple[str, str], int] = {}
        self._places: set[tuple[str, str, int]] = set()
        self._chains: set[str] = set()
        self._changed: dict[_Place, list[Record]] = {}

    def take_native(self, record: Record) -> None:
        if self._is_fragment(record):
            return
        seen = _Seen(record)
        self._seen.setdefault((record.source_id, record.event_id), []).append(seen)
        self._outcome.native_events[record.event_type] += 1
        self._tally(record).native += 1
        if record.position is not None:
            stream = record.source_id, record.stream
            self._first[stream] = min(record.position, self._first.get(stream, record.position))
        if self._ways.overtakes:
            if record.position is not None:
                self._places.add((record.source_id, record.stream, record.position))
            if record.event_type == "order_created":
                self._chains.add(record.chain)

    def take_stored(self, record: Record) -> None:
        if self._is_fragment(record):
            return
        candidates = self._seen.get((record.source_id, record.event_id), [])
        if record.disposition == DUPLICATE:
            self._take_duplicate(record, candidates)
            return
        digest = record.digest
        seen = _best([each for each in candidates if not each.is_settled], record.position, digest)
        if seen is not None:
            self._settle_row(record, seen, digest)
        elif record.disposition == REJECTED and candidates:
            self._outcome.repeats += 1
        else:
            self._take_unexpected(self._left_over(record, candidates, digest))

    def _left_over(self, record: Record, candidates: Sequence[_Seen], digest: bytes) -> Record:
        """The row that nothing stands behind: ``record``, or an earlier one that took the place of what it says."""
        for seen in candidates:
            waiting = self._changed.get(_stands_for(record, seen))
            if waiting and seen.digest == digest and not _other_chain(seen.chain, record):
                return waiting.pop()
        return record

    def _settle_row(self, record: Record, seen: _Seen, digest: bytes) -> None:
        seen.state = record.disposition
        self._outcome.stored_events[record.event_type] += 1
        tally = self._outcome.by_native_type[seen.native_type or seen.event_type]
        if record.disposition == ACCEPTED:
            tally.accepted += 1
        else:
            tally.rejected += 1
        if seen.digest != digest or _other_chain(seen.chain, record):
            self._changed.setdefault(_stands_for(record, seen), []).append(record)

    def _take_duplicate(self, record: Record, candidates: Sequence[_Seen]) -> None:
        digest = record.digest
        seen = _best([each for each in candidates if not each.state], record.position, digest)
        if seen is None:
            self._outcome.repeats += 1
            return
        seen.state = DUPLICATE
        if seen.digest != digest and record.event_type != UNMAPPED:  # whose bytes a duplicate does not keep
            self._changed.setdefault(_stands_for(record, seen), []).append(record)

    def _take_unexpected(self, record: Record) -> None:
        tally = self._tally(record)
        if self._is_expired(record):
            tally.expired += 1
        elif self._is_overtaken(record):
            tally.overtaken += 1
        else:
            tally.unexpected += 1
            self._outcome.stored_events[record.event_type] += 1
            self._outcome.differences.append(
                Difference(
                    UNEXPECTED,
                    record.source_id,
                    record.event_id,
                    label=record.event_type,
                    native_place=f"{record.stream} {_or_nothing(record.position)}".strip(),
                    stored_place=record.place,
                    content=record.digest.hex(),
                )
            )

    def _is_expired(self, record: Record) -> bool:
        first = self._first.get((record.source_id, record.stream))
        return self._ways.forgets and record.position is not None and (first is None or record.position < first)

    def _is_overtaken(self, record: Record) -> bool:
        if record.event_type in self._ways.replaces:
            return True
        if not self._ways.overtakes:
            return False
        if record.event_type == "order_snapshot":
            return record.chain in self._chains
        place = (record.source_id, record.stream, -1 if record.position is None else record.position)
        return record.event_type == "order_status" and place in self._places

    def _is_fragment(self, record: Record) -> bool:
        return self._ways.has_fragments and record.position is None

    def _tally(self, record: Record) -> Tally:
        return self._outcome.by_native_type[record.native_type or record.event_type]

    def finish(self, native: Callable[[], Iterable[Record]], elsewhere: Elsewhere) -> Outcome:
        """Everything was taken: what is left over, and the values of what differs."""
        repeated: dict[_Key, list[_Seen]] = {}
        for key, seen in self._seen.items():
            is_settled = any(each.is_settled for each in seen)
            for each in seen:
                if not each.state:
                    self._take_missing(key, each)
                elif not each.is_settled and is_settled:
                    self._settle_duplicate(each)
                elif not each.is_settled:
                    repeated.setdefault(key, []).append(each)
        if self._changed or repeated:
            asked = []
            for record in native():
                self._take_again(record)
                if (record.source_id, record.event_id) in repeated:
                    asked.append(record)
            self._settle(repeated, elsewhere(asked) if asked else set())
        for record in (record for left in self._changed.values() for record in left):
            self._take_changed(record, "", ())
        self._outcome.differences.sort(key=lambda found: (found.kind, found.subject, found.native_place, found.item))
        return self._outcome

    def _take_missing(self, key: _Key, seen: _Seen) -> None:
        self._outcome.by_native_type[seen.native_type or seen.event_type].missing += 1
        self._outcome.differences.append(seen.difference(MISSING, key))

    def _settle_duplicate(self, seen: _Seen) -> None:
        self._outcome.by_native_type[seen.native_type or seen.event_type].duplicate += 1
        self._outcome.stored_events[seen.event_type] += 1

    def _settle(self, repeated: dict[_Key, list[_Seen]], known: set[str]) -> None:
        for key, each in ((key, each) for key, seen in repeated.items() for each in seen):
            self._settle_duplicate(each)
            if key[1] not in known:
                self._outcome.differences.append(each.difference(NOT_ACCEPTED, key))

    def _take_again(self, record: Record) -> None:
        key = (record.source_id, record.event_id, record.position, record.digest)
        waiting = self._changed.get(key)
        if not waiting:
            return
        stored = waiting.pop(0)
        values = tuple(self._values(record, stored))
        if values:
            self._take_changed(stored, record.place, values)
        else:
            self._outcome.filled_in += 1

    def _take_changed(self, stored: Record, native_place: str, values: Values) -> None:
        """Without ``values`` the native record changed once more while it was compared."""
        self._tally(stored).changed += 1
        self._outcome.differences.append(
            Difference(
                CHANGED,
                stored.source_id,
                stored.event_id,
                label=stored.event_type,
                native_place=native_place,
                stored_place=stored.place,
                values=values,
            )
        )

    def _values(self, native: Record, stored: Record) -> Iterator[tuple[str, str | None, str | None]]:
        has_moved = self._ways.overtakes and native.stream != stored.stream
        for name in sorted(native.fields.keys() | stored.fields.keys()):
            one, other = native.fields.get(name), stored.fields.get(name)
            if one == other or (has_moved and name in _MOVES) or (other is None and name in self._ways.fills_in):
                continue
            yield name, one, other
        if _other_chain(native.chain, stored):
            yield "correlation_id", native.chain, stored.chain


def _stands_for(record: Record, seen: _Seen) -> _Place:
    """The native record that the row ``record`` stands for."""
    return record.source_id, record.event_id, seen.position, seen.digest


def _other_chain(chain: str, stored: Record) -> bool:
    """Whether the source names another chain. Where it names none, the chain that is stored was inferred."""
    return bool(chain) and stored.disposition == ACCEPTED and chain != stored.chain


def _best(candidates: Sequence[_Seen], position: int | None, digest: bytes) -> _Seen | None:
    """The one at ``position``, of several the one that says the same; else one that does; else the first."""
    return max(candidates, key=lambda seen: (seen.position == position, seen.digest == digest), default=None)


def _or_nothing(position: int | None) -> str:
    return "" if position is None else str(position)
