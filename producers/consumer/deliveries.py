"""What a member of a consumer group holds, and what it may commit (S4-05). Pure: no Kafka, no clock, no lock.

A record is *waiting*, then *in flight* from the moment it is handed out, and *settled* when it is acknowledged. A
failed one waits for its retry, and its partition waits with it, so that the order of a partition is kept. One that
failed too often is *exhausted*: it is settled when its dead letter is written. Offsets may be committed up to the first
record of the partition that is not settled.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

RETRIES = (0.1, 0.5, 2.0)
"""Seconds before each retry (S4-04); what fails after the last is a dead letter."""

PROCESSING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record as it was fetched."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: tuple[tuple[str, bytes | None], ...] = field(default=(), repr=False)

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One handing out of a record. ``attempt`` counts from 1; ``token`` is of this delivery alone."""

    token: int
    record: Record
    attempt: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A record to be made a dead letter: ``attempts`` failed, the last for ``reason``."""

    token: int
    record: Record
    attempts: int
    reason: str


class Place(NamedTuple):
    """What to commit for a partition: the next offset to read, and how often the record there failed already."""

    offset: int
    failures: int


@dataclass(slots=True)
class _Partition:
    waiting: deque[Record] = field(default_factory=deque)
    retries: dict[int, tuple[float, Record]] = field(default_factory=dict)
    """By offset: when a failed record is due, and the record."""
    # Ordered by offset. A plain dict would scan over what was deleted at its front each time its first key is asked.
    unsettled: OrderedDict[int, int] = field(default_factory=OrderedDict)
    """Failures so far of each record that is not settled."""
    next_offset: int | None = None
    start: Place | None = None
    """What the last owner committed."""
    committed: Place | None = None

    def place(self) -> Place | None:
        if self.unsettled:
            return Place(*next(iter(self.unsettled.items())))
        return None if self.next_offset is None else Place(self.next_offset, 0)


class Deliveries:
    """The records of the assigned partitions of one topic. Times are seconds of any one clock.

    ``retries`` are the seconds before each retry, ``processing_timeout`` how long a record may be in flight.
    """

    def __init__(self, *, retries: Sequence[float] = RETRIES, processing_timeout: float = PROCESSING_SECONDS) -> None:
        self._retries = tuple(retries)
        self._timeout = processing_timeout
        self._partitions: OrderedDict[int, _Partition] = OrderedDict()
        # One timeout for all: the order of handing out is the order of deadlines.
        self._in_flight: OrderedDict[int, Delivery] = OrderedDict()
        self._exhausted: deque[Exhausted] = deque()
        self._burying: dict[int, Record] = {}
        self._tokens = 0
        self.bytes_held = 0
        self.retried = 0

    @property
    def held(self) -> int:
        """Records that are not settled."""
        return sum(len(partition.unsettled) for partition in self._partitions.values())

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions assigned."""
        return frozenset(self._partitions)

    def assign(self, places: Mapping[int, Place | None]) -> None:
        """Take partitions over, each with what the last owner committed, if it is known."""
        for partition, place in places.items():
            self._partitions[partition] = _Partition(start=place, committed=place)

    def revoke(self, partitions: Iterable[int]) -> None:
        """Forget everything of ``partitions``: their next owner gets it. Acknowledgements that still come are void."""
        for number in partitions:
            partition = self._partitions.pop(number, None)
            if partition is None:
                continue
            held = [*partition.waiting, *(record for _, record in partition.retries.values())]
            for token in [t for t, delivery in self._in_flight.items() if delivery.record.partition == number]:
                held.append(self._in_flight.pop(token).record)
            for token in [t for t, record in self._burying.items() if record.partition == number]:
                held.append(self._burying.pop(token))
            self.bytes_held -= sum(record.size for record in held)
        self._exhausted = deque(item for item in self._exhausted if item.token in self._burying)

    def begin(self, partition: int, offset: int) -> None:
        """Reading of an assigned partition begins at ``offset``: nobody committed one, so this is to be committed."""
        self._partitions[partition].next_offset = offset

    def add(self, record: Record) -> bool:
        """Take a fetched record; False where its partition is not assigned (any more)."""
        partition = self._partitions.get(record.partition)
        if partition is None:
            return False
        start = partition.start
        failures = start.failures if start is not None and start.offset == record.offset else 0
        partition.unsettled[record.offset] = failures
        partition.next_offset = record.offset + 1
        partition.waiting.append(record)
        self.bytes_held += record.size
        return True

    def claim(self, now: float, *, first_attempts_only: bool = False) -> Delivery | None:
        """Hand out the next record, partitions in turn; None where none is ready."""
        for number, partition in self._partitions.items():
            record = self._next_of(partition, now, first_attempts_only)
            if record is not None:
                self._partitions.move_to_end(number)
                return self._deliver(partition, record, now)
        return None

    def _next_of(self, partition: _Partition, now: float, first_attempts_only: bool) -> Record | None:
        if partition.retries:
            offset = min(partition.retries)
            due, record = partition.retries[offset]
            if first_attempts_only or due > now:
                return None
            del partition.retries[offset]
            return record
        if not partition.waiting or (first_attempts_only and partition.unsettled[partition.waiting[0].offset]):
            return None
        return partition.waiting.popleft()

    def _deliver(self, partition: _Partition, record: Record, now: float) -> Delivery:
        self._tokens += 1
        delivery = Delivery(self._tokens, record, partition.unsettled[record.offset] + 1, now + self._timeout)
        self._in_flight[delivery.token] = delivery
        return delivery

    def next_due(self) -> float | None:
        """When the first retry is due; None where none waits."""
        dues = [due for p in self._partitions.values() if p.retries for due in [p.retries[min(p.retries)][0]]]
        return min(dues, default=None)

    def is_ready(self, now: float) -> bool:
        """Whether ``claim`` would hand something out."""
        due = self.next_due()
        return (due is not None and due <= now) or any(p.waiting and not p.retries for p in self._partitions.values())

    def settle(self, token: int) -> bool:
        """The record of that delivery is done with. False where the delivery ended before: timed out or revoked."""
        delivery = self._in_flight.pop(token, None)
        record = self._burying.pop(token, None) if delivery is None else delivery.record
        if record is None:
            return False
        del self._partitions[record.partition].unsettled[record.offset]
        self.bytes_held -= record.size
        return True

    def release(self, token: int) -> bool:
        """Take a delivery back that nobody worked on: the record is handed out again, as if for the first time."""
        delivery = self._in_flight.pop(token, None)
        if delivery is None:
            return False
        partition = self._partitions[delivery.record.partition]
        partition.retries[delivery.record.offset] = (float("-inf"), delivery.record)
        return True

    def fail(self, token: int, reason: str, now: float, *, final: bool = False) -> bool:
        """The delivery failed: retry it later, or, after the last retry or if ``final``, let it be a dead letter.

        False where the delivery ended before.
        """
        delivery = self._in_flight.pop(token, None)
        if delivery is None:
            return False
        record = delivery.record
        partition = self._partitions[record.partition]
        attempts = partition.unsettled[record.offset] = delivery.attempt
        if final or attempts > len(self._retries):
            self._burying[token] = record
            self._exhausted.append(Exhausted(token, record, attempts, reason))
        else:
            self.retried += 1
            partition.retries[record.offset] = (now + self._retries[attempts - 1], record)
        return True

    def expire(self, now: float) -> list[Delivery]:
        """Fail every delivery whose processing timeout is over, and return them."""
        late = []
        while self._in_flight:
            delivery = next(iter(self._in_flight.values()))
            if delivery.deadline > now:
                break
            self.fail(delivery.token, f"not acknowledged within {self._timeout:g} s", now)
            late.append(delivery)
        return late

    def take_exhausted(self) -> list[Exhausted]:
        """What must be written as dead letters now, each once; ``settle`` its token when it is written."""
        taken, self._exhausted = [*self._exhausted], deque()
        return taken

    def to_commit(self) -> dict[int, Place]:
        """By partition, what may be committed and is not yet."""
        places = {number: partition.place() for number, partition in self._partitions.items()}
        return {n: p for n, p in places.items() if p is not None and p != self._partitions[n].committed}

    def committed(self, places: Mapping[int, Place]) -> None:
        """Kafka has ``places``."""
        for number, place in places.items():
            if number in self._partitions:
                self._partitions[number].committed = place
