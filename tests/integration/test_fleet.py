"""A simulated fleet of all kinds, from its native stores to one report: what was injected is found."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.conftest import Tradetape
from tests.support import eventually

from tradetape.infra import fleet
from tradetape.infra.embedded import stores
from tradetape.schemas.rules import REASONS

pytestmark = pytest.mark.integration

REJECTIONS = frozenset(REASONS)


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
    report = taken_in.run("report").stdout.decode()
    for source in {entry["instance"] for entry in injected(taken_in)} - {""}:
        assert source in report


@pytest.mark.req("S3-10", "P-04", "S0-02", "S1-02", "S4-11")
def test_every_injected_defect_is_found_under_its_code_and_kinds_are_whole(taken_in: Tradetape) -> None:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    statement = (
        "SELECT instance_name, code, count() AS n FROM (SELECT instance_name, arrayJoin(findings.code) AS code "
        "FROM tradetape.events UNION ALL SELECT instance_name, arrayJoin(arrayConcat(reasons, findings.code)) AS code "
        "FROM tradetape.quarantine) GROUP BY 1, 2"
    )
    for row in taken_in.sql(statement):
        found[row["instance_name"]][row["code"]] += row["n"]
        found[""][row["code"]] += row["n"]
    by_kind: dict[str, set[str]] = defaultdict(set)
    for defect in injected(taken_in):
        by_kind[defect["bots"]].add(defect["kind"])
        assert defect["expected"] or defect["why_not"], defect
        if defect["expected"]:
            assert found[defect["instance"]][defect["expected"]], defect
    assert by_kind.keys() == fleet.KINDS.keys()
    assert len(set().union(*by_kind.values())) >= 10


@pytest.mark.req("P-06", "S1-11")
def test_taken_in_again_nothing_is_new(taken_in: Tradetape) -> None:
    before = taken_in.rows("counts")
    again = taken_in.run("connect", "--once", "--config", str(config(taken_in)))
    assert again.stdout.count(b"nothing new") == len(fleet.KINDS)
    assert taken_in.rows("counts") == before


@pytest.mark.req("P-03", "N-03")
def test_nothing_is_lost_and_nothing_double(taken_in: Tradetape) -> None:
    rows = taken_in.rows("completeness")
    assert [(row["missing"], row["holes"], row["doubles"]) for row in rows] == [(0, 0, 0)] * len(rows)
