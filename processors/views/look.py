"""Committed state of a partition, to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tradetape.processors.replay import Replay
from tradetape.processors.state import SEPARATOR, PartitionState, Record


class Look:
    """A look at the state in ``store``, by key. What is done to ``state`` is folded nowhere."""

    def __init__(self, partition: int, store: Mapping[bytes, bytes]) -> None:
        self.state = PartitionState(partition, store)
        self._store = store

    @classmethod
    def at(cls, replay: Replay) -> Look:
        """The state that ``replay`` has reached."""
        replay.commit()
        return cls(replay.partition, replay.store)

    def names(self, kind: type[Record], *owner: str) -> Iterator[tuple[str, ...]]:
        """What names the records of ``kind`` whose name begins with ``owner``, in order."""
        before = len(self.state.key(kind))
        prefix = self.state.key(kind, *owner, "")
        for key in sorted(key for key in self._store if key.startswith(prefix)):
            yield tuple(key[before:].decode().split(SEPARATOR))
