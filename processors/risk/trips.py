"""Losses in a row: round trips of all positions of an account, in the order in which they ended (P-02, S2-03).

A round trip ends when its position is flat or turns over; it is a loss where what it realised, less fees in quote, is
below zero. The last TRIPS are kept, so that a late execution may change them; of older ones only their row of losses.
"""

from __future__ import annotations

from typing import ClassVar

from tradetape.processors.risk.history import Folded
from tradetape.processors.state import PartitionState, Record

TRIPS = 32


class Trips(Record):
    """Ended round trips as (time, position, number of the execution, is a loss); ``before`` are losses in a row when
    the first of them ended.
    """

    KEY: ClassVar[str] = "xt"

    before: int = 0
    ended: list[tuple[int, int, int, bool]] = []


def fold(folded: Folded, key: tuple[str, ...], state: PartitionState) -> int | None:
    """Losses in a row after an execution; None where it changed no round trip. ``key`` is the account's."""
    position = folded.position.number
    if not folded.trips and not folded.is_refolded:
        return None
    trips = state.get(Trips, *key)
    kept = [trip for trip in trips.ended if trip[1] != position or (trip[0], trip[2]) <= folded.since]
    ended = sorted(kept + [(trip.place[0], position, trip.place[1], trip.is_loss) for trip in folded.trips])
    if ended != trips.ended:
        while len(ended) > TRIPS:
            trips.before = trips.before + 1 if ended.pop(0)[3] else 0
        trips.ended = ended
        state.touch(trips, *key)
    return _in_a_row(trips)


def _in_a_row(trips: Trips) -> int:
    for count, trip in enumerate(reversed(trips.ended)):
        if not trip[3]:
            return count
    return trips.before + len(trips.ended)
