"""What a partition remembers, and how it is laid out in the changelog.

A record is known by its kind and what names it; a batch writes only the records that it changed, as one atomic Kafka
record batch that ends with the partition's ``applied`` offset (decision 0002). State of a partition is therefore always
that after some whole batch, and an event at or below ``applied`` has been folded completely.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import cache
from typing import ClassVar, Protocol, TypeVar

import msgspec

from tradetape.processors.horizons import DEFAULT, Horizons
from tradetape.processors.version import STATE_VERSION

SEPARATOR = "\x1f"

CACHE_CAPACITY = 100_000
"""Decoded records kept per partition between batches; at about 1 kB each, 100 MB."""


class Record(msgspec.Struct, array_like=True):
    """A kind of record; each is defined beside the code that folds it. ``KEY`` tells kinds apart in the changelog.

    Fields are written in their order and by position: a new one goes last and has a default, every other change is a
    new STATE_VERSION.
    """

    KEY: ClassVar[str] = ""


NOTHING_SENT = -1


class Progress(Record):
    """How far the partition is folded, and the slots in use of the queue of seen ids: from ``seen_first`` on, before
    ``seen_count``. Up to ``sent`` everything was sent before, from state of another layout.

    ``applied`` and ``version`` have their places in every layout.
    """

    KEY: ClassVar[str] = "a"

    applied: int = -1
    seen_count: int = 0
    version: int = STATE_VERSION
    seen_first: int = 0
    sent: int = NOTHING_SENT


_UUID = b"\xff"
"""Stands before the bytes of a UUID, and in no text."""


def packed(name: str) -> bytes:
    """``name``, an id, in as few bytes as it takes: 17 for a UUID in its usual form, any other as it is."""
    if len(name) == 36:
        try:
            short = _UUID + bytes.fromhex(name.replace("-", ""))
        except ValueError:
            return name.encode()
        if unpacked(short) == name:
            return short
    return name.encode()


def unpacked(short: bytes) -> str:
    """The id that was ``packed``."""
    if not short.startswith(_UUID):
        return short.decode()
    digits = short[1:].hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


Change = tuple[bytes, bytes | None]
"""A key and what is stored under it from now on; None deletes."""

R = TypeVar("R", bound=Record)

_encode = msgspec.msgpack.Encoder().encode


@cache
def _decoder(kind: type[R]) -> msgspec.msgpack.Decoder[R]:
    return msgspec.msgpack.Decoder(kind)


class Store(Protocol):
    """Committed state of all partitions: bytes by key."""

    def get(self, key: bytes) -> bytes | None: ...


class StateVersionMismatch(RuntimeError):
    """State of another layout, after the offset ``applied``: it has to be folded again from the log."""

    def __init__(self, partition: int, progress: Progress) -> None:
        super().__init__(f"partition {partition}: state has layout {progress.version}, this code {STATE_VERSION}")
        self.applied = progress.applied


class PartitionState:
    """The state of one partition during a batch: reads through to ``store``, remembers what changed.

    Records are mutable and belong to the caller between ``get`` and ``changes``; ``touch`` marks one as changed.
    """

    def __init__(self, partition: int, store: Store, horizons: Horizons = DEFAULT) -> None:
        self.partition = partition
        self.horizons = horizons
        self._store = store
        self._records: dict[str, Record] = {}
        self._changed: dict[str, Record | None] = {}
        self.progress = self.get(Progress)
        if self.progress.version != STATE_VERSION:
            raise StateVersionMismatch(partition, self.progress)

    def key(self, kind: type[Record], *parts: str) -> bytes:
        """The changelog key of a record: partition, kind and what names it."""
        return self._key(kind.KEY + SEPARATOR.join(parts))

    def _key(self, name: str) -> bytes:
        return f"{self.partition}{name}".encode()

    @staticmethod
    def name(*parts: str) -> str:
        """``parts`` as one, which names the same record."""
        return SEPARATOR.join(parts)

    def get(self, kind: type[R], *parts: str) -> R:
        """The record of that name, a fresh one if there is none."""
        return self.find(kind, *parts) or kind()

    def find(self, kind: type[R], *parts: str) -> R | None:
        """The record of that name, if there is one."""
        name = kind.KEY + SEPARATOR.join(parts)
        if name in self._changed:
            return self._changed[name]  # type: ignore[return-value]
        record = self._records.get(name)
        if record is None:
            stored = self._store.get(self._key(name))
            if stored is None:
                return None
            record = self._records[name] = _decoder(kind).decode(stored)
        return record  # type: ignore[return-value]

    def touch(self, record: Record, *parts: str) -> None:
        """``record`` is new or changed."""
        self._changed[record.KEY + SEPARATOR.join(parts)] = record

    def forget(self, kind: type[Record], *parts: str) -> None:
        """The record of that name is no longer needed."""
        self._changed[kind.KEY + SEPARATOR.join(parts)] = None

    def changes(self) -> Iterator[Change]:
        """What the batch changed, the partition's progress last; None deletes."""
        self._changed.pop(Progress.KEY, None)
        for name, record in self._changed.items():
            yield self._key(name), None if record is None else _encode(record)
        yield self._key(Progress.KEY), _encode(self.progress)

    def committed(self) -> None:
        """The changes are in the store: begin the next batch."""
        if len(self._records) + len(self._changed) > CACHE_CAPACITY:
            self._records.clear()
        for name, record in self._changed.items():
            if record is None:
                self._records.pop(name, None)
            else:
                self._records[name] = record
        self._changed.clear()


def anew(partition: int, store: Mapping[bytes, bytes], applied: int) -> Iterator[Change]:
    """Changes that leave nothing of ``store`` but that all was sent up to ``applied``; this is the last of them."""
    progress = PartitionState(partition, {}).key(Progress)
    yield from ((key, None) for key in store if key != progress)
    yield progress, _encode(Progress(sent=applied))


def apply(store: MutableMapping[bytes, bytes], changes: Iterable[Change]) -> None:
    """Write ``changes`` into committed state; None deletes."""
    for key, value in changes:
        if value is None:
            store.pop(key, None)
        else:
            store[key] = value
