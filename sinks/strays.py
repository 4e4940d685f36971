"""Rows that stand where no record is: a fold that begins at the first record and ends at the last never meets them."""

from __future__ import annotations

from collections.abc import Mapping
from time import sleep

from tradetape.sinks import raws, views
from tradetape.sinks.replay import PATIENCE, Difference
from tradetape.sinks.store import Store
from tradetape.sinks.tables import TABLES

_LOOK_AGAIN = 0.5
_MOST = 100


def find(store: Store, patience: float = PATIENCE) -> list[Difference]:
    """The first such rows. One may come before its verdict, for each topic is landed by itself: it is waited for."""
    found = _find(store, raws.last_stored(store, patience))
    while found and patience > 0:
        sleep(_LOOK_AGAIN)
        patience -= _LOOK_AGAIN
        found = _find(store, raws.last_stored(store, patience))
    return found


def _find(store: Store, last: Mapping[int, int]) -> list[Difference]:
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
    return [Difference(f"{row[1]}:{row[2]}:{row[3]}", str(row[0]), "row", str(row[0]), None) for row in rows]
