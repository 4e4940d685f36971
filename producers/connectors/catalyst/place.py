"""How far an event_log was taken in, in a way that outlives VACUUM, deletions and a copy of the file.

The position of a row is its rowid, plus an offset that is 0 until rows are renumbered. The table's rowids are implicit:
VACUUM may renumber them, and a number becomes free again when the last row is deleted. So the last rows taken are
remembered as anchors (id and digest), and looked up before anything new is read. What is wrong with them is told.

Of older rows every second, fourth, eighth … is remembered, and the name of the first. Where all of the last ones are
gone (a restored backup, a log cut back), reading goes on behind the newest of those that is still there. Rows between
it and the next one, which is gone, may be old or new: those that say an earlier time than the latest taken pass for
old, the others for new, and it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from tradetape.producers.adapters.catalyst import LOG
from tradetape.producers.adapters.native import moment
from tradetape.producers.adapters.rows import native_json
from tradetape.producers.connectors.catalyst.store import NEEDED, OPTIONAL, Numbered, Row, Store
from tradetape.schemas import identity, times
from tradetape.schemas.errors import TradetapeError

ANCHORS = 32
"""Rows remembered without a gap, and told when they are gone. Of twice as old ones half as many are remembered."""

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
        last = rows[-1][0]
        taken = [
            Anchor(rowid, row["event_id"], digest(row))
            for left, (rowid, row) in enumerate(reversed(rows))
            if left < ANCHORS or _is_kept(rowid, last)
        ]
        anchors = (*self.anchors, *reversed(taken))
        older = (anchor for anchor in anchors[:-ANCHORS] if _is_kept(anchor.rowid, last))
        first = self.first or name_of(rows[0][1])
        return Place(self.position_of(last), last, (*older, *anchors[-ANCHORS:]), first)

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


class Cut(NamedTuple):
    """The rows behind ``rowid`` that were taken are gone; those between ``sure`` and ``rowid`` pass for taken ones."""

    sure: int
    rowid: int


class Located(NamedTuple):
    """A place in the log as it stands now, and what happened to the rows taken last."""

    place: Place
    tampered: list[Tampered]
    cut: Cut | None = None


def name_of(row: Row) -> str:
    """What names a store: the first row of its log. A copy has the same, a new database another."""
    return identity.derive("catalyst", LOG, native_json({LOG: {name: row[name] for name in _NAMING}}).decode())


_NAMING = ("event_id", "aggregate_id", "created_at")


def digest(row: Row) -> str:
    """A digest of the columns that the document has; one that a migration adds changes nothing."""
    known = {name: row.get(name) for name in (*NEEDED, *OPTIONAL)}
    return blake2b(native_json({LOG: known}), digest_size=8).hexdigest()


def locate(store: Store, place: Place, latest: int) -> Located:
    """``place`` in the log as it stands now; ``latest`` is the newest time (µs) of what was taken.

    Raises TradetapeError where nothing shows that this is the log that was read.
    """
    if not place.anchors:
        return Located(place, [])
    older, recent = list(place.anchors[:-ANCHORS]), place.anchors[-ANCHORS:]
    looked = [(anchor, _now(store, anchor)) for anchor in recent]
    there = [(anchor, now) for anchor, now in looked if now is not None]
    is_cut = not there
    while not there and older:
        anchor = older.pop()
        there = [(anchor, now)] if (now := _now(store, anchor)) is not None else []
    sure, before = _open_rows(place, *there[-1]) if there else (_first(store, place), place.anchors[0].rowid)
    rowid = _last_old(store, sure, before, latest)
    anchors = [*older, *(now for _, now in there)]
    if rowid > sure or not there:
        anchors += [Anchor(rowid, row["event_id"], digest(row)) for row in (store.at(rowid),) if row is not None]
    cut = Cut(sure, rowid) if is_cut or rowid > sure else None
    return Located(place._replace(rowid=rowid, anchors=tuple(anchors)), list(_tampered(looked)), cut)


def _now(store: Store, anchor: Anchor) -> Anchor | None:
    """The row of ``anchor`` as it is now."""
    rowid, row = _look_up(store, anchor)
    return Anchor(rowid, anchor.event_id, digest(row)) if row is not None else None


def _tampered(looked: Iterable[tuple[Anchor, Anchor | None]]) -> Iterator[Tampered]:
    for anchor, now in looked:
        if now is None:
            yield Tampered(REMOVED, anchor, "")
        elif now.digest != anchor.digest:
            yield Tampered(CHANGED, anchor, now.digest)


def _open_rows(place: Place, anchor: Anchor, now: Anchor) -> tuple[int, int]:
    """Between which rowids, both left out, rows that were taken may stand behind ``anchor``, the newest still there."""
    gone = place.anchors[place.anchors.index(anchor) + 1 :]
    return now.rowid, now.rowid + (gone[0].rowid - anchor.rowid if gone else 1)


def _last_old(store: Store, rowid: int, before: int, latest: int) -> int:
    """The last row behind ``rowid`` that passes for one that was taken; ``rowid`` itself where there is none."""
    for number, row in store.between(rowid, before):
        try:
            if times.parse(moment(row["created_at"])) >= latest:
                break
        except times.TimeError:
            break
        rowid = number
    return rowid


def _is_kept(rowid: int, last: int) -> bool:
    """Whether a row is remembered where ``last`` is the newest: once it is not, it never will be again."""
    return rowid % (1 << (max(0, last - rowid) // ANCHORS).bit_length()) == 0


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


def _first(store: Store, place: Place) -> int:
    """The rowid of the log's first row, which is that of ``place``."""
    first = store.first()
    if first is None or name_of(first[1]) != place.first:
        raise TradetapeError(
            f"{store.path} holds none of the events that were taken from it",
            hint="another database, or one that was emptied, is another source: start again, with another --source-id "
            "if you named one",
        )
    return first[0]


def _is_json(anchor: Anchor) -> bool:
    return anchor.event_id is None or isinstance(anchor.event_id, str | int | float)
