"""Numbered migrations: each file once, in order, for good; then what follows from the catalogue (``views``).

``tradetape.migrations`` holds what was applied, with the hash of each file. A file that changed after it was applied
is refused. Statements are idempotent, so two that run at once do no harm. Where nothing is to be done, nothing but
reads is sent: so a sink may run without the rights that a migration needs (S1-09).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import cluster as clusters
from tradetape.sinks import views
from tradetape.sinks.store import UNKNOWN_TABLES, QueryRefused, Store
from tradetape.sinks.tables import DATABASE

LEDGER = f"{DATABASE}.migrations"
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql\Z")

_CREATE_DATABASE = f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic"
_CREATE_LEDGER = f"""CREATE TABLE IF NOT EXISTS {LEDGER}
(
    version UInt32,
    name String,
    sha256 String,
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY version
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: a single statement."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> Sequence[Migration]:
    """Every migration of this code, in order. Raises ValueError where numbers repeat or skip."""
    found = []
    for entry in files("tradetape.sinks").joinpath("migrations").iterdir():
        match = _NAME.match(entry.name)
        if match:
            found.append(Migration(int(match.group(1)), entry.name, entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are not numbered 1…{len(found)}: {[m.name for m in found]}")
    return found


def migrate(store: Store, migrations: Sequence[Migration] | None = None, cluster: str = "") -> Sequence[Migration]:
    """Apply what is missing, in order; returns what was applied now.

    ``cluster`` is the name of the ClickHouse cluster, empty for one server. Raises TradetapeError where an applied
    file changed or the store is newer than this code, StoreUnavailable where ClickHouse does not answer.
    """
    known = available() if migrations is None else migrations
    applied = _applied(store)
    if applied is None:
        for sql in (_CREATE_DATABASE, _CREATE_LEDGER):
            clusters.command(store, sql, cluster)
        applied = _applied(store) or {}
    newer = sorted(set(applied) - {migration.version for migration in known})
    if newer:
        raise TradetapeError(
            f"the store has migration {newer[-1]:04d}, which this version does not know", hint="upgrade Tradetape"
        )
    done = []
    for migration in known:
        hash_applied = applied.get(migration.version)
        if hash_applied is None:
            _apply(store, migration, cluster)
            done.append(migration)
        elif hash_applied != migration.sha256:
            raise TradetapeError(
                f"migration {migration.name} changed after it was applied",
                hint="restore the file; put the change into a new migration",
            )
    views.refresh(store, cluster=cluster)
    return done


def _applied(store: Store) -> dict[int, str] | None:
    """The hash of each applied file by its number; None where there is no ledger of them yet."""
    try:
        return {int(row[0]): str(row[1]) for row in store.query(f"SELECT version, sha256 FROM {LEDGER}")}
    except QueryRefused as error:
        if error.code not in UNKNOWN_TABLES:
            raise
        return None


def _apply(store: Store, migration: Migration, cluster: str) -> None:
    clusters.command(store, migration.sql, cluster)
    # The token makes a second runner's entry the same entry.
    store.command(
        f"INSERT INTO {LEDGER} (version, name, sha256) "
        f"VALUES ({migration.version}, '{migration.name}', '{migration.sha256}')",
        settings={"insert_deduplication_token": f"{migration.version}:{migration.sha256}", "async_insert": "0"},
    )
