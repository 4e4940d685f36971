"""Snapshots of a partition's state: written from the store's own bytes, read where a fold may begin (S1-07)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from tradetape.processors import snapshots
from tradetape.processors.reading import SchemaById
from tradetape.processors.replay import Replay
from tradetape.processors.version import CORE_VERSION, STATE_VERSION
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import raws
from tradetape.sinks.container import varint
from tradetape.sinks.raws import Last
from tradetape.sinks.store import Store

TABLE = "tradetape.snapshots"
PIECE = 8 * 1024 * 1024
"""Bytes of state in one row: a row is held in memory several times while it is inserted."""

_COLUMNS = (
    *("raw_partition", "raw_offset", "piece", "pieces", "event_id", "ingest_ts_utc"),
    *("core_version", "state_version", "records", "sha256", "state"),
)
_OURS = "core_version = {core:String} AND state_version = {version:Int32}"


class Snapshot(NamedTuple):
    """The state after ``last`` and every record before it."""

    last: Last
    records: int
    sha256: str


def listing(store: Store, partition: int | None = None) -> list[Snapshot]:
    """The snapshots of this core, of all partitions or of one, oldest first; only those that are there whole."""
    found = store.query(
        "SELECT raw_partition, raw_offset, any(event_id), any(toUnixTimestamp64Micro(ingest_ts_utc)), any(records), "
        f"any(sha256) FROM {TABLE} WHERE {_OURS} AND ({{partition:Int32}} < 0 OR raw_partition = {{partition:Int32}}) "
        "GROUP BY raw_partition, raw_offset HAVING uniqExact(piece) = any(pieces) ORDER BY raw_partition, raw_offset",
        _ours() | {"partition": -1 if partition is None else partition},
    )
    return [Snapshot(Last(int(r[0]), int(r[1]), str(r[2]), int(r[3])), int(r[4]), str(r[5])) for r in found]


def newest(store: Store, partition: int, last: int) -> tuple[Snapshot, dict[bytes, bytes]] | None:
    """The newest snapshot of this core at or before the offset ``last``, with its state; None where there is none.

    Raises TradetapeError where its bytes are not those that its hash says.
    """
    found = [snapshot for snapshot in listing(store, partition) if snapshot.last.raw_offset <= last]
    if not found:
        return None
    return found[-1], snapshots.unpack(state(store, found[-1]))


def state(store: Store, snapshot: Snapshot) -> bytes:
    """The bytes of ``snapshot``. Raises TradetapeError where they are not those that its hash says."""
    pieces = store.query(
        f"SELECT hex(state) FROM {TABLE} WHERE {_OURS} AND raw_partition = {{partition:Int32}} "
        "AND raw_offset = {offset:Int64} ORDER BY piece LIMIT 1 BY piece",
        _ours() | {"partition": snapshot.last.raw_partition, "offset": snapshot.last.raw_offset},
    )
    whole = b"".join(bytes.fromhex(row[0]) for row in pieces)
    if snapshots.digest(whole) != snapshot.sha256:
        place = f"{snapshot.last.raw_partition}:{snapshot.last.raw_offset}"
        raise TradetapeError(
            f"the snapshot at {place} is not what its hash says: it was changed",
            hint="add --no-snapshots to fold from the first record",
        )
    return whole


def write(store: Store, partition: int, last: int, schema_by_id: SchemaById) -> Snapshot | None:
    """Fold ``partition`` on from its newest snapshot to ``last`` and keep the state; None where it is kept already.

    Raises TradetapeError where records are missing.
    """
    replay, begun = resume(store, partition, last, schema_by_id)
    if begun is not None and begun.last.raw_offset == last:
        return None
    fold_on(store, replay, last)
    packed = snapshots.pack(replay.store)
    snapshot = Snapshot(raws.last_of(store, partition, last), len(replay.store), snapshots.digest(packed))
    for number, row in enumerate(_rows(snapshot, packed)):
        token = f"snapshot:{partition}:{last}:{number}:{CORE_VERSION}:{STATE_VERSION}:{snapshot.sha256}"
        store.insert_binary(TABLE, _COLUMNS, row, token)
    return snapshot


def resume(
    store: Store, partition: int, last: int, schema_by_id: SchemaById, *, use: bool = True
) -> tuple[Replay, Snapshot | None]:
    """A fold that goes on from the newest snapshot up to ``last``, and that one; from nothing where none is there.

    ``use`` False: from the first record in any case.
    """
    found = newest(store, partition, last) if use else None
    if found is None:
        return Replay(partition, schema_by_id), None
    return Replay(partition, schema_by_id, found[1]), found[0]


def fold_on(store: Store, replay: Replay, last: int) -> None:
    """Fold the stored records that follow, up to ``last``. Raises TradetapeError where one is missing."""
    for raw in raws.following(store, replay.partition, replay.next_offset, last):
        replay.fold(raw)
    replay.commit()


def _ours() -> dict[str, object]:
    return {"core": CORE_VERSION, "version": STATE_VERSION}


def _rows(snapshot: Snapshot, packed: bytes) -> Iterator[bytes]:
    """The rows of a snapshot as RowBinary, each by itself."""
    last = snapshot.last
    pieces = [packed[start : start + PIECE] for start in range(0, len(packed), PIECE)]
    for number, piece in enumerate(pieces):
        yield b"".join(
            (
                struct.pack("<iqii", last.raw_partition, last.raw_offset, number, len(pieces)),
                _text(last.event_id.encode()),
                struct.pack("<q", last.ingest_ts_utc),
                _text(CORE_VERSION.encode()),
                struct.pack("<iq", STATE_VERSION, snapshot.records),
                _text(snapshot.sha256.encode()),
                _text(piece),
            )
        )


def _text(value: bytes) -> bytes:
    """A String of RowBinary."""
    return varint(len(value)) + value
