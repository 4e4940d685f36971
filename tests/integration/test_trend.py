"""Trend's native store, all the way: `tradetape connect trend` → Kafka → ClickHouse, read back in order."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Tradetape
from tests.support import eventually

from tradetape.producers.connectors.trend import source as trend
from tradetape.producers.simulator import Ledger
from tradetape.producers.simulator.trend import DEFECTS, simulate

pytestmark = pytest.mark.integration

BOTS = 2
STEPS = 20
STORED_SECONDS = 60.0
FINDING = "arrayMap(f -> (f.1, f.3), findings)"


@dataclass(frozen=True, slots=True)
class Fleet:
    """What was simulated, and how to ask the record about one bot's ledger."""

    stack: Tradetape
    ledger: Ledger

    def connect(self) -> str:
        said = []
        for path, name in zip(self.ledger.files, self.ledger.rows, strict=True):
            more = ("--instance", name, "--connector", "binance", "--once")
            said.append(self.stack.run("connect", "trend", str(path), *more).stdout.decode())
        return "".join(said)

    def rows(self, path: Path, select: str, table: str = "events", where: str = "1") -> list[dict[str, Any]]:
        source = trend.fingerprint(str(path))
        return self.stack.sql(
            f"SELECT {select} FROM tradetape.{table} WHERE source_id = '{source}' AND {where} "
            "ORDER BY raw_partition, raw_offset"
        )

    def is_stored(self, path: Path, lines: int) -> bool:
        where = "source_position IS NOT NULL"
        kept = [len(self.rows(path, "raw_offset", table, where)) for table in ("events", "quarantine")]
        assert sum(kept) == lines, kept
        return bool(self.rows(path, "event_id", where="event_type = 'source_ended'"))


@pytest.fixture(scope="module")
def fleet(stack: Tradetape, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    ledger = simulate(tmp_path_factory.mktemp("trend"), bots=BOTS, steps=STEPS, seed=23, defects=DEFECTS)
    found = Fleet(stack, ledger)
    found.connect()
    for path, rows in zip(ledger.files, ledger.rows.values(), strict=True):
        lines = rows["events.jsonl"]
        eventually(lambda path=path, lines=lines: found.is_stored(path, lines), STORED_SECONDS, str(path))  # type: ignore[misc]
    return found


@pytest.mark.req("S2-01", "S3-10")
def test_the_ledger_reads_back_line_by_line_in_its_order(fleet: Fleet) -> None:
    for path in fleet.ledger.files:
        stored = {
            int(row["position"]): row
            for table in ("events", "quarantine")
            for row in fleet.rows(
                path,
                "toString(source_position) AS position, toString(event_id) AS id, native_type, source, "
                "toString(sequence) AS number, link, raw_offset",
                table,
                "source_position IS NOT NULL",
            )
        }
        lines = path.read_bytes().splitlines()
        assert sorted(stored) == list(range(1, len(lines) + 1))
        offsets = [int(stored[number]["raw_offset"]) for number in sorted(stored)]
        assert offsets == sorted(offsets)
        broken = 0
        for number, line in enumerate(lines, 1):
            row = stored[number]
            try:
                record = json.loads(line)
            except ValueError:
                broken += 1
                continue
            assert (row["id"], row["native_type"]) == (record["event_id"], record["event_type"])
            assert (row["number"], row["source"]) == (str(record["sequence_num"]), record["metadata"]["source"])
        assert broken == 1


@pytest.mark.req("P-04", "S2-02")
def test_every_injected_defect_is_found(fleet: Fleet) -> None:
    for path, instance in zip(fleet.ledger.files, fleet.ledger.rows, strict=True):
        codes: Counter[str] = Counter()
        for row in fleet.rows(path, f"{FINDING} AS found", where="notEmpty(findings)"):
            codes.update(code for code, status in row["found"] if status in ("opened", "noted"))
        for row in fleet.rows(path, "reasons", "quarantine"):
            codes.update(row["reasons"])
        injected = [defect for defect in fleet.ledger.injected if defect.instance == instance]
        assert len(injected) == len(DEFECTS)
        for defect in injected:
            if defect.expected:
                assert codes[defect.expected], defect


@pytest.mark.req("S2-02", "P-06", "S3-09")
def test_a_second_run_adds_nothing_and_what_the_source_holds_is_what_is_stored(fleet: Fleet) -> None:
    before = fleet.stack.sql("SELECT count() AS n FROM tradetape.events")
    assert fleet.connect().count("nothing new") == BOTS
    sources = {trend.fingerprint(str(path)) for path in fleet.ledger.files}
    deltas = [row for row in fleet.stack.rows("count_delta") if row["source_id"] in sources]
    assert deltas
    # The doubled line has one id, so the record holds one of its two.
    assert [int(row["delta"]) for row in deltas if int(row["delta"])] == [1] * BOTS
    assert fleet.stack.sql("SELECT count() AS n FROM tradetape.events") == before


@pytest.mark.req("S2-02")
def test_lines_lost_before_the_ledger_are_told_from_sequence_txt(fleet: Fleet) -> None:
    path, name = fleet.ledger.files[0], next(iter(fleet.ledger.rows))
    sequence = path.parent / trend.SEQUENCE
    next_number = int(sequence.read_text())
    sequence.write_text(str(next_number + 3))
    fleet.stack.run("connect", "trend", str(path), "--instance", name, "--connector", "binance", "--once")
    gap = eventually(lambda: fleet.rows(path, "payload", where="event_type = 'system_gap'"), STORED_SECONDS, "the gap")
    told = json.loads(gap[0]["payload"])
    assert (told["reason"], told["count"]) == ("sequence_file", "3" if isinstance(told["count"], str) else 3)
    assert (told["first"], told["last"]) == (str(next_number), str(next_number + 2))
