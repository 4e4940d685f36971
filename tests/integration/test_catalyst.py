"""Catalyst's native store, all the way: `tradetape connect catalyst` → Kafka → ClickHouse, read back in order."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Tradetape
from tests.producers.support import ask
from tests.support import eventually

from tradetape.infra import settings
from tradetape.producers.connectors.catalyst import source as catalyst
from tradetape.producers.simulator import Ledger
from tradetape.producers.simulator.catalyst.fleet import DEFECTS, simulate
from tradetape.sinks.store import Store

pytestmark = pytest.mark.integration

BOTS = 2
STORED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """What was simulated, and how to ask the record about one bot's store."""

    stack: Tradetape
    store: Store
    ledger: Ledger

    def connect(self) -> str:
        return "".join(
            self.stack.run("connect", "catalyst", str(p), "--once").stdout.decode() for p in self.ledger.files
        )

    def rows(self, path: Path, select: str, table: str = "events", where: str = "1") -> list[tuple[Any, ...]]:
        """Rows of what is stored of one bot's database, in the order of the record."""
        source = catalyst.fingerprint(str(path))
        return self.store.query(
            f"SELECT {select} FROM tradetape.{table} WHERE source_id = '{source}' AND {where} "
            "ORDER BY raw_partition, raw_offset"
        )

    def are_stored(self) -> bool:
        """The sink has the end of every store, and so what was sent before it."""
        return all(self.rows(path, "event_id", where="event_type = 'source_ended'") for path in self.ledger.files)


@pytest.fixture(scope="module")
def fleet(stack: Tradetape, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    ledger = simulate(tmp_path_factory.mktemp("catalyst"), bots=BOTS, steps=20, seed=17, defects=DEFECTS)
    found = Fleet(stack, Store(settings.load(stack.home).clickhouse_url), ledger)
    found.connect()
    eventually(found.are_stored, STORED_SECONDS, "the ends of the stores")
    return found


@pytest.mark.req("S1-01", "S1-03", "S3-10")
def test_the_log_reads_back_in_its_order(fleet: Fleet) -> None:
    for path in fleet.ledger.files:
        native = ask(path, "SELECT rowid, event_id, event_type, metadata, aggregate_id, sequence_number FROM event_log")
        stored = sorted(
            row
            for table in ("events", "quarantine")
            for row in fleet.rows(
                path,
                "assumeNotNull(source_position), toString(event_id), native_type, source, aggregate_id, "
                "assumeNotNull(aggregate_sequence), correlation_id, raw_offset",
                table,
                "source_stream = 'event_log'",
            )
        )
        wanted = [
            (rowid, event_id, event_type, json.loads(metadata)["source"], aggregate_id, sequence)
            for rowid, event_id, event_type, metadata, aggregate_id, sequence in native
        ]
        assert [row[:6] for row in stored] == wanted
        offsets = [row[7] for row in stored]
        assert offsets == sorted(offsets)
        for (_, _, _, metadata, *_), row in zip(native, stored, strict=True):
            asserted = json.loads(metadata)["correlation_id"]
            assert row[6] in (asserted, "") or not asserted


@pytest.mark.req("S1-07")
def test_the_snapshots_name_their_last_event_and_that_event_is_stored(fleet: Fleet) -> None:
    for path in fleet.ledger.files:
        stored = fleet.rows(path, "payload", where="event_type = 'entity_snapshot'")
        assert len(stored) == fleet.ledger.rows[path.stem]["event_snapshots"] > 0
        ids = {row[0] for row in fleet.rows(path, "toString(event_id)")}
        assert {json.loads(row[0])["last_event_id"] for row in stored} <= ids


@pytest.mark.req("P-04", "S1-02")
def test_every_injected_defect_is_found(fleet: Fleet) -> None:
    for path in fleet.ledger.files:
        codes: Counter[str] = Counter()
        for (found,) in fleet.rows(path, "arrayMap(f -> f.code, findings)", where="notEmpty(findings)"):
            codes.update(found)
        for (reasons,) in fleet.rows(path, "reasons", "quarantine"):
            codes.update(reasons)
        for injected in fleet.ledger.injected:
            if injected.instance == path.stem and injected.expected:
                assert codes[injected.expected], injected


@pytest.mark.req("S1-11", "P-06", "S3-09")
def test_a_second_run_adds_nothing_and_what_the_source_holds_is_what_is_stored(fleet: Fleet) -> None:
    before = [len(fleet.rows(path, "event_id")) for path in fleet.ledger.files]
    assert fleet.connect().count("nothing new") == BOTS
    sources = {catalyst.fingerprint(str(path)) for path in fleet.ledger.files}
    deltas = [row for row in fleet.stack.rows("count_delta") if row["source_id"] in sources]
    assert deltas
    assert [row for row in deltas if row["delta"]] == []
    assert [len(fleet.rows(path, "event_id")) for path in fleet.ledger.files] == before
