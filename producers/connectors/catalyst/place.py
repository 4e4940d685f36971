"""How far an event_log was taken in, in a way that outlives VACUUM, deletions and a copy of the file.

The position of a row is its rowid, plus an offset that is 0 until rows are renumbered. The table's rowids are implicit:
VACUUM may renumber them, and a number becomes free again when the last row is deleted. So the last rows taken are
remembered as anchors (id and digest), and looked up before anything new is read. What is wrong with them is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from tradetape.producers.adapters.catalyst import LOG
from tradetape.producers.adapters.rows import native_json
from tradetape.producers.connectors.catalyst.store import NEEDED, OPTIONAL, Numbered, Row, Store
from tradetape.schemas import identity
from tradetape.schemas.errors import TradetapeError

ANCHORS = 32
"""Rows remembered. Deletions of more rows than these at the end of the log are told, but not counted."""

REMOVED, CHANGED = "removed", "changed"


class Anchor(NamedTuple):
    """A row that was taken: where it stood, its event id and the digest of its columns."""

    rowid: int
    event_id: Any
    digest: str


class Place(NamedTuple):
    """Everything up to ``position`` was taken; rows after ``rowid`` are new. ``first`` names the log's first row."""

    position: int = 0
    rowid: int = 0
    anchors: tuple[Anchor, ...] = ()
    first: str = ""

    def position_of(self, rowid: int) -> int:
        """The position of the new row ``rowid``."""
        return self.position + rowid - self.rowid

    def after(self, rows: list[Numbered]) -> Place:
        """The place when ``rows`` are taken too."""
        if not rows:
            return self
        taken = [Anchor(rowid, row["event_id"], digest(row)) for rowid, row in rows[-ANCHORS:]]
        last = rows[-1][0]
        first = self.first or name_of(rows[0][1])
        return Place(self.position_of(last), last, (*self.anchors, *taken)[-ANCHORS:], first)

    def saved(self) -> dict[str, Any]:
        """As JSON."""
        anchors = [[anchor.rowid, anchor.event_id, anchor.digest] for anchor in self.anchors if _is_json(anchor)]
        return {"position": self.position, "rowid": self.rowid, "anchors": anchors, "first": self.first}

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Place:
        """What ``saved`` gave."""
        anchors = tuple(Anchor(*anchor) for anchor in saved["anchors"])
        return cls(saved["position"], saved["rowid"], anchors, saved["first"])


class Tampered(NamedTuple):
    """A row that was taken and is ``reason`` (removed or changed) since."""

    reason: str
    anchor: Anchor
    found: str


def name_of(row: Row) -> str:
    """What names a store: the first row of its log. A copy has the same, a new database another."""
    return identity.derive("catalyst", LOG, native_json({LOG: {name: row[name] for name in _NAMING}}).decode())


_NAMING = ("event_id", "aggregate_id", "created_at")


def digest(row: Row) -> str:
    """A digest of the columns that the document has; one that a migration adds changes nothing."""
    known = {name: row.get(name) for name in (*NEEDED, *OPTIONAL)}
    return blake2b(native_json({LOG: known}), digest_size=8).hexdigest()


def locate(store: Store, place: Place) -> tuple[Place, list[Tampered]]:
    """``place`` in the log as it stands now, and what happened to the rows taken last.

    Raises TradetapeError where nothing shows that this is the log that was read.
    """
    tampered: list[Tampered] = []
    kept: list[Anchor] = []
    for anchor in place.anchors:
        rowid, row = _look_up(store, anchor)
        if row is None:
            tampered.append(Tampered(REMOVED, anchor, ""))
            continue
        found = digest(row)
        if found != anchor.digest:
            tampered.append(Tampered(CHANGED, anchor, found))
        kept.append(Anchor(rowid, anchor.event_id, found))
    if kept:
        rowid = kept[-1].rowid
    elif place.anchors:
        _check_first(store, place)
        rowid = place.anchors[0].rowid - 1
    else:
        rowid = place.rowid
    return place._replace(rowid=rowid, anchors=tuple(kept)), tampered


def _look_up(store: Store, anchor: Anchor) -> Numbered | tuple[int, None]:
    """Where the row of ``anchor`` is now. Renumbering keeps the order and moves down; a row that moved up was written
    again, and comes as a new one.
    """
    row = store.at(anchor.rowid)
    if row is not None and row["event_id"] == anchor.event_id:
        return anchor.rowid, row
    moved = store.find(anchor.event_id)
    if moved is not None and moved[0] < anchor.rowid:
        return moved
    return anchor.rowid, None


def _check_first(store: Store, place: Place) -> None:
    first = store.first()
    if first is None or name_of(first) != place.first:
        raise TradetapeError(
            f"{store.path} holds none of the events that were taken from it",
            hint="another database, or one that was emptied, is another source: start again, with another --source-id "
            "if you named one",
        )


def _is_json(anchor: Anchor) -> bool:
    return anchor.event_id is None or isinstance(anchor.event_id, str | int | float)
