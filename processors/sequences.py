"""Numbered histories: each run and each aggregate counts its events, so that a missing one shows (S0-02, S1-02).

A history's numbers begin at 0 or 1. A number above the next leaves a gap; the gap closes when the missing numbers come.
Whether a number is new is asked of the ranges that are missing, so it is exact while no more than RANGES are.
Histories of runs and aggregates end: they are forgotten when they were silent for ``Horizons.history``. A whole
source's is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from tradetape.processors import expiry
from tradetape.processors.expiry import Expiring
from tradetape.processors.findings import NOTED, OPENED, RESOLVED, Finding, detail, finding
from tradetape.processors.horizons import Horizons
from tradetape.processors.reading import RawRecord
from tradetape.processors.state import PartitionState

FIRST = 1
RANGES = 64
"""Missing ranges remembered of one history. Of more, the oldest are forgotten: their gap closes without them, and a
number of theirs that comes is told as repeated.
"""

RUN, AGGREGATE = "run", "aggregate"


class Track(Expiring):
    """Numbers seen of one numbered history: the highest, the ranges below it that are missing (first, last), and what
    was told of them.
    """

    KEY: ClassVar[str] = "n"

    highest: int = -1
    missing: list[tuple[int, int]] = []
    rejected: list[int] = []
    told: bool = False

    def lasts(self, horizons: Horizons) -> int:
        return horizons.history

    def called(self) -> str:
        return "history with a gap" if self.told else "history"


def observe(raw: RawRecord, event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    """The findings of an accepted event's numbers."""
    found: list[Finding] = []
    for number, subject, key in _numbers(event):
        track = state.get(Track, *key)
        before = (track.highest, track.missing, track.rejected, track.told)
        found += _observe(track, number, subject)
        if (track.highest, track.missing, track.rejected, track.told) != before:
            _touch(state, track, raw.timestamp, key)
    return found


def pass_over(raw: RawRecord, event: Mapping[str, Any], state: PartitionState) -> None:
    """A rejected event is on record: its number is not missing, and its correction may come under it."""
    for number, _, key in _numbers(event):
        track = state.get(Track, *key)
        if number > track.highest:
            _advance(track, number)
        elif not _fill(track, number):
            continue
        track.rejected = [*track.rejected[-RANGES + 1 :], number]
        _touch(state, track, raw.timestamp, key)


def _touch(state: PartitionState, track: Track, now: int, key: tuple[str, ...]) -> None:
    if key[-2:] == (RUN, ""):
        state.touch(track, *key)
    else:
        expiry.touch(state, track, now, *key)


def _numbers(event: Mapping[str, Any]) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(number, subject, state key) of each history that the event counts in."""
    place = (event["environment"], event["instance_name"], event["source_id"] or "")
    if event["sequence"] is not None:
        run_id = event["run_id"] or ""
        yield event["sequence"], run_id or event["source_id"] or event["instance_name"], (*place, RUN, run_id)
    if event["aggregate_sequence"] is not None and event["aggregate_id"]:
        kind, name = event["aggregate_type"] or "", event["aggregate_id"]
        yield event["aggregate_sequence"], f"{kind}:{name}", (*place, AGGREGATE, kind, name)


def _observe(track: Track, number: int, subject: str) -> list[Finding]:
    found: list[Finding] = []
    if number > track.highest:
        _advance(track, number)
    elif number in track.rejected:
        track.rejected = [other for other in track.rejected if other != number]
    elif _fill(track, number):
        found.append(finding("sequence_regressed", NOTED, subject, detail(number=number, highest=track.highest)))
    else:
        return [finding("sequence_repeated", OPENED, subject, detail(number=number, highest=track.highest))]
    if bool(track.missing) != track.told:
        track.told = bool(track.missing)
        status = OPENED if track.told else RESOLVED
        found.append(finding("sequence_gap", status, subject, detail(missing=track.missing, highest=track.highest)))
    return found


def _advance(track: Track, number: int) -> None:
    expected = max(track.highest + 1, FIRST)
    if number > expected:
        track.missing = [*track.missing[-RANGES + 1 :], (expected, number - 1)]
    track.highest = max(track.highest, number)


def _fill(track: Track, number: int) -> bool:
    """Take ``number`` out of what is missing; whether it was."""
    for index, (first, last) in enumerate(track.missing):
        if first <= number <= last:
            rest = [part for part in ((first, number - 1), (number + 1, last)) if part[0] <= part[1]]
            track.missing = [*track.missing[:index], *rest, *track.missing[index + 1 :]][-RANGES:]
            return True
    return False
