"""A long record out of one day of a fleet: its rows again and again, of other bots and other days, inside ClickHouse.

Copy ``n`` of the day is day ``n / GROUPS`` of the bots of group ``n mod GROUPS``. Offsets go on where the copy before
ended, so there is no hole. Ids are changed in the same way wherever they stand: event_id, chain, cause, run, aggregate,
order, position, subject of a finding. Original bytes are the day's own, once for each copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.fleet_day import Landed
from tradetape.sinks.store import Store
from tradetape.sinks.tables import DATABASE, TABLES

GROUPS = 10
"""Groups of bots: with the 24 of the day 240."""

AT_ONCE = 500_000
"""Rows that one statement inserts, about."""

DAY_DATABASE = "day"


def _uuid(text: str) -> str:
    return f"reinterpretAsUUID(sipHash128({text}, copy))"


def _id(text: str) -> str:
    """An id as text: one of an event is changed as that event's is."""
    is_uuid = f"length({text}) = 36 AND substring({text}, 9, 1) = '-'"
    return f"multiIf({text} = '', '', {is_uuid}, toString({_uuid(text)}), concat({text}, '~', toString(copy)))"


def _numbered(text: str) -> str:
    return f"if({text} = '', '', concat({text}, '~', toString(copy)))"


def _of_group(name: str) -> str:
    return f"if({name} = '' OR copy % {GROUPS} = 0, {name}, concat({name}, '-', toString(copy % {GROUPS})))"


_PAYLOAD_IDS = "client_order_id|position_id|kill_id|signal_id"
_LATER = f"toIntervalDay(intDiv(copy, {GROUPS}))"
_EXPRESSIONS: Mapping[str, str] = {
    "ts_utc": f"ts_utc + {_LATER}",
    "ingest_ts_utc": f"ingest_ts_utc + {_LATER}",
    **{name: _of_group(name) for name in ("instance_name", "source_id")},
    **{name: _id(name) for name in ("correlation_id", "causation_id", "supersedes", "native_event_id")},
    **{name: _numbered(name) for name in ("run_id", "aggregate_id")},
    "subject": _id("subject"),
    "findings": f"arrayMap(f -> (f.1, f.2, f.3, {_id('f.4')}, f.5), findings)",
    "payload": (
        f'replaceRegexpAll(payload, \'"({_PAYLOAD_IDS})":"([^"]+)"\', '
        r"""concat('"\\1":"\\2~', toString(copy), '"'))"""
    ),
}


@dataclass(slots=True)
class Days:
    """The tables of ``store``, which hold the ``landed`` day and grow by copies of it."""

    store: Store
    landed: Landed
    rows: int = 0
    """Of the table of events in one copy."""
    copies: int = 1

    def __post_init__(self) -> None:
        self.store.command(f"CREATE DATABASE {DAY_DATABASE} ENGINE = Atomic")
        for name in TABLES:
            columns = ", ".join(self._columns(name))
            self.store.command(
                f"CREATE TABLE {DAY_DATABASE}.{name} ENGINE = MergeTree ORDER BY tuple() "
                f"AS SELECT {columns} FROM {DATABASE}.{name}"
            )
        self.rows = int(self.store.query(f"SELECT count() FROM {DAY_DATABASE}.events")[0][0])

    def grow(self, rows: int) -> None:
        """Add copies until the table of events has ``rows`` rows, or a few more."""
        wanted = -(-rows // self.rows)
        while self.copies < wanted:
            count = min(wanted - self.copies, max(1, AT_ONCE // self.rows))
            for name in TABLES:
                self._add(name, count)
            self.copies += count

    def _add(self, table: str, count: int) -> None:
        types = self._columns(table)
        selected = (self._expression(name, of) for name, of in types.items())
        self.store.command(
            f"INSERT INTO {DATABASE}.{table} ({', '.join(types)}) SELECT {', '.join(selected)} "
            f"FROM {DAY_DATABASE}.{table} AS day "
            f"CROSS JOIN (SELECT number + {self.copies} AS copy FROM numbers({count})) AS copies",
            settings={"min_insert_block_size_rows": 1_000_000, "min_insert_block_size_bytes": 1_000_000_000},
        )

    def _expression(self, name: str, of: str) -> str:
        if name == "event_id":
            return _uuid("toString(event_id)") if of == "UUID" else _id(name)
        if name == "raw_offset":
            return f"raw_offset + copy * [{', '.join(map(str, self.landed.spans))}][raw_partition + 1]"
        return _EXPRESSIONS.get(name, name)

    def _columns(self, table: str) -> dict[str, str]:
        """Column → type of what a row is inserted with."""
        found = self.store.query(
            "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String} "
            "AND default_kind IN ('', 'DEFAULT') ORDER BY position",
            {"database": DATABASE, "table": table},
        )
        return {str(name): str(of) for name, of in found}
