"""The whole state of a partition after one of its records, as bytes (S1-07). Pure.

The same state gives the same bytes, however it was folded: records by key, in the order of their keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]])


def pack(store: Mapping[bytes, bytes]) -> bytes:
    """The committed state in ``store``."""
    return _encode(sorted(store.items()))


def unpack(state: bytes) -> dict[bytes, bytes]:
    """The committed state that ``pack`` wrote. Raises msgspec.DecodeError."""
    return dict(_decoder.decode(state))


def digest(state: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(state).hexdigest()
