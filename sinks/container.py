"""Avro Object Container Files built from bodies that nobody decoded (pure).

A Kafka value is the registry's framing and an Avro body; a container is a header with the writer's schema and a block
of such bodies. So rows reach ClickHouse without being decoded here, the original bytes untouched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from tradetape.schemas.catalogue import Schema

_MAGIC = b"Obj\x01"
SYNC_BYTES = 16


def varint(number: int) -> bytes:
    """``number`` (≥ 0), seven bits a byte, the lowest first: a length in ClickHouse's RowBinary."""
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """``number`` (≥ 0) as an Avro long."""
    return varint(number << 1)


def _string(value: bytes) -> bytes:
    return zigzag(len(value)) + value


class Container:
    """Packs bodies that were written with ``schema``. The same bodies always give the same bytes."""

    def __init__(self, schema: Schema) -> None:
        text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False).encode()
        self._sync = hashlib.sha256(text).digest()[:SYNC_BYTES]
        meta = _string(b"avro.codec") + _string(b"null") + _string(b"avro.schema") + _string(text)
        self._header = _MAGIC + zigzag(2) + meta + zigzag(0) + self._sync

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        """A container of ``bodies`` in their order, in one block."""
        return b"".join((self._header, zigzag(len(bodies)), zigzag(sum(map(len, bodies))), *bodies, self._sync))
