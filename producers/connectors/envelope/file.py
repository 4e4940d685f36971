"""One file of canonical JSON lines, open: followed through renaming, replacement and truncation (see ``source``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from tradetape.producers.adapters import envelope as adapter
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.envelope.counts import Lines
from tradetape.producers.connectors.lines import AtEnd, Place, continues, digest, read_lines, take
from tradetape.producers.connectors.rolling import BATCH_BYTES, files_of
from tradetape.producers.connectors.source import Lag
from tradetape.producers.events import Event
from tradetape.schemas.envelope_json import MAX_LINE_BYTES
from tradetape.schemas.errors import TradetapeError

LONGEST = MAX_LINE_BYTES
CHANGED = "the file changed since it was ingested: it is read again from its beginning, as a new source"
REPLACED = "the file was replaced: the new one is a new source"
_HINT = "give a file of JSON lines, or - for stdin"


class EnvelopeSource:
    """One file of canonical JSON lines, open (``Source``). ``lines`` is what became of them, ``notes`` what changed."""

    def __init__(
        self,
        path: Path,
        source_id: str,
        saved: dict[str, Any] | None,
        *,
        ingest_source: str = "file",
        legacy: bool = False,
    ) -> None:
        known = saved if saved is not None and saved.get("adapter") == adapter.SYSTEM else None
        self.name = path.name
        self.source_id = source_id
        self.notes: list[str] = []
        self.place = Place.of(known) if known else Place()
        self._path = path
        self._generation: int = known["generation"] if known else 0
        self._first: str = known["first_hash"] if known else ""
        self.lines = Lines(adapter.Origin(self._source_name(), ingest_source, path.name, legacy), known)
        self._stream: BinaryIO = opened(path)
        self._checked: tuple[int, int] | None = None
        try:
            if not self._is_continued() and not self._go_on_in_renamed():
                self._begin(CHANGED)
        except OSError as error:
            raise _unreadable(path, error) from error

    def poll(self, limit: int) -> Sequence[Event]:
        """The next lines; at the end of a file that was replaced, its last one and those of its successor."""
        try:
            if not self._is_continued():
                self._begin(CHANGED)
            found = self._take(limit, AtEnd.WAIT)
            if found:
                return found
            successor = self._successor()
            if successor is None:
                return []
            found = self._take(limit, AtEnd.TAKE)
            self._turn_to(successor)
            self._begin(REPLACED)
            return found + self._take(limit, AtEnd.WAIT)
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def state(self) -> dict[str, Any]:
        """The checkpoint."""
        known = {"adapter": adapter.SYSTEM, "generation": self._generation, "first_hash": self._first}
        return known | self.place.saved() | self.lines.saved()

    def acknowledge(self) -> None:
        """Nothing to do: a file keeps no readers."""

    def lag(self) -> Lag:
        """How many lines, where they are few enough to be counted; their times are not looked at."""
        done, total = self.progress()
        if done >= total:
            return Lag(0, 0.0)
        if total - done > BATCH_BYTES:
            return Lag(None, None)
        self._stream.seek(done)
        return Lag(self._stream.read(total - done).count(b"\n"), None)

    def ended(self) -> Sequence[Event]:
        """The last line, with or without its end, and a ``source_ended`` for every instance."""
        found: list[Event] = []
        try:
            while more := self._take(runner.BATCH, AtEnd.TELL):
                found += more
        except OSError as error:
            raise _unreadable(self._path, error) from error
        return found + list(self.lines.ended())

    def close(self) -> None:
        """Let the file go."""
        self._stream.close()

    def progress(self) -> tuple[int, int]:
        """Bytes taken in of the file at hand, and all of them."""
        return self.place.offset, os.fstat(self._stream.fileno()).st_size

    def _take(self, limit: int, at_end: AtEnd) -> list[Event]:
        found: list[Event] = []
        size = 0
        with closing(take(self._stream, self.place, longest=LONGEST, at_end=at_end)) as lines:
            for line in lines:
                found.append(self.lines.event(line))
                size += len(line.content)
                if len(found) >= limit or size >= BATCH_BYTES:
                    break
        return found

    def _is_continued(self) -> bool:
        """Whether the file at hand has what was taken in; looked at when it was written since."""
        status = os.fstat(self._stream.fileno())
        looked = (status.st_size, status.st_mtime_ns)
        if looked == self._checked:
            return True
        first = _first_hash(self._stream)
        if not self.place.offset:
            self._first = first
        elif not self._has_taken(self._stream, first):
            return False
        self._checked = looked
        return True

    def _has_taken(self, stream: BinaryIO, first: str) -> bool:
        return (self.place.line <= 1 or first == self._first) and continues(stream, self.place, longest=LONGEST)

    def _go_on_in_renamed(self) -> bool:
        """Whether the file that was taken in got another name, and is at hand now."""
        for path in reversed(files_of(self._path)[:-1]):
            stream = path.open("rb")
            if self._has_taken(stream, _first_hash(stream)):
                self._turn_to(stream)
                return True
            stream.close()
        return False

    def _successor(self) -> BinaryIO | None:
        """The file that was begun after the one at hand, if it has lines."""
        here = os.fstat(self._stream.fileno()).st_ino
        found: BinaryIO | None = None
        for path in reversed(files_of(self._path)):
            try:
                stream = path.open("rb")
            except FileNotFoundError:
                continue
            status = os.fstat(stream.fileno())
            if status.st_ino == here or not status.st_size:
                stream.close()
                if status.st_ino == here:
                    return found
            else:
                if found is not None:
                    found.close()
                found = stream
        if found is not None:
            found.close()
        # The file at hand is gone: what was between it and the live one cannot be told from older files.
        return opened(self._path) if self._path.exists() and self._path.stat().st_size else None

    def _turn_to(self, stream: BinaryIO) -> None:
        self._stream.close()
        self._stream = stream
        self._checked = None

    def _begin(self, note: str) -> None:
        """The file at hand is read from its beginning, as a new source."""
        self._generation += 1
        self.place = Place()
        self._first = _first_hash(self._stream)
        self._checked = None
        self.notes.append(note)
        self.lines.begin(self._source_name())

    def _source_name(self) -> str:
        return f"{self.source_id}@{self._generation}" if self._generation else self.source_id


def _first_hash(stream: BinaryIO) -> str:
    stream.seek(0)
    first = next(read_lines(stream, longest=LONGEST), None)
    return digest(first.content if first else b"")


def opened(path: Path) -> BinaryIO:
    """The file at ``path``. Raises TradetapeError."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise TradetapeError(f"{path} does not exist", hint=_HINT) from None
    except IsADirectoryError:
        raise TradetapeError(f"{path} is a folder", hint=_HINT) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> TradetapeError:
    return TradetapeError(f"{path} cannot be read ({error.strerror})", hint=_HINT)
