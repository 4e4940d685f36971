"""gzip request bodies, inflated under a bound: a small body cannot become a large one (P-08)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_GZIP = 16 + zlib.MAX_WBITS
STEP = 1024 * 1024
"""Bytes inflated at a time."""


class NotGzip(ValueError):
    """The bytes are not whole gzip members."""


class TooLarge(ValueError):
    """More comes out than allowed."""


def inflate(body: bytes, *, largest: int) -> Iterator[bytes]:
    """The content of ``body`` in pieces of STEP bytes at most, of ``largest`` together. Raises NotGzip, TooLarge."""
    total = 0
    while True:
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            try:
                piece = member.decompress(body, min(STEP, largest - total + 1))
            except zlib.error as error:
                raise NotGzip(str(error)) from None
            body = member.unconsumed_tail
            total += len(piece)
            if total > largest:
                raise TooLarge(f"more than {largest} bytes inflated")
            if not piece and not body and not member.eof:
                raise NotGzip("the gzip stream ends too early")
            yield piece
        body = member.unused_data
        if not body:
            return
