"""Trend's ledger, followed: ``events.jsonl``, its rotated files and ``sequence.txt`` (S2-02).

A line's position is its number in its file; its stream is the file, named by its first line (see ``rolling``). The
bot's own ``sequence_num`` would be the natural position, but one that it writes twice, or that runs backwards, is a
defect to be found: as a position it would pass for a repeat. It is the envelope's ``sequence``, where the processor
looks for gaps.

The ledger is known by its place, as rotation takes its first lines away. One that begins anew there (a first line
numbered 1 after higher numbers were taken) is another source: its events carry ``<source_id>@<hash of that line>``.

``sequence.txt`` has the number to be written next. Where it is ahead of the last line once everything is read, lines
were lost before they reached the ledger: a ``system_gap``. Where it is behind, the bot stopped between its two writes
and will use numbers again: a note.
"""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tradetape.producers.adapters import trend as adapter
from tradetape.producers.adapters.native import moment, parse_json
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.rolling import LogLine, RollingLog, is_kind
from tradetape.producers.connectors.source import Lag
from tradetape.producers.events import Event
from tradetape.schemas import identity, times
from tradetape.schemas.envelope_json import MAX_LINE_BYTES
from tradetape.schemas.errors import TradetapeError

DEFAULTS = {"connector_name": "binance", "quote": ""}

LEDGER = "events.jsonl"
SEQUENCE = "sequence.txt"
RECENT = 64
"""Latest sequence numbers kept, so that lines written in another order pass for neither a loss nor a surplus."""
SETTLE_SECONDS = 0.2
"""Between two looks at a sequence.txt that is ahead, where the reader stops: the bot may be between its two writes."""

_LOG = logging.getLogger("tradetape.connect")


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> TrendSource:
    """The ledger at ``location`` (the folder or the file) from ``saved`` on. Raises TradetapeError."""
    return TrendSource(_ledger(location), origin, saved)


def fingerprint(location: str) -> str:
    """The identity of the ledger: its path. Raises TradetapeError where there is none."""
    return identity.derive(adapter.SYSTEM, str(_ledger(location).resolve()))


def _ledger(location: str) -> Path:
    path = Path(location)
    path = path / LEDGER if is_kind(path, stat.S_ISDIR) else path
    if not RollingLog(path, longest=MAX_LINE_BYTES).exists() and not (path.parent / SEQUENCE).exists():
        raise TradetapeError(
            f"{location} has no {LEDGER}", hint="give the bot's ledger folder (data/ledger) or the file in it"
        )
    return path


class TrendSource:
    """One ledger, open (``Source``). ``notes`` are what a person should know and nobody has to act on."""

    def __init__(
        self,
        path: Path,
        origin: Origin,
        saved: dict[str, Any] | None,
        *,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        known = saved if saved is not None and saved.get("adapter") == adapter.SYSTEM else {}
        self.name = origin.instance_name or path.name
        self.source_id = origin.source_id
        self.notes: list[str] = []
        self._path = path
        self._pause = pause or threading.Event().wait
        self._log = RollingLog(path, longest=MAX_LINE_BYTES, state=known.get("log"))
        self._origin = replace(origin, source_id=known.get("epoch", origin.source_id))
        self._recent: list[int] = known.get("recent", [])
        self._unnumbered: int = known.get("unnumbered", 0)
        self._told: int = known.get("told", 0)
        self._rows: int = known.get("rows", 0)
        self._counts: dict[str, int] = known.get("counts", {})
        self._latest: int = known.get("latest", 0)
        self._ended: str = known.get("ended", "")
        self._suspect: tuple[int, int] | None = None

    def poll(self, limit: int) -> Sequence[Event]:
        """The next lines, then what is known to be missing."""
        return self._take(limit, ending=False) or list(self._check_sequence())

    def state(self) -> dict[str, Any]:
        """The checkpoint."""
        return {
            "adapter": adapter.SYSTEM,
            "log": self._log.saved(),
            "epoch": self._origin.source_id,
            "recent": list(self._recent),
            "unnumbered": self._unnumbered,
            "told": self._told,
            "rows": self._rows,
            "counts": dict(self._counts),
            "latest": self._latest,
            "ended": self._ended,
        }

    def acknowledge(self) -> None:
        """Nothing to do: the ledger keeps no readers."""

    def lag(self) -> Lag:
        """By the number and time of the newest whole line; without numbers only whether there is anything."""
        waiting = self._log.waiting()
        if not waiting:
            return Lag(0, 0.0)
        line = self._log.newest_line()
        try:
            record = parse_json(line) if line is not None else None
        except ValueError:
            record = None
        if not isinstance(record, dict):
            return Lag(None, None)
        sequence, last = record.get("sequence_num"), self._last
        records = max(0, sequence - last) if isinstance(sequence, int) and (last or not self._rows) else None
        return Lag(records, self._seconds(record.get("timestamp")))

    def ended(self) -> Sequence[Event]:
        """The last lines, with or without their end, and the ``source_ended`` of this ledger."""
        found: list[Event] = []
        while more := self._take(RECENT, ending=True):
            found += more
        if self._is_ahead():
            self._pause(SETTLE_SECONDS)
            while more := self._take(RECENT, ending=True):
                found += more
            self._suspect = self._ahead()
        found += self._check_sequence()
        return found + list(self._end())

    def close(self) -> None:
        """Nothing is held open between two polls."""

    def _take(self, limit: int, *, ending: bool) -> list[Event]:
        found = [event for line in self._log.read(limit, ending=ending) for event in self._events(line)]
        losses, self._log.losses = self._log.losses, []
        return found + [self._gap(loss.payload(), str(loss.line)) for loss in losses]

    def _events(self, line: LogLine) -> Iterator[Event]:
        stream = self._log.stream(line.stream) if not line.taken.fragment else None
        if stream is not None and not stream.tag:
            if not stream.is_again and self._begins_anew(line.taken.content):
                yield from self._end()
                self._begin(f"{self.source_id}@{stream.first[:12]}")
            stream.tag = self._origin.source_id
        source_id = stream.tag if stream is not None else self._origin.source_id
        event = adapter.from_line(
            self._origin if source_id == self._origin.source_id else replace(self._origin, source_id=source_id),
            line.taken.content,
            line.stream,
            line.taken.number,
            length=line.taken.length,
            fragment=line.taken.fragment,
        )
        if stream is not None and source_id == self._origin.source_id:
            self._rows += 1
            self._count(event)
            self._number(adapter.sequence_of(event))
        yield event

    def _begins_anew(self, content: bytes) -> bool:
        if not self._recent:
            return False
        try:
            record = parse_json(content)
        except ValueError:
            return False
        sequence = record.get("sequence_num") if isinstance(record, dict) else None
        return isinstance(sequence, int) and sequence <= 1 < self._last

    def _begin(self, source_id: str) -> None:
        self._note("the ledger began anew: it is another source from here on")
        self._origin = replace(self._origin, source_id=source_id)
        self._recent, self._counts = [], {}
        self._unnumbered = self._told = self._rows = self._latest = 0
        self._suspect = None

    def _count(self, event: Event) -> None:
        self._counts[event["event_type"]] = self._counts.get(event["event_type"], 0) + 1
        self._latest = max(self._latest, event["ts_utc"])

    def _number(self, sequence: int | None) -> None:
        if sequence is None:
            self._unnumbered += 1
        else:
            self._recent = [*self._recent[-RECENT + 1 :], sequence]
            self._unnumbered = 0

    @property
    def _last(self) -> int:
        return max(self._recent, default=0)

    def _gap(self, payload: dict[str, Any], *key: str) -> Event:
        event = adapter.ADAPTER.gap(self._origin, payload, *key, ts_utc=self._latest or times.EARLIEST)
        self._count(event)
        return event

    def _next_number(self) -> int | None:
        """What sequence.txt says."""
        try:
            with (self._path.parent / SEQUENCE).open("rb") as file:
                text = file.read(RECENT).strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._note(f"{SEQUENCE} cannot be read ({error.strerror})")
            return None
        if not text.isdigit() or len(text) > 18:
            if text:  # an empty one is being written
                self._note(f"{SEQUENCE} has no number in it: {text[:40]!r}")
            return None
        return int(text)

    def _ahead(self) -> tuple[int, int] | None:
        """The numbers (first, last) that were given out and are in no line."""
        next_number = self._next_number()
        if next_number is None:
            return None
        below = max((sequence for sequence in self._recent if sequence < next_number), default=0)
        if self._recent and not below:
            return None
        first, last = max(below + self._unnumbered, self._told) + 1, next_number - 1
        return (first, last) if first <= last else None

    def _is_ahead(self) -> bool:
        ahead = self._ahead()
        return ahead is not None and ahead != self._suspect

    def _check_sequence(self) -> Iterator[Event]:
        """Told when it was so twice: the bot may be between its two writes at the first look."""
        ahead = self._ahead()
        if ahead is None or ahead != self._suspect:
            self._suspect = ahead
            next_number = self._next_number()
            if next_number is not None and self._last >= next_number:
                self._note(f"{SEQUENCE} says {next_number}, but {self._last} is in the ledger: it is behind")
            return
        first, last = ahead
        self._told, self._suspect = last, None
        payload = {
            "stream": self._path.name,
            "reason": "sequence_file",
            "count": last - first + 1,
            "first": str(first),
            "last": str(last),
            "detail": f"{SEQUENCE} says that {last + 1} is next; the highest number in the ledger is {self._last}",
        }
        yield self._gap(payload, str(first), str(last))

    def _end(self) -> Iterator[Event]:
        event = adapter.ADAPTER.ended(
            self._origin, rows={self._path.name: self._rows}, counts=self._counts, latest=self._latest
        )
        if self._rows and event["event_id"] != self._ended:
            self._ended = event["event_id"]
            yield event

    def _seconds(self, timestamp: object) -> float | None:
        try:
            newest = times.parse(moment(timestamp))
        except times.TimeError:
            return None
        return max(0.0, (newest - self._latest) / 1_000_000) if self._latest else None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            _LOG.warning("%s: %s", self.name, text)
