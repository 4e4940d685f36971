"""A log of canonical JSON lines, open: followed through renaming, copies and truncation (see ``source``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tradetape.producers.adapters import envelope as adapter
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.envelope.counts import Lines
from tradetape.producers.connectors.rolling import LogLine, RollingLog, unreadable
from tradetape.producers.connectors.source import Lag
from tradetape.producers.events import Event
from tradetape.schemas.envelope_json import MAX_LINE_BYTES
from tradetape.schemas.errors import TradetapeError

LONGEST = MAX_LINE_BYTES
CHANGED = "the file changed since it was ingested: it is read again from its beginning, as a new source"
_HINT = "give a file of JSON lines, or - for stdin"


class EnvelopeSource:
    """One log of canonical JSON lines, open (``Source``).

    ``instance_name`` is what gaps of the log stand under. With ``is_alone`` its rotated files are left out. ``lines``
    is what became of its lines, ``notes`` what changed, ``known_as`` the source of the line taken last.
    """

    def __init__(
        self,
        path: Path,
        source_id: str,
        saved: dict[str, Any] | None,
        *,
        instance_name: str = "",
        ingest_source: str = "file",
        legacy: bool = False,
        is_alone: bool = False,
    ) -> None:
        known = saved if saved is not None and saved.get("adapter") == adapter.SYSTEM and "log" in saved else None
        self.name = path.name
        self.source_id = source_id
        self.known_as = source_id
        self.notes: list[str] = []
        self._instance_name = instance_name or path.stem
        self._log = RollingLog(path, longest=LONGEST, state=known["log"] if known else None, is_alone=is_alone)
        self._before = self._log.places()
        self.lines = Lines(adapter.Origin(source_id, ingest_source, path.name, legacy), known and known["lines"])

    def poll(self, limit: int) -> Sequence[Event]:
        """The next lines, file after file; what was gone before it was read."""
        return self._take(limit, ending=False)

    def state(self) -> dict[str, Any]:
        """The checkpoint."""
        return {"adapter": adapter.SYSTEM, "log": self._log.saved(), "lines": self.lines.saved()}

    def acknowledge(self) -> None:
        """Nothing to do: a file keeps no readers."""

    def lag(self) -> Lag:
        """How many lines, where they are few enough to be counted; their times are not looked at."""
        return Lag(self._log.waiting_lines(), None) if self._log.waiting() else Lag(0, 0.0)

    def ended(self) -> Sequence[Event]:
        """The last line, with or without its end, and a ``source_ended`` for every instance."""
        found: list[Event] = []
        while more := self._take(runner.BATCH, ending=True):
            found += more
        return found + list(self.lines.ended())

    def close(self) -> None:
        """Nothing is held open between two polls."""

    def progress(self) -> tuple[int, int]:
        """Bytes taken in, and all of them."""
        total = self._log.size()
        return total - self._log.waiting(), total

    def taken(self) -> tuple[int, int]:
        """Lines of the live file, blank ones too: those taken in before it was opened here, and those by now."""
        live = self._log.live()
        return self._before.get(live, 0), self._log.places().get(live, 0)

    def _take(self, limit: int, *, ending: bool) -> list[Event]:
        found = [self._event(line) for line in self._log.read(limit, ending=ending)]
        losses, self._log.losses = self._log.losses, []
        for loss in losses:
            source_id = self._source_of(loss.stream)
            found.append(self.lines.gap(loss, source_id=source_id, instance_name=self._instance_name))
        return found

    def _event(self, line: LogLine) -> Event:
        self.known_as = self._source_of(line.stream)
        if not line.taken.fragment:
            stream = self._log.stream(line.stream)
            if stream.is_again and not stream.tag and CHANGED not in self.notes:
                self.notes.append(CHANGED)
            stream.tag = self.known_as
        return self.lines.event(line.taken, source_id=self.known_as, stream=line.stream)

    def _source_of(self, stream: str) -> str:
        """The source that a stream belongs to: one that begins like another is a source of its own.

        So what a changed file repeats is counted apart from what it had been.
        """
        name = stream.rpartition(":")[2]
        return f"{self.source_id}@{name}" if "#" in name else self.source_id


def opened(path: Path) -> BinaryIO:
    """The file at ``path``. Raises TradetapeError."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise TradetapeError(f"{path} does not exist", hint=_HINT) from None
    except IsADirectoryError:
        raise TradetapeError(f"{path} is a folder", hint=_HINT) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
