"""Lines of a byte stream in bounded memory: a line that is too long is cut while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

CHUNK = 1024 * 1024


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
