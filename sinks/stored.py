"""Rows of the tables, read back in the order in which they were judged, and records of the core as rows read.

Both have the fields of the record as plain values: bytes as hex, times as microseconds, decimals as Decimal. So a row
and the record that it must hold are equal or not, to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from decimal import Decimal
from functools import cache
from heapq import merge
from typing import Any, NamedTuple

from tradetape.schemas import identity
from tradetape.schemas.catalogue import core_type, logical, output_schema
from tradetape.sinks import results, views
from tradetape.sinks.batch import STREAMS
from tradetape.sinks.ledger import Position
from tradetape.sinks.store import Store
from tradetape.sinks.tables import ALERTS, EVENTS, QUARANTINE, RISK, SENTINEL, Table

STATUS = "schema_validation_status"
"""A column that ClickHouse fills: what S3-09 asks every verdict to have."""

CAUSED = (EVENTS, QUARANTINE, RISK, ALERTS)
"""The tables of what a raw partition caused by itself; figures of portfolios follow from several of them."""

PAGE = 50_000
"""Offsets per query: a fleet's rows lie far apart, so every page may read much of a table."""

_SETTINGS: Mapping[str, Any] = {**results.SETTINGS, "readonly": 2, "max_bytes_before_external_sort": 256 * 1024 * 1024}

Row = dict[str, Any]


class Stored(NamedTuple):
    """One row: where it belongs in what its raw partition caused, the table it is in, its fields."""

    position: Position
    table: str
    row: Row


def read(store: Store, partition: int, first: int, last: int) -> Generator[Stored]:
    """The rows of raw ``partition`` between two offsets (both included) of all tables, in the order of position.

    Needs the memory of a few rows, however many there are. Raises what Store.raw raises.
    """
    for start in range(first, last + 1, PAGE):
        bounds = {"partition": partition, "first": start, "last": min(start + PAGE - 1, last)}
        yield from merge(*(_page(store, table, bounds) for table in CAUSED), key=lambda found: found.position)


def _page(store: Store, table: Table, bounds: Mapping[str, int]) -> Iterator[Stored]:
    condition = "raw_partition = {partition:Int32} AND raw_offset BETWEEN {first:Int64} AND {last:Int64}"
    for row in rows(store, table, condition, bounds, order="raw_offset, derived_seq"):
        yield Stored(Position(row["raw_offset"], row["derived_seq"]), table.name, row)


def rows(
    store: Store, table: Table, condition: str, params: Mapping[str, Any] | None = None, order: str = ""
) -> Iterator[Row]:
    """The rows of ``table``, archived ones among them, that meet ``condition``, in ``order``.

    A row has every column of its record, and ``STATUS``.
    """
    types = _types(table.record)
    selected = ", ".join([*(_expression(name, of) for name, of in types.items()), *_more(table)])
    sql = f"SELECT {selected} FROM (SELECT * FROM {views.full_name(table)} WHERE {condition})"
    readers = {name: reader for name, of in types.items() if (reader := _reader(of)) is not None}
    for row in answer(store, f"{sql} ORDER BY {order}" if order else sql, params):
        for name, reader in readers.items():
            row[name] = reader(row[name])
        yield row


def answer(store: Store, sql: str, params: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """The rows of a read of any size, one at a time as they arrive. Raises what Store.raw raises."""
    return results.rows(store.raw(sql, params, _SETTINGS))


def names(table: Table) -> list[str]:
    """The columns that ``rows`` reads."""
    return [*_types(table.record), *_more(table)]


def table_of(topic: str, record: Mapping[str, Any]) -> Table:
    """The table in which the sink lands ``record`` of an output topic."""
    return STREAMS[topic].table or (EVENTS if record["disposition"] == "accepted" else QUARANTINE)


def as_row(table: Table, record: Mapping[str, Any]) -> Row:
    """``record`` as ``rows`` reads it back once it is landed in ``table``."""
    row = {name: _plain(value) for name, value in record.items() if name != SENTINEL}
    if table is EVENTS:
        row["event_id"] = identity.canonical(row["event_id"]) or row["event_id"]
        row[STATUS] = "ok"
    elif table is QUARANTINE:
        row["ts_utc"] = row["ts_utc"] or None
        row[STATUS] = row["disposition"]
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value


@cache
def _types(record: str) -> Mapping[str, Any]:
    fields = output_schema(record)["fields"]
    return {field["name"]: field["type"] for field in fields if field["name"] != SENTINEL}


def _more(table: Table) -> tuple[str, ...]:
    return (STATUS,) if table.record == "audited" else ()


def _expression(name: str, avro_type: Any) -> str:
    if logical(avro_type) == "timestamp-micros":
        return f"toUnixTimestamp64Micro({name}) AS {name}"
    if core_type(avro_type) == "bytes":
        return f"lower(hex({name})) AS {name}"
    return name


def _reader(avro_type: Any) -> Callable[[Any], Any] | None:
    """How a value comes out of JSON, None where it is what JSON says."""
    if logical(avro_type) == "decimal":
        return lambda text: None if text is None else Decimal(text)
    core = core_type(avro_type)
    inner = _reader(core["values"]) if isinstance(core, dict) and "values" in core else None
    return None if inner is None else lambda values: {key: inner(value) for key, value in values.items()}
