"""A simulated fleet of all kinds, from its native stores to one report: what was injected is found."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from tests.injected import Found, missed
from tests.integration.conftest import Tradetape
from tests.support import eventually

from tradetape.infra import fleet
from tradetape.infra.embedded import stores

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def taken_in(stack: Tradetape) -> Iterator[Tradetape]:
    """A stack that has taken in one bot of each kind."""
    stack.run("simulate", "--bots", "1", "--steps", "12", "--seed", "11")
    stack.run("connect", "--once", "--config", str(config(stack)))
    eventually(lambda: not sum(row["missing"] for row in stack.rows("completeness")), timeout=60)
    yield stack
    stores.stop(stack.home)


def config(stack: Tradetape) -> Any:
    return stack.home / "fleet" / "tradetape.toml"


def injected(stack: Tradetape) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((stack.home / "fleet" / "ledger.json").read_text())["injected"]
    return found


@pytest.mark.req("S3-10", "S0-01", "S1-01", "S2-01", "S4-01")
def test_every_kind_is_in_one_report(taken_in: Tradetape) -> None:
    systems = taken_in.sql("SELECT DISTINCT source_system AS system FROM tradetape.events")
    assert {row["system"] for row in systems} >= {"turtle", "catalyst", "trend", "hummingbot", "quantum", "envelope"}
    ways = taken_in.sql("SELECT DISTINCT ingest_source AS way FROM tradetape.events WHERE source_system = 'envelope'")
    assert {row["way"] for row in ways} >= {"envelope", "http"}
    report = taken_in.run("report").stdout.decode()
    for source in {entry["instance"] for entry in injected(taken_in)}:
        assert source in report


def found(stack: Tradetape) -> list[Found]:
    """Every finding, rejection and repeat of the stack, in the order of the record."""
    findings = (
        "SELECT instance_name, finding.code AS code, finding.status AS status, finding.subject AS subject, "
        "hex(raw) AS record, raw_partition, raw_offset FROM tradetape.{table} ARRAY JOIN findings AS finding"
    )
    reasons = (
        "SELECT instance_name, code, '' AS status, '' AS subject, hex(raw) AS record, raw_partition, raw_offset "
        "FROM tradetape.quarantine ARRAY JOIN reasons AS code"
    )
    parts = (findings.format(table="events"), findings.format(table="quarantine"), reasons)
    rows = stack.sql(f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY raw_partition, raw_offset")
    return [
        Found(row["instance_name"], row["code"], row["status"], row["subject"], bytes.fromhex(row["record"]))
        for row in rows
    ]


@pytest.mark.req("S3-10", "P-04", "S0-02", "S1-02", "S4-11")
def test_every_injected_defect_is_found_on_its_own_subject_and_kinds_are_whole(taken_in: Tradetape) -> None:
    defects = injected(taken_in)
    assert [defect for defect in defects if not (defect["expected"] or defect["why_not"])] == []
    assert missed(defects, found(taken_in)) == []
    by_bots: dict[str, set[str]] = defaultdict(set)
    for defect in defects:
        by_bots[defect["bots"]].add(defect["kind"])
        assert defect["instance"]
    assert by_bots.keys() == fleet.KINDS.keys()
    assert {bots: len(kinds) for bots, kinds in by_bots.items() if len(kinds) < 10} == {}


@pytest.mark.req("P-06", "S1-11")
def test_taken_in_again_nothing_is_new(taken_in: Tradetape) -> None:
    before = taken_in.rows("counts")
    again = taken_in.run("connect", "--once", "--config", str(config(taken_in)))
    assert again.stdout.count(b"nothing new") == len(fleet.KINDS.keys() - {fleet.HTTP})
    assert taken_in.rows("counts") == before


@pytest.mark.req("P-03", "N-03")
def test_nothing_is_lost_and_nothing_double(taken_in: Tradetape) -> None:
    rows = taken_in.rows("completeness")
    assert [(row["missing"], row["holes"], row["doubles"]) for row in rows] == [(0, 0, 0)] * len(rows)
