"""The order in which deltas of several partitions became the figures of a book (P-02, N-05, decision 10). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Book = tuple[str, str, str]
"""Environment, portfolio and quote asset."""


class Place(NamedTuple):
    """Where a delta lies, and the figure that it became."""

    raw_partition: int
    raw_offset: int
    derived_seq: int


def book_of(record: Mapping[str, Any]) -> Book:
    """The book of a delta or figure."""
    return record["environment"], record["portfolio"], record["quote_asset"]


def place_of(record: Mapping[str, Any]) -> Place:
    """The place of a delta or figure."""
    return Place(record["raw_partition"], record["raw_offset"], record["derived_seq"])


def in_order(deltas: Iterable[tuple[Place, int]], recorded: Mapping[Place, int]) -> list[Place]:
    """The places of one book's ``deltas``, given with their ingest times, each partition's in its order.

    ``recorded`` is the ``book_seq`` of the figures that are stored. A delta without one follows those of its partition
    before it; what that leaves open, its ingest time decides, then its partition.
    """
    return [place for _, place in sorted(_keyed(deltas, recorded))]


def _keyed(
    deltas: Iterable[tuple[Place, int]], recorded: Mapping[Place, int]
) -> Iterator[tuple[tuple[int, bool, int], Place]]:
    reached: dict[int, int] = {}
    taken_in: dict[int, int] = {}
    for place, ingest_ts_utc in deltas:
        partition = place.raw_partition
        number = reached[partition] = max(reached.get(partition, 0), recorded.get(place, 0))
        # A broker's clock that is set back moves no delta before one of its own partition.
        taken_in[partition] = max(taken_in.get(partition, 0), ingest_ts_utc)
        yield (number, place not in recorded, taken_in[partition]), place
