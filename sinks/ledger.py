"""Which records of a topic are new, which are repeats, and where one is missing (pure; G2, P-03).

Every record carries its identity in its key, the text ``raw_partition:raw_offset:derived_seq``. A worker that
crashed sends a stretch again: what is not beyond the last identity was written before, and the first one wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """Place of a record in what one raw partition caused; ordered."""

    raw_offset: int
    derived_seq: int


class Identity(NamedTuple):
    """A record's identity; its key as numbers."""

    raw_partition: int
    raw_offset: int
    derived_seq: int

    @property
    def position(self) -> Position:
        return Position(self.raw_offset, self.derived_seq)


class BadKey(ValueError):
    """A record's key is no identity, or one of another partition: the topic was written by something else."""


class Hole(Exception):
    """A raw offset is missing: nothing behind it may be committed."""

    def __init__(self, partition: int, expected: int, found: int) -> None:
        super().__init__(f"raw partition {partition}: offset {expected} is missing, found {found}")
        self.partition = partition
        self.expected = expected
        self.found = found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hole) and self.args == other.args

    __hash__ = Exception.__hash__


def parse_key(key: bytes | None) -> Identity:
    """The identity in ``key``. Raises BadKey."""
    # Digits and colons only: int() alone would take signs, spaces and underscores.
    if key and key.replace(b":", b"").isdigit():
        try:
            partition, raw_offset, derived_seq = key.split(b":")
            return Identity(int(partition), int(raw_offset), int(derived_seq))
        except ValueError as error:
            raise BadKey(f"{key!r} is no identity p:o:d") from error
    raise BadKey(f"{key!r} is no identity p:o:d")


@dataclass(frozen=True, slots=True)
class Sifted:
    """Outcome for a batch: indexes of the new records in order, the repeats dropped, the last identities after it."""

    fresh: Sequence[int]
    repeats: int
    last: Mapping[int, Position]


def sift(last: Mapping[int, Position], batch: Iterable[Identity], *, contiguous: bool) -> Sifted:
    """Sort ``batch`` into new records and repeats, given the ``last`` identity by raw partition.

    With ``contiguous`` the offsets at derived_seq 0 must follow each other without a hole; without it positions only
    rise. A raw partition that is not in ``last`` starts wherever its first record is. Raises Hole.
    """
    reached = dict(last)
    fresh: list[int] = []
    count = 0
    for index, (partition, raw_offset, derived_seq) in enumerate(batch):
        count += 1
        position = Position(raw_offset, derived_seq)
        before = reached.get(partition)
        if before is not None:
            if position <= before:
                continue
            # What an event caused follows the event itself.
            expected = before.raw_offset + (derived_seq == 0)
            if contiguous and raw_offset != expected:
                raise Hole(partition, before.raw_offset + 1, raw_offset)
        reached[partition] = position
        fresh.append(index)
    return Sifted(fresh, count - len(fresh), reached)


def check_start(partition: int, mark: Position | None, first: Identity) -> None:
    """Check that ``first``, the first record read of ``partition``, joins what is stored up to ``mark``.

    Raises Hole where an offset between the two is in neither.
    """
    expected = 0 if mark is None else mark.raw_offset + 1
    if first.raw_offset > expected:
        raise Hole(partition, expected, first.raw_offset)
