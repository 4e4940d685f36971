"""Links in the store: what the core said, resolutions applied, through the named queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.folding import fold
from tests.integration.clickhouse import serve
from tests.processors.events import event
from tests.processors.test_correlation import evaluated, fill, order, position, priced, signal
from tests.sinks.rows import body

from tradetape.schemas.catalogue import output_schema
from tradetape.sinks import migrate, queries
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS

pytestmark = pytest.mark.integration

EARLY, LATE, LOST = fill("o1"), order("o1", request=None), fill("o2")
ROOT, FOLLOWER, SAID = signal("s1"), evaluated("e1"), position("p1", correlation_id="chain-7")
PRICED, ASIDE = priced("p1"), event("market_price", {"price": "2"})
OUTPUTS = fold([EARLY, LATE, LOST, ROOT, FOLLOWER, SAID, PRICED, ASIDE])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serve(tmp_path_factory.mktemp("clickhouse")) as server:
        connected = Store(server.url)
        migrate.migrate(connected)
        rows = [row for output in OUTPUTS for row in (output.audited, *output.derived)]
        connected.insert(EVENTS, output_schema("audited"), [body("audited", row) for row in rows], "e")
        yield connected
        connected.close()


def answer(store: Store, name: str, **params: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(queries.run(store, name, params)).splitlines()]


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["event_id"] for row in rows]


@pytest.mark.req("N-01", "S4-08")
def test_a_chain_has_the_earlier_events_that_were_resolved_into_it(store: Store) -> None:
    rows = answer(store, "chain", correlation_id="chain-7")
    assert ids(rows) == [item["event_id"] for item in (ROOT, FOLLOWER, SAID, PRICED)]
    assert [(row["link"], row["linked_by"]) for row in rows] == [
        ("inferred", "signal_id"),
        ("inferred", "signal_id"),
        ("asserted", ""),
        ("inferred", "position_id"),
    ]
    assert ids(answer(store, "chain", correlation_id=LATE["event_id"])) == [EARLY["event_id"], LATE["event_id"]]


@pytest.mark.req("N-01")
def test_a_chain_that_went_into_another_is_empty(store: Store) -> None:
    assert answer(store, "chain", correlation_id=ROOT["event_id"]) == []
    assert answer(store, "chain", correlation_id=EARLY["event_id"]) == []


@pytest.mark.req("N-01", "S3-03")
def test_the_ratio_has_resolutions_applied(store: Store) -> None:
    found = {row["link"]: row["n"] for row in answer(store, "links")}
    assert found == {"asserted": 1, "backfilled": 1, "inferred": 4, "root": 1, "unresolved": 1}
    (row,) = answer(store, "missing_correlation")
    assert (row["events"], row["backfilled"], row["unresolved"], row["ratio"]) == (8, 1, 1, 0.25)


@pytest.mark.req("S3-09")
def test_what_the_processor_adds_is_counted_as_no_event(store: Store) -> None:
    assert sum(len(output.derived) for output in OUTPUTS) == 3
    assert sum(row["n"] for row in answer(store, "counts")) == 8
    assert len(answer(store, "tail")) == 8
    assert [row["events"] for row in answer(store, "event_lag")] == [8]
    (row,) = answer(store, "completeness")
    assert (row["rows"], row["holes"], row["doubles"]) == (8, 0, 0)


@pytest.mark.req("N-01", "P-04")
def test_open_findings_are_of_events_that_nothing_resolved(store: Store) -> None:
    rows = answer(store, "finding_details", code="link_unresolved")
    assert [row["subject"] for row in rows] == [LOST["event_id"]]


@pytest.mark.req("N-01")
def test_the_id_that_told_is_a_column(store: Store) -> None:
    rows = store.query(
        "SELECT linked_by FROM tradetape.events WHERE event_id = {id:UUID}", {"id": FOLLOWER["event_id"]}
    )
    assert [row[0] for row in rows] == ["signal_id"]
