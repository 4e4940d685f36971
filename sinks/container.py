"""Avro Object Container Files built from bodies that nobody decoded (pure).

A Kafka value is the registry's framing and an Avro body; a container is a header with the writer's schema and blocks
of such bodies. So rows reach ClickHouse without being decoded here, the original bytes untouched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from tradetape.schemas.catalogue import Schema

_MAGIC = b"Obj\x01"
SYNC_BYTES = 16


def zigzag(number: int) -> bytes:
    """``number`` (≥ 0) as an Avro long."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _string(value: bytes) -> bytes:
    return zigzag(len(value)) + value


class Container:
    """Packs bodies that were written with ``schema``. The same bodies always give the same bytes."""

    def __init__(self, schema: Schema) -> None:
        text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False).encode()
        self._sync = hashlib.sha256(text).digest()[:SYNC_BYTES]
        meta = _string(b"avro.codec") + _string(b"null") + _string(b"avro.schema") + _string(text)
        self._header = _MAGIC + zigzag(2) + meta + zigzag(0) + self._sync

    def pack(self, bodies: Sequence[bytes], block_rows: int = 0) -> bytes:
        """A container of ``bodies`` in their order, ``block_rows`` to a block (0: all in one)."""
        return b"".join(self._pieces(bodies, block_rows or len(bodies)))

    def _pieces(self, bodies: Sequence[bytes], block_rows: int) -> Iterator[bytes]:
        yield self._header
        for start in range(0, len(bodies), max(block_rows, 1)):
            block = bodies[start : start + block_rows]
            yield zigzag(len(block))
            yield zigzag(sum(map(len, block)))
            yield from block
            yield self._sync
