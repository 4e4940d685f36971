"""What a partition remembers, and how it is laid out in the changelog.

One key per order, position, instance, source watermark and seen id; a batch writes only what it changed, as one
atomic Kafka record batch that ends with the partition's ``applied`` offset (decision 0002). State of a partition is
therefore always that after some whole batch, and an event at or below ``applied`` has been folded completely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Protocol, TypeVar

import msgspec

from tradetape.processors.version import STATE_VERSION

ZERO = Decimal(0)
SEPARATOR = "\x1f"

SEEN_CAPACITY = 200_000
"""Ids of positionless events remembered per partition: at 100 such events a second, the last half hour."""

CACHE_CAPACITY = 100_000
"""Decoded records kept per partition between batches; at about 1 kB each, 100 MB."""


class Fill(msgspec.Struct, array_like=True):
    """An execution that waits for its order to tell its direction. Base quantity, quote price, fees by asset."""

    price: Decimal
    quantity: Decimal
    fees: list[tuple[str, Decimal]]


class Order(msgspec.Struct, array_like=True):
    """What the record knows of one order; ``open_findings`` are the codes now open on it."""

    known: bool = False
    created: bool = False
    is_open: bool = False
    side: str | None = None
    amount: Decimal | None = None
    filled: Decimal = ZERO
    fill_ids: list[str] = []
    pending: list[Fill] = []
    fill_reported: bool = False
    terminals: dict[str, int] = {}
    filled_after_terminal: bool = False
    ran_backwards: bool = False
    last_ts: int = 0
    correlation_id: str = ""
    correlations_differ: bool = False
    open_findings: list[str] = []


class Position(msgspec.Struct, array_like=True):
    """A position in base, its signed total cost and its realised P&L in quote, fees by asset."""

    net_base: Decimal = ZERO
    cost_quote: Decimal = ZERO
    realised_quote: Decimal = ZERO
    fees: dict[str, Decimal] = {}
    last_price: Decimal = ZERO
    fills: int = 0


class Instance(msgspec.Struct, array_like=True):
    """Counts of one bot since its first event."""

    open_orders: int = 0
    orders_created: int = 0
    orders_cancelled: int = 0
    orders_failed: int = 0


class Watermark(msgspec.Struct, array_like=True):
    """The highest source_position taken in of one (source_id, source_stream)."""

    position: int = -1


class Track(msgspec.Struct, array_like=True):
    """Numbers seen of one numbered history: the highest, the ranges below it that are missing (first, last), and what
    was told of them.
    """

    highest: int = -1
    missing: list[tuple[int, int]] = []
    rejected: list[int] = []
    told: bool = False


class Seen(msgspec.Struct, array_like=True):
    """Where an id was first seen: the checksum of its source_id."""

    source: int = 0


class Slot(msgspec.Struct, array_like=True):
    """The id in one slot of the ring of seen ids."""

    event_id: str = ""


class Progress(msgspec.Struct, array_like=True):
    """How far the partition is folded, and the next slot of the ring of seen ids."""

    applied: int = -1
    seen_count: int = 0
    version: int = STATE_VERSION


Record = Order | Position | Instance | Watermark | Track | Seen | Slot | Progress
R = TypeVar("R", Order, Position, Instance, Watermark, Track, Seen, Slot, Progress)

_PREFIX: dict[type[Record], str] = {
    Order: "o",
    Position: "p",
    Instance: "i",
    Watermark: "w",
    Track: "n",
    Seen: "s",
    Slot: "r",
    Progress: "a",
}
_DECODERS: dict[type[Record], Callable[[bytes], Record]] = {
    kind: msgspec.msgpack.Decoder(kind).decode for kind in _PREFIX
}
_encode = msgspec.msgpack.Encoder().encode


class Store(Protocol):
    """Committed state of all partitions: bytes by key."""

    def get(self, key: bytes) -> bytes | None: ...


class StateVersionMismatch(RuntimeError):
    """The changelog holds state of another layout; it has to be rebuilt from ``tradetape.events``."""

    def __init__(self, partition: int, version: int) -> None:
        super().__init__(
            f"partition {partition}: state has layout {version}, this code {STATE_VERSION}. Stop the workers, delete "
            "the topic tradetape.state and the offsets of group tradetape-worker, run `tradetape up`: the workers "
            "judge the log again from its beginning, and the sink drops what it has"
        )


class PartitionState:
    """The state of one partition during a batch: reads through to ``store``, remembers what changed.

    Records are mutable and belong to the caller between ``get`` and ``changes``; ``touch`` marks one as changed.
    """

    def __init__(self, partition: int, store: Store) -> None:
        self.partition = partition
        self._store = store
        self._records: dict[bytes, Record] = {}
        self._changed: dict[bytes, Record | None] = {}
        self.progress = self.get(Progress)
        if self.progress.version != STATE_VERSION:
            raise StateVersionMismatch(partition, self.progress.version)

    def key(self, kind: type[Record], *parts: str) -> bytes:
        """The changelog key of a record: partition, kind and what names it."""
        return f"{self.partition}{_PREFIX[kind]}{SEPARATOR.join(parts)}".encode()

    def get(self, kind: type[R], *parts: str) -> R:
        """The record of that name, a fresh one if there is none."""
        return self.find(kind, *parts) or kind()

    def find(self, kind: type[R], *parts: str) -> R | None:
        """The record of that name, if there is one."""
        key = self.key(kind, *parts)
        if key in self._changed:
            return self._changed[key]  # type: ignore[return-value]
        record = self._records.get(key)
        if record is None:
            stored = self._store.get(key)
            if stored is None:
                return None
            record = self._records[key] = _DECODERS[kind](stored)
        return record  # type: ignore[return-value]

    def touch(self, record: Record, *parts: str) -> None:
        """``record`` is new or changed."""
        self._changed[self.key(type(record), *parts)] = record

    def forget(self, kind: type[Record], *parts: str) -> None:
        """The record of that name is no longer needed."""
        self._changed[self.key(kind, *parts)] = None

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """What the batch changed, the partition's progress last; None deletes."""
        progress = self.key(Progress)
        self._changed.pop(progress, None)
        for key, record in self._changed.items():
            yield key, None if record is None else _encode(record)
        yield progress, _encode(self.progress)

    def committed(self) -> None:
        """The changes are in the store: begin the next batch."""
        if len(self._records) + len(self._changed) > CACHE_CAPACITY:
            self._records.clear()
        for key, record in self._changed.items():
            if record is None:
                self._records.pop(key, None)
            else:
                self._records[key] = record
        self._changed.clear()
