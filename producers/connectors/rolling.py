"""A log of lines that is written on, renamed, copied and truncated: its files, oldest first, each from its place on.

What names a line for ever is its file's first line and its number in that file. So every file is a *stream* of its own,
named by the hash of its first line that is not blank: renaming, copying and deleting files changes no name, and a
reader that lost its checkpoint gives every line the position that it had. The files of a log are known again by what
was taken from them, not by name or inode:

- renamed (``events.jsonl`` → ``.1`` → ``.2``, or a date behind the name): the same stream, read to its end first;
- copied and truncated: the copy goes on with the stream, the emptied file begins another;
- shorter than its place, or without the line taken last: another stream, read from its beginning; what had been seen
  of the old one and not been read is told as ``Loss``;
- written on after its successor began: read on, in its own stream;
- a copy beside its original (the beginning of it, byte for byte, by both ends): not read.

Files with one and the same first line (a header without a time) are numbered as they are found: ``#2``, ``#3``. That
has a limit: a reader that lost its checkpoint numbers those that are left, oldest first. Where older ones are gone,
their names pass to later files, and lines of those up to where the older ones were read pass for repeats.

Compressed files are not read: a rotation has to leave the newest rotated file as it is (``delaycompress``).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tradetape.producers.connectors.lines import (
    UNFINISHED,
    AtEnd,
    Place,
    Taken,
    continues,
    digest,
    first_line,
    is_json,
    take,
)
from tradetape.schemas.errors import TradetapeError

REMEMBERED = 64
"""Streams without a file that are remembered, for a file that comes back."""

COMPARED = 64 * 1024
"""Bytes at either end of a file by which a copy is told from a file that only begins alike."""

BATCH_BYTES = 32 * 1024 * 1024
"""Bytes of lines that are held at once, about."""

_LOOKS = 5
_NUMBER = re.compile(r"\.(\d{1,5})")
_DATE = re.compile(r"[.\-_](\d{4}-?\d{2}-?\d{2}[\dT:_.\-]*)")


class Loss(NamedTuple):
    """Bytes of ``stream`` behind line ``line`` that had been seen and are gone."""

    stream: str
    line: int
    size: int

    def payload(self) -> dict[str, Any]:
        """As the payload of a ``system_gap``."""
        return {
            "stream": self.stream,
            "reason": "unreadable",
            "first": str(self.line + 1),
            "detail": f"{self.size} bytes behind line {self.line} were gone before they were read",
        }


class LogLine(NamedTuple):
    """A line to take in, and the stream that it is in."""

    stream: str
    taken: Taken


@dataclass(slots=True)
class Stream:
    """What is known of one file: how far it was taken in, and how long it was when it was seen last.

    ``tag`` is the reader's own. ``inode`` finds the file again at once; it proves nothing. ``is_again``: the
    file was changed behind our back, and has the first line of another stream.
    """

    name: str
    first: str
    place: Place = field(default_factory=Place)
    inode: int = 0
    seen: int = 0
    tag: str = ""
    is_again: bool = False

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Stream:
        return cls(**{**saved, "place": Place.of(saved["place"])})

    def saved(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "first": self.first,
            "place": self.place.saved(),
            "inode": self.inode,
            "seen": self.seen,
            "tag": self.tag,
            "is_again": self.is_again,
        }


class _File(NamedTuple):
    path: Path
    stream: BinaryIO
    inode: int
    size: int


Signature = tuple[tuple[str, int, int, int], ...]


class RollingLog:
    """The files of the log that is written at ``path``; ``longest`` bytes of a line are kept.

    ``state`` is what ``saved`` gave. With ``is_alone`` no other file belongs to the log, whatever its name. ``losses``
    collects what was found to be gone; its reader empties it.
    """

    def __init__(
        self, path: Path, *, longest: int, state: dict[str, Any] | None = None, is_alone: bool = False
    ) -> None:
        self.path = path
        self.losses: list[Loss] = []
        self._longest = longest
        self._is_alone = is_alone
        self._streams = [Stream.of(saved) for saved in state["streams"]] if state else []
        self._fragment: str = state["fragment"] if state else ""
        # Older states have no count: one that is above all that they may have given out.
        self._numbered: int = state.get("numbered", len(self._streams) + REMEMBERED) if state else 1
        self._copies: dict[int, int] = {}
        self._live = ""
        self._read: Signature = ()
        self._unfinished: dict[int, tuple[int, int]] = {}

    def saved(self) -> dict[str, Any]:
        """What is taken in, as JSON."""
        streams = [stream.saved() for stream in self._streams]
        return {"streams": streams, "fragment": self._fragment, "numbered": self._numbered}

    def stream(self, name: str) -> Stream:
        """What is known of the stream ``name``."""
        return next(stream for stream in self._streams if stream.name == name)

    def places(self) -> dict[str, int]:
        """How many lines of each stream were taken in, blank ones too."""
        return {stream.name: stream.place.line for stream in self._streams}

    def live(self) -> str:
        """The stream of the live file as it was read last; empty where it had no line."""
        return self._live

    def exists(self) -> bool:
        """Whether there is any file of the log."""
        return bool(self._signature())

    def read(self, limit: int, *, ending: bool = False) -> list[LogLine]:
        """The next lines behind what was taken in, file after file: ``limit`` or BATCH_BYTES at most; empty at the end.

        A line without its newline waits; with ``ending`` it is taken if it is JSON and else told as a fragment. Raises
        TradetapeError where the folder or a file cannot be read; the log is to be opened again then.
        """
        found: list[LogLine] = []
        size = 0
        with closing(self._lines(ending=ending)) as lines:
            for line in lines:
                found.append(line)
                size += len(line.taken.content)
                if len(found) >= limit or size >= BATCH_BYTES:
                    break
        return found

    def _lines(self, *, ending: bool) -> Generator[LogLine, None, None]:
        signature = self._signature()
        if signature == self._read and not ending:
            return
        try:
            with ExitStack() as opened:
                files, signature = self._open(opened)
                matched = self._match(files, ending=ending)
                for index, (file, stream) in enumerate(matched):
                    at_end = AtEnd.TELL if ending else self._at_end(stream, file, is_last=index == len(matched) - 1)
                    for taken in take(file.stream, stream.place, longest=self._longest, at_end=at_end):
                        stream.seen = max(stream.seen, stream.place.offset)
                        yield LogLine(stream.name, taken)
                if ending and files and files[-1].size and all(file is not files[-1] for file, _ in matched):
                    yield from self._first_fragment(files[-1])
        except OSError as error:
            raise unreadable(self.path, error) from error
        self._unfinished = {inode: at for inode, at in self._unfinished.items() if inode in {s[1] for s in signature}}
        self._read = () if self._unfinished else signature

    def _first_fragment(self, live: _File) -> Iterator[LogLine]:
        """A file that has nothing but the beginning of its first line, told once."""
        line = first_line(live.stream, longest=self._longest)
        if line is not None and not line.ended and digest(line.content) != self._fragment:
            self._fragment = digest(line.content)
            yield LogLine(f"{self.path.name}:", Taken(line.content, 1, fragment=UNFINISHED))

    def waiting(self) -> int:
        """Bytes in the files that were not taken in yet, by their sizes; copies do not count."""
        return sum(size - offset for _, offset, size in self._untaken())

    def waiting_lines(self) -> int | None:
        """Lines that were not taken in yet; None where they are more than BATCH_BYTES. Raises TradetapeError."""
        untaken = list(self._untaken())
        if sum(size - offset for _, offset, size in untaken) > BATCH_BYTES:
            return None
        count = 0
        for name, offset, size in untaken:
            try:
                with (self.path.parent / name).open("rb") as file:
                    file.seek(offset)
                    count += file.read(size - offset).count(b"\n")
            except FileNotFoundError:  # renamed since: the next look finds it
                continue
            except OSError as error:
                raise unreadable(self.path, error) from error
        return count

    def size(self) -> int:
        """Bytes in all files, read or not."""
        return sum(size for _, _, size, _ in self._signature())

    def _untaken(self) -> Iterator[tuple[str, int, int]]:
        """Names of files that have more than was taken in, with the offset and the end of the rest."""
        taken = {stream.inode: stream.place.offset for stream in self._streams} | self._copies
        for name, inode, size, _ in self._signature():
            if size > taken.get(inode, 0):
                yield name, taken.get(inode, 0), size

    def newest_line(self, *, within: int = 65536) -> bytes | None:
        """The last whole line of the live file, if it is among its last ``within`` bytes."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - within))
                lines = file.read(within).split(b"\n")
        except OSError:
            return None
        whole = lines[1:-1] if size > within else lines[:-1]
        return next((line for line in reversed(whole) if line.strip()), None)

    def _signature(self) -> Signature:
        found = []
        try:
            for path in [self.path] if self._is_alone else files_of(self.path):
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                if path == self.path and not stat.S_ISREG(status.st_mode):
                    raise TradetapeError(f"{path} is no file", hint="give the file that the bot writes")
                if stat.S_ISREG(status.st_mode):
                    found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
        except (OSError, ValueError) as error:
            raise unreadable(self.path, error) from error
        return tuple(found)

    def _open(self, opened: ExitStack) -> tuple[list[_File], Signature]:
        """All files, and their signature from before; looked at again where a rotation came between."""
        for _ in range(_LOOKS):
            signature = self._signature()
            files = []
            for name, inode, _, _ in signature:
                try:
                    stream = opened.enter_context((self.path.parent / name).open("rb"))
                except FileNotFoundError:
                    break
                status = os.fstat(stream.fileno())
                if status.st_ino != inode:
                    break
                files.append(_File(self.path.parent / name, stream, inode, status.st_size))
            else:
                if [entry[:2] for entry in self._signature()] == [entry[:2] for entry in signature]:
                    return files, signature
        raise TradetapeError(f"the files of {self.path} change while they are listed", hint="it is tried again")

    def _match(self, files: Sequence[_File], *, ending: bool) -> list[tuple[_File, Stream]]:
        """Each file with its stream, oldest first; copies of what another file continues are left out."""
        taken: dict[str, _File] = {}
        fresh: list[tuple[_File, str]] = []
        alike: dict[str, list[_File]] = {}
        self._copies = {}
        # The live file first: while it is copied, the copy is shorter, and must not pass for a changed file.
        for file in reversed(files):
            stream = self._known(file, taken)
            first = stream.first if stream is not None else self._first(file, ending=ending)
            if first is None:
                continue
            stream = stream or self._continued(file, first, taken)
            if stream is not None:
                taken[stream.name] = file
            elif any(_is_copy(file, other) for other in alike.get(first, ())):
                self._copies[file.inode] = file.size
                continue
            else:
                fresh.append((file, first))
            alike.setdefault(first, []).append(file)
        for file, first in reversed(fresh):
            taken[self._begin(first).name] = file
        for name, file in taken.items():
            stream = self.stream(name)
            stream.inode, stream.seen = file.inode, file.size
        self._forget(taken)
        self._live = next((name for name, file in taken.items() if file.path == self.path), "")
        by_path = {file.path: self.stream(name) for name, file in taken.items()}
        return [(file, by_path[file.path]) for file in files if file.path in by_path]

    def _known(self, file: _File, taken: dict[str, _File]) -> Stream | None:
        """The stream that was read in this very file, if it still is in it."""
        for stream in self._streams:
            if stream.inode == file.inode and stream.name not in taken and self._continues(file, stream):
                line = None if stream.place.offset else first_line(file.stream, longest=self._longest)
                if stream.place.offset or (line is not None and digest(line.content) == stream.first):
                    return stream
        return None

    def _first(self, file: _File, *, ending: bool) -> str | None:
        """What names the file: the hash of its first line, if that is whole."""
        line = first_line(file.stream, longest=self._longest)
        if line is None or not (line.ended or self._is_final(file, ending and is_json(line.content))):
            return None
        return digest(line.content)

    def _continued(self, file: _File, first: str, taken: Iterable[str]) -> Stream | None:
        """The stream that was read in a file of another name or inode, and goes on in this one."""
        for stream in self._streams:
            if stream.first == first and stream.name not in taken and self._continues(file, stream):
                return stream
        return None

    def _begin(self, first: str) -> Stream:
        """A new stream, with a name that no other had."""
        is_again = any(stream.first == first for stream in self._streams)
        self._numbered += is_again
        number = f"#{self._numbered}" if is_again else ""
        self._streams.append(Stream(f"{self.path.name}:{first[:16]}{number}", first, is_again=is_again))
        return self._streams[-1]

    def _continues(self, file: _File, stream: Stream) -> bool:
        return file.size >= stream.place.offset and continues(file.stream, stream.place, longest=self._longest)

    def _forget(self, taken: dict[str, _File]) -> None:
        """Streams whose files are gone: tell what was lost with them, keep the latest of them."""
        gone = [stream for stream in self._streams if stream.name not in taken]
        for stream in gone:
            if stream.seen > stream.place.offset:
                self.losses.append(Loss(stream.name, stream.place.line, stream.seen - stream.place.offset))
                stream.seen = stream.place.offset
        for stream in gone[:-REMEMBERED]:
            self._streams.remove(stream)

    def _at_end(self, stream: Stream, file: _File, *, is_last: bool) -> AtEnd:
        """A file is closed where a newer one has lines, and its unfinished line did not change between two looks."""
        if is_last or stream.place.offset >= file.size:
            self._unfinished.pop(file.inode, None)
            return AtEnd.WAIT
        return AtEnd.TAKE if self._is_unchanged(file, stream.place.offset) else AtEnd.WAIT

    def _is_final(self, file: _File, is_whole: bool) -> bool:
        """Whether a first line that is all of its file will get no newline any more."""
        return is_whole or (file.path != self.path and self._is_unchanged(file, 0))

    def _is_unchanged(self, file: _File, offset: int) -> bool:
        before = self._unfinished.get(file.inode)
        self._unfinished[file.inode] = (offset, file.size)
        return before == (offset, file.size)


def _is_copy(file: _File, original: _File) -> bool:
    """Whether ``file`` is the beginning of ``original``, or all of it."""
    if file.size > original.size:
        return False
    for offset in (0, max(0, file.size - COMPARED)):
        parts = []
        for stream in (file.stream, original.stream):
            stream.seek(offset)
            parts.append(stream.read(min(COMPARED, file.size)))
        if parts[0] != parts[1]:
            return False
    return True


def is_kind(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether ``path`` is there and of that ``kind``, e.g. ``stat.S_ISDIR``. Raises TradetapeError."""
    try:
        return kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError | ValueError) -> TradetapeError:
    """``error`` as one that says what to do about ``path``; a name that no file can have raises ValueError."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return TradetapeError(f"{path.parent} is no folder", hint="give the file that the bot writes")
    said = error.strerror if isinstance(error, OSError) else error
    return TradetapeError(f"{path} cannot be read ({said})", hint="check its name and its permissions")


def files_of(live: Path) -> list[Path]:
    """The rotated files of the log at ``live``, oldest first by what their names say, then ``live``. Raises OSError."""
    rotated = []
    for entry in os.scandir(live.parent):
        age = _age(entry.name, live)
        if age is not None:
            rotated.append((age, entry.name))
    return [live.parent / name for _, name in sorted(rotated)] + [live]


def _age(name: str, live: Path) -> tuple[int, int, str] | None:
    """Where a rotated file stands among the others: dates before numbers, a high number before a low one."""
    rest = None
    if name.startswith(f"{live.name}"):
        rest = name[len(live.name) :]
    elif live.suffix and name.startswith(live.stem) and name.endswith(live.suffix):
        rest = name[len(live.stem) : -len(live.suffix)]
    if not rest:
        return None
    if number := _NUMBER.fullmatch(rest):
        return (1, -int(number[1]), "")
    if date := _DATE.fullmatch(rest):
        return (0, 0, date[1])
    return None
