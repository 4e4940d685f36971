"""Every named query on one record of five bots, against rows computed here, without ClickHouse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
from tests.folding import SCHEMAS
from tests.integration.clickhouse import serve
from tests.integration.expected import EXPECTED
from tests.integration.expected.record import EVENTS_SAID, RECORD, SET_ASIDE, Row
from tests.sinks.rows import audited, body

from tradetape.processors.trade_statistics import statistics
from tradetape.schemas import times
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.numbers import text
from tradetape.sinks import migrate, queries, trades
from tradetape.sinks.store import Store
from tradetape.sinks.tables import ALERTS, EVENTS, QUARANTINE, RISK

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serve(tmp_path_factory.mktemp("clickhouse")) as server:
        connected = Store(server.url)
        migrate.migrate(connected)
        accepted = [row for row in RECORD.audited if row["disposition"] == "accepted"]
        others = [row for row in RECORD.audited if row["disposition"] != "accepted"]
        for table, topic, rows in (
            (EVENTS, "audited", accepted),
            (QUARANTINE, "audited", others),
            (RISK, "risk", RECORD.risk),
            (ALERTS, "alerts", RECORD.alerts),
        ):
            connected.insert(table, output_schema(topic), [body(topic, row) for row in rows], table.name)
        yield connected
        connected.close()


def answer(store: Store, name: str, params: Mapping[str, str]) -> list[Row]:
    """The rows, payloads read: keys that no schema knows stand in them as their source spaced them."""
    rows = [json.loads(line) for line in b"".join(queries.run(store, name, params)).splitlines()]
    return [{**row, "payload": json.loads(row["payload"])} if "payload" in row else row for row in rows]


BY_PROGRAMS = {
    **dict.fromkeys(("baselines", "limits_in_force", "orders"), "test_reconcile.py"),
    **dict.fromkeys(("portfolio_exposures", "portfolio_figures", "portfolio_parts"), "test_reconcile.py"),
    "pnl_timeline": "test_travel.py",
}
"""Queries that commands ask, and where they are tested with them."""


@pytest.mark.req("S0-06", "S0-07", "S0-08", "S1-08", "S2-05", "S3-06", "S3-09", "N-01", "N-02", "S4-06", "S4-08")
@pytest.mark.parametrize("name", sorted(queries.listing().keys() - BY_PROGRAMS.keys()))
def test_a_named_query_answers_what_follows_from_the_record(store: Store, name: str) -> None:
    assert name in EXPECTED, f"no expectation for query {name}: every named query is tested"
    for params, expected in EXPECTED[name]:
        wanted = list(expected())
        found = answer(store, name, params)
        shown = [{key: row[key] for key in want} for row, want in zip(found, wanted, strict=False)]
        assert shown == wanted, f"{name} {params}"
        assert len(found) == len(wanted), f"{name} {params}"


@pytest.mark.req("S0-11")
@pytest.mark.parametrize("name", ["turtle-1", "catalyst-1", "quantum-1"])
def test_trades_are_recomputed_from_the_stored_bytes(store: Store, name: str) -> None:
    taken = [row for row in EVENTS_SAID if row["instance_name"] == name]
    events = [SCHEMAS[row["raw_schema_id"]].decode(row["raw"]) for row in taken]
    expected = statistics(events)
    found = trades.of_instance(store, SCHEMAS.get, name)
    assert expected
    assert [(trade["opened"], trade["exit_efficiency"]) for trade in found] == [
        (times.text(trade.opened), None if trade.exit_efficiency is None else text(trade.exit_efficiency))
        for trade in expected
    ]
    some = found[0]["position_id"]
    one_position = trades.of_instance(store, SCHEMAS.get, name, some)
    assert one_position == (found if not some else [trade for trade in found if trade["position_id"] == some])


@pytest.mark.req("S0-08")
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_expectation_is_of_a_query_and_not_always_empty(name: str) -> None:
    assert name in queries.listing()
    assert name == "immutability" or any(list(expected()) for _, expected in EXPECTED[name])


@pytest.mark.req("S1-09", "P-03")
def test_changed_and_missing_rows_leave_traces(store: Store) -> None:
    changes = "ALTER TABLE tradetape.alerts UPDATE message = 'nothing' WHERE code = 'order_after_kill'"
    store.command(changes, {"mutations_sync": 1})
    gone = SET_ASIDE[0]["raw_offset"]
    store.command(f"DELETE FROM tradetape.quarantine WHERE raw_offset = {gone}", {"mutations_sync": 1})
    rows = [audited(offset, partition=9) for offset in (0, 2, 2)]
    store.insert(EVENTS, output_schema("audited"), [body("audited", row) for row in rows], "broken")
    found = [
        (row["trace"], row["table"], row["raw_partition"], row["rows"]) for row in answer(store, "immutability", {})
    ]
    assert found == [
        ("missing", "events, quarantine", 0, 1),
        ("missing", "events, quarantine", 9, 1),
        ("statement", "alerts", None, None),
        ("statement", "quarantine", None, None),
    ]


def test_a_moment_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(TradetapeError):
        answer(store, "time_range", {"since": "yesterday-ish"})
