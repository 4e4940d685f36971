"""Deltas of several partitions in one order that follows from the record alone (decision 10). Pure.

The order in which ``tradetape.portfolio`` took them is in no row. Sums of portfolios do not depend on it; what follows
the way there does: the peak, and what counts on which day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from typing import Any

Delta = Mapping[str, Any]


def in_order(streams: Iterable[Iterable[Delta]]) -> Iterator[Delta]:
    """The deltas of all ``streams``, one a raw partition in its order: by when they were taken in, then by partition.

    A broker's clock that is set back moves no delta before one of its own partition.
    """
    for _, delta in merge(*map(_placed, streams), key=lambda placed: placed[0]):
        yield delta


def _placed(deltas: Iterable[Delta]) -> Iterator[tuple[tuple[int, int, int, int], Delta]]:
    taken_in = 0
    for delta in deltas:
        taken_in = max(taken_in, delta["ingest_ts_utc"])
        yield (taken_in, delta["raw_partition"], delta["raw_offset"], delta["derived_seq"]), delta
