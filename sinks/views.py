"""What in the store follows from the catalogue and the tables, and is brought up to date after every migration.

- the column ``retention`` of each table of the record, and a view ``events_<class>`` for each class (S4-02)
- ``events_all``, ``quarantine_all``, …: a table with what is archived of it, every row once (S1-10). The rows of an
  archived file count as archived from its entry in the ledger on, whether they have left the table or not.

A view says in its comment what it was made of, so nothing is done where nothing changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import orjson

from tradetape.sinks import cluster as clusters
from tradetape.sinks import retention
from tradetape.sinks.store import Store
from tradetape.sinks.tables import DATABASE, EVENTS, QUARANTINE, TABLES, Table

LEDGER = f"{DATABASE}.archive_ledger"
POSITION = "raw_partition, raw_offset, derived_seq"

_COLUMNS = """
SELECT table, name, type, default_kind, comment FROM system.columns
WHERE database = {database:String} AND table IN {tables:Array(String)} ORDER BY table, position
"""
_COMMENTS = "SELECT name, comment FROM system.tables WHERE database = {database:String} AND engine = 'View'"


def full_name(table: Table) -> str:
    """The view of ``table`` and its archive."""
    return f"{table.full_name}_all"


def verdicts(columns: str, condition: str) -> str:
    """In SQL: ``columns`` of the verdicts that meet ``condition``, archived ones among them."""
    return " UNION ALL ".join(
        f"SELECT {columns} FROM {full_name(table)} WHERE derived_seq = 0 AND ({condition})"
        for table in (EVENTS, QUARANTINE)
    )


def leaving(table: Table) -> str:
    """In SQL: the positions of ``table`` that are archived and may still be in it."""
    return f"SELECT {POSITION} FROM {DATABASE}.archive_leaving WHERE table_name = '{table.name}'"


def quoted(text: str) -> str:
    """``text`` as a literal of SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def parquet(path: str, columns: Mapping[str, str]) -> str:
    """The table function over Parquet files at ``path``, which may have wildcards."""
    structure = ", ".join(f"{name} {of}" for name, of in columns.items())
    return f"file({quoted(path)}, Parquet, {quoted(structure)})"


def columns(store: Store) -> dict[str, dict[str, str]]:
    """Column → type of every table of the record: what a row has, and what is derived from it as it is inserted."""
    return _columns(_described(store))


def _columns(described: Sequence[tuple[str, str, str, str, str]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for table, name, of, kind, _ in described:
        if kind != "ALIAS":
            found.setdefault(table, {})[name] = of
    return found


def archive_folder(store: Store) -> str:
    """The folder of the archive as ClickHouse sees it; empty where nothing was ever archived."""
    return _folder(_comments(store))


def refresh(store: Store, folder: str | None = None, cluster: str = "") -> None:
    """Make what is missing or was made of something else; ``folder`` is that of the archive, None: as it was."""
    there = _comments(store)
    described = _described(store)
    made_of = {table: comment for table, name, _, _, comment in described if name == retention.COLUMN}
    for table in TABLES.values():
        _retention(store, table, made_of.get(table.name), cluster)
    of_table = _columns(described)
    wanted = {f"{EVENTS.name}_{name}": _of_class(name, list(of_table[EVENTS.name])) for name in retention.classes()}
    folder = _folder(there) if folder is None else folder
    for table in TABLES.values():
        wanted[f"{table.name}_all"] = _whole(table, of_table[table.name], folder)
    for name, select in wanted.items():
        made = orjson.dumps({"folder": folder, "sha256": _hash(select)}).decode()
        if there.get(name) != made:
            sql = f"CREATE OR REPLACE VIEW {DATABASE}.{name} AS {select} COMMENT {quoted(made)}"
            clusters.command(store, sql, cluster)


def _retention(store: Store, table: Table, made_of: str | None, cluster: str) -> None:
    expression = retention.expression(table)
    if made_of == _hash(expression):
        return
    column = f"{retention.COLUMN} LowCardinality(String) ALIAS {expression} COMMENT '{_hash(expression)}'"
    verb = "ADD COLUMN IF NOT EXISTS" if made_of is None else "MODIFY COLUMN"
    clusters.command(store, f"ALTER TABLE {table.full_name}\n    {verb} {column}", cluster)


def _of_class(name: str, columns: Sequence[str]) -> str:
    return f"SELECT {', '.join(columns)} FROM {EVENTS.full_name} WHERE {retention.COLUMN} = '{name}'"


def _whole(table: Table, columns: Mapping[str, str], folder: str) -> str:
    names = ", ".join(columns)
    if not folder:
        return f"SELECT {names}, {retention.COLUMN} FROM {table.full_name}"
    root = f"table={table.name}/"
    # A file that no ledger names is not read. Instance names in paths are escaped, so they must not become columns.
    return (
        f"SELECT {names}, {retention.expression(table)} AS {retention.COLUMN} FROM ("
        f"SELECT {names} FROM {table.full_name} WHERE ({POSITION}) NOT IN ({leaving(table)}) "
        f"UNION ALL SELECT {names} FROM (SELECT {names} FROM {parquet(f'{folder}/{root}**/*.parquet', columns)} "
        f"WHERE substring(_path, position(_path, '{root}')) IN "
        f"(SELECT path FROM {LEDGER} WHERE table_name = '{table.name}') "
        "SETTINGS use_hive_partitioning = 0))"
    )


def _described(store: Store) -> Sequence[tuple[str, str, str, str, str]]:
    found = store.query(_COLUMNS, {"database": DATABASE, "tables": list(TABLES)})
    return [(str(a), str(b), str(c), str(d), str(e)) for a, b, c, d, e in found]


def _comments(store: Store) -> dict[str, str]:
    return {str(name): str(comment) for name, comment in store.query(_COMMENTS, {"database": DATABASE})}


def _folder(comments: Mapping[str, str]) -> str:
    comment = comments.get(f"{EVENTS.name}_all")
    return str(orjson.loads(comment)["folder"]) if comment else ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
