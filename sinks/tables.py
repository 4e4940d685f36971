"""The tables, derived from the ``.avsc`` files: the only place that maps an Avro type to a ClickHouse type.

A table's columns are the fields of its record, in that order, less the sentinel ``_end``. ``plan`` gives the one
statement that lands undecoded bodies: ClickHouse reads them by the writer's schema, checks the sentinel of every row
and casts to the columns' types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tradetape.schemas.catalogue import Schema, core_type, is_nullable, logical, output_schema

DATABASE = "tradetape"
SENTINEL = "_end"
SENTINEL_VALUE = "tt"

_SCALARS = {
    "string": "String",
    "bytes": "String",
    "int": "Int32",
    "long": "Int64",
    "boolean": "Bool",
    "float": "Float32",
    "double": "Float64",
}

# Few distinct values, or few at a time: worth a dictionary.
_LOW_CARDINALITY = frozenset(
    {"disposition", "link", "linked_by", "core_version", "event_type", "event_version", "producer", "instance_name"}
    | {"controller_id", "connector_name", "trading_pair", "aggregate_type", "outcome", "source_system", "source_id"}
    | {"source_stream", "adapter", "native_type", "source", "environment", "account", "owner", "user_id"}
    | {"ingest_source", "severity", "code", "status", "reasons", "fees"}
    | {"quote_asset", "equity_asset", "portfolio", "largest_pair", "day", "beyond"}
)


@dataclass(frozen=True, slots=True)
class Table:
    """One table: ``record`` names the output schema it holds; ``overrides`` are types that differ in this table.

    ``expressions`` say how a field becomes its column where that is more than a cast.
    """

    name: str
    record: str
    overrides: Mapping[str, str]
    expressions: Mapping[str, str]

    @property
    def full_name(self) -> str:
        return f"{DATABASE}.{self.name}"


_NO_TIME = "fromUnixTimestamp64Micro(toInt64(0), 'UTC')"

EVENTS = Table("events", "audited", {"event_id": "UUID"}, {})
QUARANTINE = Table(
    "quarantine",
    "audited",
    {"ts_utc": "Nullable(DateTime64(6, 'UTC'))"},
    {"ts_utc": f"nullIf(ts_utc, {_NO_TIME})"},
)
RISK = Table("risk", "risk", {}, {})
ALERTS = Table("alerts", "alerts", {}, {})
PORTFOLIOS = Table("portfolios", "portfolios", {}, {})

RISK_LATEST = f"{DATABASE}.risk_latest"
"""The last row of RISK for each position; ClickHouse fills it."""

INGEST_LEDGER = f"{DATABASE}.ingest_ledger"

ARCHIVE_RUNS = f"{DATABASE}.archive_runs"
"""The archived positions of TABLES, as runs of raw offsets."""

TABLES: Mapping[str, Table] = {table.name: table for table in (EVENTS, QUARANTINE, RISK, ALERTS, PORTFOLIOS)}


def read_type(avro_type: Any) -> str:
    """The ClickHouse type in which ``avro_type`` is read from a container: no dictionaries, they cost twice the time.

    Raises ValueError for a type that no output record has.
    """
    return _type(avro_type, "", dictionaries=False)


def column_type(name: str, avro_type: Any) -> str:
    """The ClickHouse type of the column ``name``. Raises ValueError for a type that no output record has."""
    return _type(avro_type, name, dictionaries=True)


def _type(avro_type: Any, name: str, *, dictionaries: bool) -> str:
    core = core_type(avro_type)
    if is_nullable(avro_type):
        return f"Nullable({_type(core, '', dictionaries=False)})"
    kind = logical(avro_type)
    if kind == "timestamp-micros":
        return "DateTime64(6, 'UTC')"
    if kind == "decimal":
        return f"Decimal({core['precision']}, {core['scale']})"
    if isinstance(core, str):
        if core not in _SCALARS:
            raise ValueError(f"no ClickHouse type for Avro {core!r}")
        scalar = _SCALARS[core]
        return f"LowCardinality({scalar})" if dictionaries and core == "string" and name in _LOW_CARDINALITY else scalar
    if isinstance(core, dict):
        match core["type"]:
            case "array":
                return f"Array({_type(core['items'], name, dictionaries=dictionaries)})"
            case "map":
                key = "LowCardinality(String)" if dictionaries and name in _LOW_CARDINALITY else "String"
                return f"Map({key}, {_type(core['values'], '', dictionaries=dictionaries)})"
            case "record":
                fields = (
                    f"{field['name']} {_type(field['type'], field['name'], dictionaries=dictionaries)}"
                    for field in core["fields"]
                )
                return f"Tuple({', '.join(fields)})"
            case str() as plain if plain in _SCALARS and kind is None:
                return _type(plain, name, dictionaries=dictionaries)
    raise ValueError(f"no ClickHouse type for Avro {avro_type!r}")


def columns(table: Table) -> dict[str, str]:
    """Column → type as declared by the table's record, in the record's order."""
    declared = output_schema(table.record)
    return {
        field["name"]: table.overrides.get(field["name"]) or column_type(field["name"], field["type"])
        for field in declared["fields"]
        if field["name"] != SENTINEL
    }


def plan(table: Table, schema: Schema) -> str:
    """The target of the INSERT that lands bodies written with ``schema`` (the writer's, maybe newer or older).

    ``INSERT INTO <plan> FORMAT Avro`` is the statement, an Avro container its data. Fields that ``table`` does not
    know are read and left out. Raises ValueError
    where ``schema`` has no sentinel as its last field: then a shift of bytes could pass.
    """
    fields = schema["fields"]
    if not fields or fields[-1]["name"] != SENTINEL:
        raise ValueError(f"{schema.get('name')} does not end with {SENTINEL}")
    known = columns(table)
    names = [field["name"] for field in fields if field["name"] in known]
    structure = ", ".join(f"{field['name']} {read_type(field['type'])}" for field in fields)
    escaped = structure.replace("\\", "\\\\").replace("'", "\\'")
    selected = ", ".join(table.expressions.get(name, name) for name in names)
    return (
        f"{table.full_name} ({', '.join(names)}) SELECT {selected} FROM input('{escaped}') "
        f"WHERE NOT throwIf({SENTINEL} != '{SENTINEL_VALUE}', 'sentinel')"
    )
