"""The versions of event_snapshots, each once as far as they can be seen (S1-07).

The table holds the latest version per aggregate only: a version that is replaced between two looks is never seen. A
replaced row is a new one (REPLACE inserts); a row that is updated in place shows by its later created_at.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from tradetape.producers.adapters.catalyst import SNAPSHOTS
from tradetape.producers.adapters.rows import native_json
from tradetape.producers.connectors.catalyst.store import Numbered, Row, Store, page


class Seen(NamedTuple):
    """Rows up to ``rowid`` were taken, none made later than ``created_at`` (ms).

    ``latest`` are the digests of all versions of that millisecond: an update in place within it shows by nothing else.
    """

    rowid: int = 0
    created_at: int = 0
    latest: frozenset[str] = frozenset()

    def saved(self) -> list[Any]:
        """As JSON."""
        return [self.rowid, self.created_at, sorted(self.latest)]

    @classmethod
    def of(cls, saved: list[Any]) -> Seen:
        """What ``saved`` gave."""
        return cls(saved[0], saved[1], frozenset(saved[2]))


def look(store: Store, seen: Seen, limit: int) -> tuple[list[Row], Seen]:
    """Versions that were not seen yet, and what has been seen then. Call it inside one read transaction."""
    if not store.has_snapshots():
        return [], seen
    seen = seen._replace(rowid=min(seen.rowid, store.last_snapshot()))
    since = store.updated_snapshots(seen.rowid, seen.created_at)
    updated = page((numbered for numbered in since if _digest(numbered[1]) not in seen.latest), limit)
    if not updated.complete:
        return [row for _, row in updated.rows], _after(seen, updated.rows, seen.rowid)
    new = store.new_snapshots(seen.rowid, limit).rows
    taken = [*updated.rows, *new]
    return [row for _, row in taken], _after(seen, taken, new[-1][0] if new else seen.rowid)


def _after(seen: Seen, taken: list[Numbered], rowid: int) -> Seen:
    by_moment: dict[int, list[str]] = {}
    for _, row in taken:
        if isinstance(row["created_at"], int):
            by_moment.setdefault(row["created_at"], []).append(_digest(row))
    newest = max(by_moment, default=0)
    if newest < seen.created_at or not by_moment:
        return seen._replace(rowid=rowid)
    before = seen.latest if newest == seen.created_at else frozenset()
    return Seen(rowid, newest, before.union(by_moment[newest]))


def _digest(row: Mapping[str, Any]) -> str:
    return blake2b(native_json({SNAPSHOTS: row}), digest_size=8).hexdigest()
