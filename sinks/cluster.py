"""The statements of the migrations for a ClickHouse cluster: the same files, replicated and sharded.

A table ``x`` with raw partitions becomes ``x_local``, replicated on the replicas of each shard, and ``x``, distributed
over the shards by raw partition: so a batch of the sink lands on one shard, in one insert, under its token. The
ledgers are small and are replicated to every node. What a statement is, is read from its text; one that this module
does not know is refused, so a new migration cannot be applied to a part of a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.store import Store
from tradetape.sinks.tables import DATABASE, RISK_LATEST, TABLES

SETTING = "TRADETAPE_CLICKHOUSE_CLUSTER"
"""The environment variable with the name of the cluster, as ClickHouse's own configuration has it."""

SHARDED = frozenset(TABLES) | {RISK_LATEST.removeprefix(f"{DATABASE}.")}
SHARDING_KEY = "raw_partition"

_CLUSTER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_COMMENT = re.compile(r"^--[^\n]*\n", re.MULTILINE)
_NAME = rf"{DATABASE}\.(\w+)"
_CREATE_DATABASE = re.compile(rf"CREATE DATABASE IF NOT EXISTS {DATABASE}\b")
_CREATE_TABLE = re.compile(rf"CREATE TABLE IF NOT EXISTS {_NAME}( AS {_NAME})?\s")
_CREATE_VIEW = re.compile(rf"CREATE (?:OR REPLACE VIEW|VIEW IF NOT EXISTS) {_NAME}\s")
_CREATE_MATERIALIZED = re.compile(
    rf"CREATE MATERIALIZED VIEW IF NOT EXISTS {_NAME} TO {_NAME} AS (SELECT .* FROM ){_NAME}\s*\Z", re.DOTALL
)
_ALTER = re.compile(rf"ALTER TABLE {_NAME}\s+(.*)\Z", re.DOTALL)
_INSERT = re.compile(rf"INSERT INTO {_NAME}\b")
_ENGINE = re.compile(r"ENGINE = (Replacing)?MergeTree(?:\((\w+)\))?")
_WINDOW = "non_replicated_deduplication_window"


def command(store: Store, sql: str, cluster: str) -> None:
    """Run ``sql``, written for one server, on ``cluster``; on the server that answers where that is empty.

    Raises what ``render`` and Store.command raise.
    """
    for statement in render(sql, cluster) if cluster else (sql,):
        store.command(statement)


def render(sql: str, cluster: str) -> Sequence[str]:
    """The statements that do on ``cluster`` what ``sql`` does on one server.

    Raises TradetapeError where the name is no cluster's, ValueError where ``sql`` is no statement of a migration.
    """
    if not _CLUSTER.match(cluster):
        raise TradetapeError(f"{cluster!r} is no name of a cluster", hint=f"correct {SETTING}")
    on = f"ON CLUSTER `{cluster}`"
    text = _COMMENT.sub("", sql).strip()
    if found := _CREATE_DATABASE.match(text):
        return (f"{found[0]} {on}{text[found.end() :]}",)
    if found := _CREATE_MATERIALIZED.match(text):
        name, target, select, source = found.groups()
        return (
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {DATABASE}.{name} {on} TO {_local(target)} "
            f"AS {select}{_local(source)}",
        )
    if found := _CREATE_TABLE.match(text):
        return _table(text, found, cluster, on)
    if found := _CREATE_VIEW.match(text):
        return (f"{text[: found.end()].rstrip()} {on} {text[found.end() :]}",)
    if found := _ALTER.match(text):
        return _alter(found[1], found[2], on)
    if _INSERT.match(text):
        return (text,)
    raise ValueError(f"no statement for a cluster: {text[:80]!r}")


def _local(name: str) -> str:
    return f"{DATABASE}.{name}_local" if name in SHARDED else f"{DATABASE}.{name}"


def _table(text: str, found: re.Match[str], cluster: str, on: str) -> Sequence[str]:
    name, like = found[1], found[3]
    # A replica of a ledger is told by shard and replica; of a shard's table by its replica alone.
    path = f"/clickhouse/tables/{{shard}}/{DATABASE}/{name}" if name in SHARDED else f"/clickhouse/{DATABASE}/{name}"
    replica = "{replica}" if name in SHARDED else "{shard}-{replica}"

    def engine(match: re.Match[str]) -> str:
        version = f", {match[2]}" if match[2] else ""
        return f"ENGINE = Replicated{match[1] or ''}MergeTree('{path}', '{replica}'{version})"

    body, engines = _ENGINE.subn(engine, text[found.end() :])
    if engines != 1:
        raise ValueError(f"{name} has no engine that is known")
    as_local = f" AS {_local(like)}" if like else ""
    local = (
        f"CREATE TABLE IF NOT EXISTS {_local(name)} {on}{as_local}\n"
        f"{body.replace(_WINDOW, 'replicated_deduplication_window')}"
    )
    if name not in SHARDED:
        return (local,)
    distributed = (
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.{name} {on} AS {_local(name)}\n"
        f"ENGINE = Distributed('{cluster}', '{DATABASE}', '{name}_local', {SHARDING_KEY})"
    )
    return (local, distributed)


def _alter(name: str, changes: str, on: str) -> Sequence[str]:
    if name not in SHARDED:
        return (f"ALTER TABLE {DATABASE}.{name} {on}\n    {changes}",)
    local = f"ALTER TABLE {_local(name)} {on}\n    {changes}"
    # A distributed table has columns, no indexes.
    kept = [change for change in re.split(r",\n\s*", changes) if not change.startswith("ADD INDEX")]
    joined = ",\n    ".join(kept)
    return (local, f"ALTER TABLE {DATABASE}.{name} {on}\n    {joined}") if kept else (local,)
