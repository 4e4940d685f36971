"""Rows that stand where no record is: a fold that begins at the first record and ends at the last never meets them."""

from __future__ import annotations

from collections.abc import Mapping
from time import sleep
from typing import NamedTuple

from tradetape.sinks import raws, views
from tradetape.sinks.replay import PATIENCE, Difference
from tradetape.sinks.store import Store
from tradetape.sinks.tables import TABLES

_LOOK_AGAIN = 0.5
_MOST = 100_000
"""Rows that are looked at: those on their way among them."""

_TOLD = 100


class _Row(NamedTuple):
    table: str
    partition: int
    offset: int
    seq: int

    def is_stray(self, last: Mapping[int, int]) -> bool:
        return min(self.partition, self.offset, self.seq) < 0 or self.offset > last.get(self.partition, -1)


def find(store: Store, patience: float = PATIENCE) -> list[Difference]:
    """The first such rows. One may come before its verdict, for each topic is landed by itself: it is waited for."""
    last = raws.last_stored(store, patience)
    found = [row for row in _beyond(store, last) if row.is_stray(last)]
    while found and patience > 0:
        sleep(_LOOK_AGAIN)
        patience -= _LOOK_AGAIN
        # The same rows: others come in all the time.
        last = raws.last_stored(store, patience)
        found = [row for row in found if row.is_stray(last)]
    return [
        Difference(f"{row.partition}:{row.offset}:{row.seq}", row.table, "row", row.table, None)
        for row in found[:_TOLD]
    ]


def _beyond(store: Store, last: Mapping[int, int]) -> list[_Row]:
    known = ", ".join(f"({partition}, {offset})" for partition, offset in last.items() if partition >= 0)
    beyond = f"raw_offset > arrayFirst(known -> known.1 = raw_partition, [{known}]).2" if known else "1"
    there = f"raw_partition IN ({', '.join(str(partition) for partition in last if partition >= 0) or '-1'})"
    rows = store.query(
        "SELECT name, raw_partition, raw_offset, derived_seq FROM ("
        + " UNION ALL ".join(
            f"SELECT '{table.name}' AS name, raw_partition, raw_offset, derived_seq FROM {views.full_name(table)} "
            f"WHERE raw_offset < 0 OR derived_seq < 0 OR NOT {there} OR {beyond}"
            for table in TABLES.values()
        )
        + f") ORDER BY raw_partition, raw_offset, derived_seq LIMIT {_MOST}"
    )
    return [_Row(str(row[0]), int(row[1]), int(row[2]), int(row[3])) for row in rows]
