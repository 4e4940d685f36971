"""What was taken in of Turtle's table, and which rows show that it is still the same table: pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from tradetape.producers.adapters import turtle as adapter
from tradetape.producers.connectors.turtle.store import ORDINAL_BITS, Key, Row

ANCHORS = 32
"""Of the rows taken last: they tell the table from another, with a bot that deletes some of its rows."""


@dataclass(slots=True)
class State:
    """What was taken in.

    Of the transactions below ``horizon`` all rows not older than ``since``, of those below ``swept`` all rows; beyond
    ``horizon`` those up to ``position``, beyond ``swept`` the older ones up to ``late``; ``behind`` and ``late_behind``
    are the keys of the rows there. ``oldest`` is the first transaction of all, ``anchors`` are ids and transactions of
    the rows taken last, ``table`` and ``filenode`` the table they were in, ``ended`` the rows told by the last
    ``source_ended``. Times are in microseconds.
    """

    horizon: int = 0
    swept: int = 0
    since: int | None = None
    position: int = 0
    late: int = 0
    behind: list[str] | None = None
    late_behind: list[str] | None = None
    oldest: int | None = None
    anchors: list[list[Any]] = field(default_factory=list)
    table: str = ""
    filenode: int = 0
    latest: int = 0
    ended: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, saved: dict[str, Any] | None) -> State:
        """Out of a checkpoint; one of another adapter begins anew."""
        if saved is None or saved.get("adapter") != adapter.ADAPTER.name:
            return cls()
        return cls(**{known.name: saved[known.name] for known in fields(cls) if known.name in saved})

    def took(self, row: Row, *, late: bool) -> None:
        """Remember the place of ``row``."""
        # Without its whole key a row has no place among those of its transaction but its number.
        behind = None if None in row.key else [part for part in row.key if part is not None]
        if late:
            self.late, self.late_behind = row.position, behind
        else:
            self.position, self.behind = row.position, behind
        if row.key.id is not None:
            self.anchors.append([row.key.id, row.position >> ORDINAL_BITS])
            del self.anchors[:-ANCHORS]


def key(saved: list[str] | None) -> Key | None:
    """A key out of a checkpoint."""
    return None if saved is None else Key(*saved)
