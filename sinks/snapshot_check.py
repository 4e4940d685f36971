"""Are the stored snapshots what the fold comes to? (S1-07)"""

from __future__ import annotations

from collections.abc import Sequence

from tradetape.processors import snapshots as packing
from tradetape.processors.emission import Emitted
from tradetape.processors.replay import Replay
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import snapshots
from tradetape.sinks.replay import Difference
from tradetape.sinks.snapshots import Snapshot
from tradetape.sinks.store import Store


class SnapshotCheck:
    """Hears every record of the fold (``observe``) and compares the state where a snapshot of it is stored.

    ``differences`` are the snapshots that are not what the fold came to, ``equal`` how many are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._due = {(found.last.raw_partition, found.last.raw_offset): found for found in snapshots.listing(store)}
        self.equal = 0
        self.differences: list[Difference] = []

    def observe(self, replay: Replay, judged: Sequence[Emitted]) -> None:
        """Compare where the record just folded is the last one of a snapshot."""
        verdict = judged[0].record
        found = self._due.pop((replay.partition, verdict["raw_offset"]), None)
        if found is None:
            return
        replay.commit()
        packed = packing.pack(replay.store)
        wanted = {
            "event_id": verdict["event_id"],
            "ingest_ts_utc": str(verdict["ingest_ts_utc"]),
            "records": str(len(replay.store)),
            "sha256": packing.digest(packed),
        }
        self._compare(found, wanted, packed)

    def _compare(self, found: Snapshot, wanted: dict[str, str], packed: bytes) -> None:
        said = {
            "event_id": found.last.event_id,
            "ingest_ts_utc": str(found.last.ingest_ts_utc),
            "records": str(found.records),
            "sha256": found.sha256,
        }
        place = f"{found.last.raw_partition}:{found.last.raw_offset}"
        for name, value in wanted.items():
            if said[name] != value:
                self.differences.append(Difference(place, "snapshots", name, said[name], value))
                return
        try:
            is_equal = snapshots.state(self._store, found) == packed
        except TradetapeError:
            is_equal = False
        if is_equal:
            self.equal += 1
        else:
            self.differences.append(Difference(place, "snapshots", "state", "other bytes", f"sha256 {found.sha256}"))
