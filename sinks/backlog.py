"""What is read of a topic partition and not landed yet: when it is due, and which of it is landed next (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tradetape.sinks import intents
from tradetape.sinks.batch import MAX_BYTES, MAX_ROWS, Record
from tradetape.sinks.intents import Intent
from tradetape.sinks.landing import Reached

# An insert costs about 40 ms of CPU however small it is, and a round has three or four: a quarter of a second keeps
# rows visible within one, and the rest as long as the last round took keeps half the time free.
LINGER_SECONDS = 0.25
# Behind by more than this, rows are late already: larger batches catch up with less work.
BEHIND_SECONDS = 5.0
CATCH_UP_LINGER_SECONDS = 1.0


@dataclass(slots=True)
class Backlog:
    """Records of the partition ``number`` of ``topic``, as they were read since it was assigned.

    ``pending`` is what a sink, mostly one before this one, meant to land, and did not finish: it is landed first, as it
    was meant.
    """

    topic: str
    number: int
    pending: Intent | None = None
    reached: Reached = field(default_factory=Reached)
    _records: list[Record] = field(default_factory=list, init=False)
    _size: int = field(default=0, init=False)
    _since: float = field(default=0.0, init=False)

    def add(self, record: Record, now: float) -> None:
        """Take the next record; ``now`` is of a monotonic clock, seconds."""
        if not self._records:
            self._since = now
        self._records.append(record)
        self._size += len(record.value)

    @property
    def is_full(self) -> bool:
        """Whether there is as much as is landed together."""
        return len(self._records) >= MAX_ROWS or self._size >= MAX_BYTES

    def is_due(self, now: float, wall_clock: float) -> bool:
        """Whether its first record has waited long enough; ``wall_clock`` is UTC, seconds."""
        if not self._records:
            return False
        behind = wall_clock - self._records[0].timestamp / 1_000_000
        return now - self._since >= (CATCH_UP_LINGER_SECONDS if behind > BEHIND_SECONDS else LINGER_SECONDS)

    def cut(self) -> tuple[Sequence[Record], Intent] | None:
        """The next records, within the bounds of one insert, and the intent to land them; None where there are none.

        The pending ones come first, and once all of them are read. Raises IntentBroken where they are others now.
        """
        if not self._records:
            return None
        if self.pending is not None:
            return self._pending(self.pending)
        size = 0
        for count, record in enumerate(self._records):
            size += len(record.value)
            if count and (count >= MAX_ROWS or size > MAX_BYTES):
                break
        else:
            count = len(self._records)
        records = self._records[:count]
        return records, intents.of(records)

    def _pending(self, pending: Intent) -> tuple[Sequence[Record], Intent] | None:
        if self._records[-1].offset + 1 < pending.end:
            return None
        records = [record for record in self._records if record.offset < pending.end] or self._records[:1]
        pending.check(self.topic, self.number, records)
        return records, pending

    def forget(self, count: int, now: float) -> None:
        """The first ``count`` records are landed."""
        self._size -= sum(len(record.value) for record in self._records[:count])
        del self._records[:count]
        self._since = now
        self.pending = None
