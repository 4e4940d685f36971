"""Lines of a byte stream in bounded memory, and how far a file of lines was taken in.

A line that is too long is cut while it is read. What was taken in is known again by its last line: a file that does
not have it at its place any more is another file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, BinaryIO, NamedTuple, Self

from tradetape.producers.adapters.native import parse_json

CHUNK = 1024 * 1024
BOM = b"\xef\xbb\xbf"

UNFINISHED = "a last line without an end"
GREW = "written on to a line that had been taken in"


class Line(NamedTuple):
    """One line without its newline.

    ``content`` is cut where ``length`` (the whole line's bytes) is larger. ``start`` and ``end`` are offsets in the
    stream, ``end`` behind the newline; ``ended`` is False for a last line that has none.
    """

    content: bytes
    length: int
    start: int
    end: int
    ended: bool


def read_lines(stream: BinaryIO, *, longest: int, offset: int = 0, chunk: int = CHUNK) -> Iterator[Line]:
    """The lines of ``stream`` from where it stands, which is ``offset``; no more than ``longest`` bytes of each."""
    start = at = offset
    kept: list[bytes] = []
    size = 0
    while block := stream.read(chunk):
        begin = 0
        while (newline := block.find(b"\n", begin)) >= 0:
            kept.append(block[begin : min(newline, begin + longest - size)])
            at += newline + 1 - begin
            yield Line(b"".join(kept), at - 1 - start, start, at, True)
            start, kept, size, begin = at, [], 0, newline + 1
        rest = block[begin : begin + longest - size]
        kept.append(rest)
        size += len(rest)
        at += len(block) - begin
    if at > start:
        yield Line(b"".join(kept), at - start, start, at, False)


class AtEnd(Enum):
    """What becomes of a last line without a newline."""

    WAIT = auto()
    """Its writer goes on: it is not looked at."""
    TELL = auto()
    """The reader stops: it is a line if it is JSON; else its bytes are told once, and it is read again later."""
    TAKE = auto()
    """Nobody writes to the file any more: it is a line."""


class Taken(NamedTuple):
    """A line to take in: ``number`` from 1, ``length`` where ``content`` was cut, ``fragment``: why it is no line."""

    content: bytes
    number: int
    length: int | None = None
    fragment: str = ""


@dataclass(slots=True)
class Place:
    """How far a file was taken in: ``offset`` bytes, ``line`` lines; where the last one began, and its hash.

    ``open_line``: the last line taken had no newline yet. ``fragment``: the hash of the unfinished line told last.
    """

    offset: int = 0
    line: int = 0
    last_start: int = 0
    open_line: bool = False
    fragment: str = ""
    _hash: str = ""
    _last: bytes | None = None

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Self:
        named = {name: saved[name] for name in ("offset", "line", "last_start", "open_line", "fragment")}
        return cls(**named, _hash=saved["last_hash"])

    def saved(self) -> dict[str, Any]:
        return {
            "offset": self.offset,
            "line": self.line,
            "last_start": self.last_start,
            "last_hash": self.last_hash,
            "open_line": self.open_line,
            "fragment": self.fragment,
        }

    @property
    def last_hash(self) -> str:
        """The hash of the last line taken; made when it is asked for, as a batch has many last lines."""
        if self._last is not None:
            self._hash, self._last = digest(self._last), None
        return self._hash

    def advance(self, line: Line, number: int) -> None:
        """``line`` is taken in as line ``number``."""
        self.offset, self.line, self.last_start, self.fragment = line.end, number, line.start, ""
        self._last = line.content
        self.open_line = not line.ended


def digest(content: bytes) -> str:
    """What a line is known again by."""
    return hashlib.sha256(content).hexdigest()


def first_line(stream: BinaryIO, *, longest: int) -> Line | None:
    """The first line of a file that is not blank."""
    stream.seek(0)
    return next((line for line in read_lines(stream, longest=longest) if line.content.strip()), None)


def continues(stream: BinaryIO, place: Place, *, longest: int) -> bool:
    """Whether a file still has what was taken in: the same last line at its place."""
    if not place.offset:
        return True
    stream.seek(place.last_start)
    last = next(read_lines(stream, longest=longest, offset=place.last_start), None)
    if last is None:
        return False
    if place.open_line:
        # Written on since: its beginning must be what was taken in.
        length = place.offset - place.last_start
        return last.length >= length and digest(last.content[:length]) == place.last_hash
    return last.end == place.offset and digest(last.content) == place.last_hash


def take(stream: BinaryIO, place: Place, *, longest: int, at_end: AtEnd) -> Generator[Taken, None, None]:
    """The lines of a file behind ``place``, which moves along; blank ones count and are left out. A pipe is read on.

    ``place`` is behind a line when it is yielded. A carriage return at the end of a line and a byte order mark at the
    beginning of the file are no content.
    """
    if stream.seekable():
        stream.seek(place.offset)
    for line in read_lines(stream, longest=longest, offset=place.offset):
        if not line.ended and at_end is AtEnd.WAIT:
            return
        if place.open_line:
            place.advance(line, place.line)
            if line.content.strip():
                yield Taken(line.content, place.line, fragment=GREW)
            continue
        number = place.line + 1
        content = line.content.removeprefix(BOM) if number == 1 else line.content
        content = content.removesuffix(b"\r") if line.length == len(line.content) else content
        if not line.ended and at_end is AtEnd.TELL and content.strip() and not is_json(content):
            found = digest(content)
            if place.fragment != found:
                place.fragment = found
                yield Taken(content, number, fragment=UNFINISHED)
            return
        place.advance(line, number)
        if content.strip():
            yield Taken(content, number, line.length if line.length > len(line.content) else None)


def is_json(content: bytes) -> bool:
    """Whether ``content`` is a whole JSON value."""
    try:
        parse_json(content)
    except ValueError:
        return False
    return True
