"""Columns and statements that follow from the .avsc files."""

from __future__ import annotations

from importlib.resources import files

import pytest

from tradetape.schemas.catalogue import output_schema
from tradetape.sinks import migrate
from tradetape.sinks.tables import ALERTS, EVENTS, QUARANTINE, RISK, TABLES, column_type, columns, plan, read_type

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


@pytest.mark.parametrize(
    ("avro", "clickhouse"),
    [
        ("string", "String"),
        ("int", "Int32"),
        ("boolean", "Bool"),
        (["null", "long"], "Nullable(Int64)"),
        (["null", DECIMAL], "Nullable(Decimal(38, 18))"),
        (MICROS, "DateTime64(6, 'UTC')"),
        ({"type": "array", "items": "string"}, "Array(String)"),
        ({"type": "map", "values": DECIMAL}, "Map(String, Decimal(38, 18))"),
        ({"type": "record", "name": "F", "fields": [{"name": "code", "type": "string"}]}, "Tuple(code String)"),
    ],
)
def test_types(avro: object, clickhouse: str) -> None:
    assert read_type(avro) == clickhouse


def test_dictionaries_are_for_columns_only() -> None:
    assert column_type("instance_name", "string") == "LowCardinality(String)"
    assert column_type("payload", "string") == "String"
    assert "LowCardinality" not in plan(EVENTS, output_schema("audited"))


@pytest.mark.parametrize("avro", ["null", {"type": "fixed", "name": "x", "size": 3}, ["null", "int", "string"]])
def test_an_unknown_type_is_an_error(avro: object) -> None:
    with pytest.raises(ValueError, match="no ClickHouse type"):
        read_type(avro)


@pytest.mark.req("S3-07")
def test_every_field_but_the_sentinel_is_a_column() -> None:
    for table in TABLES.values():
        names = [field["name"] for field in output_schema(table.record)["fields"]]
        assert list(columns(table)) == names[:-1]
    assert columns(EVENTS)["event_id"] == "UUID"
    assert columns(QUARANTINE)["event_id"] == "String"
    assert columns(QUARANTINE)["ts_utc"].startswith("Nullable")
    assert columns(RISK)["fees"] == "Map(LowCardinality(String), Decimal(38, 18))"


def test_a_newer_schema_is_read_whole_and_stored_as_far_as_known() -> None:
    schema = output_schema("alerts")
    newer = {**schema, "fields": [{"name": "added", "type": "string"}, *schema["fields"]]}
    statement = plan(ALERTS, newer)
    assert "added String" in statement
    assert "added" not in statement.partition(" SELECT ")[0]


@pytest.mark.req("P-08")
def test_no_sentinel_no_statement() -> None:
    schema = output_schema("alerts")
    with pytest.raises(ValueError, match="_end"):
        plan(ALERTS, {**schema, "fields": schema["fields"][:-1]})


@pytest.mark.req("S1-09", "P-05")
def test_a_migration_that_may_be_applied_somewhere_does_not_change() -> None:
    """``applied.sha256`` is what ``sha256sum *.sql`` says; a line of it is added, and none is changed."""
    text = files("tradetape.sinks").joinpath("migrations", "applied.sha256").read_text(encoding="utf-8")
    applied = {name: digest for digest, name in (line.split() for line in text.splitlines())}
    assert applied == {migration.name: migration.sha256 for migration in migrate.available()}
