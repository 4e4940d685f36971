"""The fold of one partition again: the worker's core over its raw records, without Faust or any server (G3, P-06)."""

from __future__ import annotations

from tradetape.processors import core
from tradetape.processors.emission import Emitted, emitted
from tradetape.processors.reading import RawRecord, SchemaById
from tradetape.processors.state import PartitionState, apply

COMMIT_EVERY = 2_000
"""Records between two commits: what changed since the last one is held decoded."""


class Gap(Exception):
    """The record that follows the last one is missing: nothing may be judged past that."""

    def __init__(self, partition: int, first: int, last: int) -> None:
        super().__init__(f"raw partition {partition}: offsets {first} to {last} are missing")
        self.partition = partition
        self.first = first
        self.last = last


class Replay:
    """Folds the raw records of ``partition`` from its first one on, or on from the state in ``store``.

    ``store`` is what is committed: the state as the changelog lays it out, by key. ``contiguous`` is False where only
    some of the records are folded: then none is missed.
    """

    def __init__(
        self,
        partition: int,
        schema_by_id: SchemaById,
        store: dict[bytes, bytes] | None = None,
        *,
        contiguous: bool = True,
    ) -> None:
        self.partition = partition
        self.store: dict[bytes, bytes] = {} if store is None else store
        self._contiguous = contiguous
        self._schema_by_id = schema_by_id
        self._state = PartitionState(partition, self.store)
        self._uncommitted = 0

    @property
    def next_offset(self) -> int:
        """The offset of the record that must come next."""
        return self._state.progress.applied + 1

    def fold(self, raw: RawRecord) -> list[Emitted]:
        """Judge ``raw`` and return what is sent for it. Raises Gap where it does not follow the last one."""
        if self._contiguous and raw.offset != self.next_offset:
            raise Gap(self.partition, self.next_offset, raw.offset - 1)
        output = core.process(raw, self._state, self._schema_by_id)
        self._state.progress.applied = raw.offset
        self._uncommitted += 1
        if self._uncommitted >= COMMIT_EVERY:
            self.commit()
        return list(emitted(output))

    @property
    def state(self) -> PartitionState:
        """The state after the last record, as the next one finds it."""
        return self._state

    def commit(self) -> None:
        """Write what changed into ``store``."""
        apply(self.store, self._state.changes())
        self._state.committed()
        self._uncommitted = 0
