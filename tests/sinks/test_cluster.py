"""The migrations for a cluster: the same files, as other statements. Their syntax is tested in test_archive.py."""

from __future__ import annotations

import pytest

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import cluster, migrate


def rendered(start: str) -> list[str]:
    (sql,) = [migration.sql for migration in migrate.available() if migration.name.startswith(start)]
    return list(cluster.render(sql, "fleet"))


def test_every_migration_has_its_statements_and_none_stays_on_one_server() -> None:
    for migration in migrate.available():
        statements = cluster.render(migration.sql, "fleet")
        assert statements
        for statement in statements:
            assert " ON CLUSTER `fleet`" in statement or statement.startswith("INSERT INTO "), migration.name
            assert "non_replicated" not in statement
            assert "ENGINE = MergeTree" not in statement


def test_a_table_is_replicated_in_its_shard_and_distributed_by_raw_partition() -> None:
    local, distributed = rendered("0001")
    assert local.startswith("CREATE TABLE IF NOT EXISTS tradetape.events_local ON CLUSTER `fleet`\n(")
    assert "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/tradetape/events', '{replica}')\n" in local
    assert " replicated_deduplication_window = 10000" in local
    assert distributed.endswith("ENGINE = Distributed('fleet', 'tradetape', 'events_local', raw_partition)")


def test_a_ledger_is_on_every_node() -> None:
    (ledger,) = rendered("0009")
    assert "tradetape.ingest_ledger ON CLUSTER" in ledger
    assert (
        "ReplicatedReplacingMergeTree('/clickhouse/tradetape/ingest_ledger', '{shard}-{replica}', landed_at)" in ledger
    )


def test_a_change_reaches_both_tables_but_an_index_only_the_local_one() -> None:
    local, distributed = rendered("0006")
    assert "events_local ON CLUSTER" in local and "ADD INDEX" in local
    assert "tradetape.events ON CLUSTER" in distributed and "ADD COLUMN" in distributed
    assert "INDEX" not in distributed


def test_a_materialized_view_goes_from_shard_to_shard() -> None:
    (view,) = rendered("0011")
    assert view.endswith("TO tradetape.risk_latest_local AS SELECT * FROM tradetape.risk_local")
    local, _ = rendered("0010")
    assert "tradetape.risk_latest_local ON CLUSTER `fleet` AS tradetape.risk_local" in local


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="no statement for a cluster"):
        cluster.render("DROP TABLE tradetape.events", "fleet")
    with pytest.raises(ValueError, match="no engine that is known"):
        cluster.render("CREATE TABLE IF NOT EXISTS tradetape.x (a Int32) ENGINE = Log", "fleet")
    with pytest.raises(TradetapeError, match="is no name of a cluster"):
        cluster.render("ALTER TABLE tradetape.events ADD COLUMN x Int32", "a`b")
