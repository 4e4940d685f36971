"""Records in a spool file: framed so that a torn end and damage in the middle are told apart from data (P-07).

A frame is a header, the body (one line of JSON) and a newline: apart from its headers a file reads as JSON lines.
Header and body have a CRC-32 each: with a sound header, a body that is not all there was torn off by the end of its
process.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

EVENT, GAP = 1, 2
"""Kinds of frames: a document that was accepted, and the spool's own ``system_gap``."""

MAGIC = b"\xf5\xfe\xffT"
"""Starts a frame; its first three bytes are in no UTF-8 text, so that a body never looks like a header."""

END = b"\n"

_FRONT = struct.Struct(">4sBII")
_CHECK = struct.Struct(">I")
HEADER_BYTES = _FRONT.size + _CHECK.size


class Frame(NamedTuple):
    """One record: ``start`` and ``end`` are its offsets in the bytes it was read from."""

    kind: int
    body: bytes
    start: int
    end: int


class Damage(NamedTuple):
    """Bytes from ``start`` to ``end`` that are no frame: records that were accepted, and cannot be read."""

    start: int
    end: int


class Torn(NamedTuple):
    """The bytes from ``start`` to the end are the beginning of a frame: its write did not complete."""

    start: int


def encode(kind: int, body: bytes) -> bytes:
    """The frame of ``body``."""
    front = _FRONT.pack(MAGIC, kind, len(body), crc32(body))
    return front + _CHECK.pack(crc32(front)) + body + END


def read(data: bytes, start: int = 0) -> Frame | None:
    """The frame at ``start``, None where there is no whole one."""
    length = _body_length(data, start)
    if length is None:
        return None
    end = start + HEADER_BYTES + length + len(END)
    if end > len(data):
        return None
    _, kind, _, check = _FRONT.unpack_from(data, start)
    body = data[start + HEADER_BYTES : end - len(END)]
    return Frame(kind, body, start, end) if crc32(body) == check and data[end - 1 : end] == END else None


def resume(data: bytes, start: int) -> Damage | Torn:
    """What the bytes at ``start`` are, where no frame begins; damage ends where the next frame begins."""
    at = start
    while (at := data.find(MAGIC, at + 1)) >= 0:
        if read(data, at) is not None:
            return Damage(start, at)
    return Torn(start) if _is_beginning(data, start) else Damage(start, len(data))


def torn_tail(data: bytes) -> int:
    """Where the unfinished last frame of ``data`` begins; its length where there is none."""
    at = 0
    while at < len(data):
        frame = read(data, at)
        if frame is not None:
            at = frame.end
            continue
        found = resume(data, at)
        if isinstance(found, Torn):
            return found.start
        at = found.end
    return at


def _body_length(data: bytes, start: int) -> int | None:
    """What a sound header at ``start`` says."""
    if len(data) - start < HEADER_BYTES:
        return None
    magic, _, length, _ = _FRONT.unpack_from(data, start)
    check = _CHECK.unpack_from(data, start + _FRONT.size)[0]
    front = data[start : start + _FRONT.size]
    return int(length) if magic == MAGIC and crc32(front) == check else None


def _is_beginning(data: bytes, start: int) -> bool:
    left = len(data) - start
    if left < HEADER_BYTES:
        return data[start : start + len(MAGIC)] == MAGIC[:left]
    length = _body_length(data, start)
    return length is not None and HEADER_BYTES + length + len(END) > left
