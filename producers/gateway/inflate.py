"""gzip request bodies, inflated under a bound: a small body cannot become a large one, nor much work (P-08)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_GZIP = 16 + zlib.MAX_WBITS
STEP = 1024 * 1024
"""Bytes inflated at a time."""
FED = 64 * 1024
"""Bytes handed to zlib at a time: what it does not use it copies."""
MEMBERS = 1000
"""gzip members of one body at most: each has a price of its own, however little is in it."""


class NotGzip(ValueError):
    """The bytes are not whole gzip members."""


class TooLarge(ValueError):
    """More comes out than allowed, or there are more members than allowed."""


def inflate(body: bytes, *, largest: int) -> Iterator[bytes]:
    """The content of ``body`` in pieces of STEP bytes at most, of ``largest`` together. Raises NotGzip, TooLarge."""
    view, at, total = memoryview(body), 0, 0
    for _ in range(MEMBERS):
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            fed = view[at : at + FED]
            try:
                piece = member.decompress(fed, min(STEP, largest - total + 1))
            except zlib.error as error:
                raise NotGzip(str(error)) from None
            at += len(fed) - len(member.unconsumed_tail) - len(member.unused_data)
            total += len(piece)
            if total > largest:
                raise TooLarge(f"more than {largest} bytes inflated")
            if not piece and not fed and not member.eof:
                raise NotGzip("the gzip stream ends too early")
            yield piece
        if at == len(body):
            return
    raise TooLarge(f"more than {MEMBERS} gzip members")
