"""Holes and missing rows are judged again from the raw records, to the last digit (P-11, G2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.folding import SCHEMAS
from tests.integration.test_replay import LAST, LOG, engine, fill, from_store, rows, store

from tradetape.infra import repair as running
from tradetape.infra.settings import Settings
from tradetape.processors.reading import RawRecord
from tradetape.sinks import queries, raw_log, raws
from tradetape.sinks.repair import Repairer, Unrepairable
from tradetape.sinks.store import Store
from tradetape.sinks.tables import ALERTS, RISK

__all__ = ["engine", "store"]

pytestmark = [pytest.mark.integration, pytest.mark.req("P-11")]


class Ids:
    """Ids of output schemas, as a registry gives them."""

    def __init__(self) -> None:
        self._schemas: list[Any] = []

    def look_up(self, topic: str, schema: Any) -> int:
        self._schemas.append(schema)
        return len(self._schemas) - 1

    def by_id(self, schema_id: int) -> Any:
        return self._schemas[schema_id]


def repairer(store: Store, first: int = 0) -> Repairer:
    """Repairs from a topic that holds LOG from ``first`` on."""

    def fetch(partition: int, start: int, end: int) -> Iterator[RawRecord]:
        return (raw for raw in LOG if max(start, first) <= raw.offset < end)

    return Repairer(store, SCHEMAS.get, Ids(), fetch)  # type: ignore[arg-type]


def place(row: Any) -> tuple[int, int]:
    return row.record["raw_offset"], row.record["derived_seq"]


def test_holes_are_filled_to_the_last_digit(store: Store) -> None:
    gone = {0, 7, 8, 9, LAST}
    whole = rows()
    kept = [row for row in whole if row.record["raw_offset"] not in gone]
    fill(store, kept)
    assert raws.holes(store) == {0: [(0, 0), (7, 9)]}
    assert [row["holes"] for row in queries.rows(store, "completeness")] == [4]
    traces = queries.rows(store, "immutability")
    assert [(row["raw_partition"], row["rows"]) for row in traces if row["trace"] == "missing"] == [(0, 4)]
    done = repairer(store).repair(0, LAST + 1)
    on_its_way = []
    for table in (RISK, ALERTS):
        reached = max(place(row) for row in kept if row.table is table)
        on_its_way += [row for row in whole if row.table is table and place(row) > reached]
    assert on_its_way
    missing = len(whole) - len(kept) - len(on_its_way)
    assert (done.judged, done.events, done.rows) == (LAST + 1, len(gone), missing)
    assert raws.holes(store) == {}
    fill(store, on_its_way)
    outcome = from_store(store)
    assert (outcome.agrees, outcome.equal) == (True, len(whole))
    assert repairer(store).repair(0, LAST + 1).rows == 0


def test_a_missing_figure_and_a_verdict_without_its_figure(store: Store) -> None:
    whole = rows()
    figures = [row for row in whole if row.table is RISK]
    verdict = next(row for row in whole if row.record["raw_offset"] == figures[3].record["raw_offset"])
    fill(store, [row for row in whole if row not in (figures[1], verdict)])
    assert repairer(store).repair(0, LAST + 1).rows == 2
    assert from_store(store).equal == len(whole)


def test_what_the_sink_may_still_land_is_left_to_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows()
    figures = [row for row in whole if row.table is RISK]
    on_its_way = figures[-2:]
    fill(store, [row for row in whole if row not in (figures[1], *on_its_way)])
    monkeypatch.setattr(running, "Registry", lambda _: Ids())
    monkeypatch.setattr(raw_log, "writer_schemas", lambda _: SCHEMAS.get)
    monkeypatch.setattr(raw_log, "records", lambda *_: iter(()))
    found = Settings(Path(), "", "", store.url, "tradetape", 1, Path())
    (done,) = running.run(found, [0])
    assert done.rows == 1
    fill(store, on_its_way)
    outcome = from_store(store)
    assert (outcome.agrees, outcome.equal) == (True, len(whole))


def test_what_kafka_no_longer_has_is_said(store: Store) -> None:
    fill(store, [row for row in rows() if row.record["raw_offset"] != 7])
    with pytest.raises(Unrepairable, match="offsets 7 to 7 are neither stored nor in"):
        repairer(store, first=8).repair(0, LAST + 1)
