"""Simulated Catalyst bots: deterministic, in the document's tables, with exactly the defects that the ledger says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.folding import fold, open_findings
from tests.producers.catalyst_rows import drain, origin
from tests.producers.support import ask

from tradetape.processors.core import Output
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.connectors.catalyst.source import open_source
from tradetape.producers.events import Event
from tradetape.producers.simulator.catalyst.fleet import DEFECTS, simulate

NOTED = {"sequence_regressed"}
ROWS = "SELECT rowid, * FROM event_log ORDER BY rowid"


def taken(path: Path) -> tuple[list[Event], list[Output]]:
    events = drain(open_source(str(path), origin(path.stem), None), limit=1000)
    return events, fold(events)


def found(outputs: list[Output]) -> Counter[str]:
    """Codes by the subjects they were found on: open findings, rejections, and what is only noted."""
    codes = Counter(open_findings(outputs))
    for output in outputs:
        codes.update(output.audited["reasons"])
        codes.update(f["code"] for f in output.audited["findings"] if f["code"] in NOTED)
    return codes


@pytest.mark.req("P-04", "S1-02")
def test_the_ledger_is_what_the_core_finds(tmp_path: Path) -> None:
    ledger = simulate(tmp_path, bots=3, steps=25, seed=5, defects=DEFECTS)
    assert len(ledger.injected) == 3 * len(DEFECTS)
    for path in ledger.files:
        events, outputs = taken(path)
        expected = Counter(i.expected for i in ledger.injected if i.instance == path.stem and i.expected)
        assert found(outputs) == expected
        assert len([e for e in events if e["source_stream"] == "event_log"]) == ledger.rows[path.stem]["event_log"]


@pytest.mark.req("P-04")
@pytest.mark.parametrize("kind", DEFECTS)
def test_each_defect_shows_itself_and_nothing_else(kind: str, tmp_path: Path) -> None:
    ledger = simulate(tmp_path, bots=1, steps=6, seed=2, defects=[kind])
    _, outputs = taken(ledger.files[0])
    code, why_not = DEFECTS[kind]
    assert found(outputs) == ({code: 1} if code else {})
    assert bool(code) != bool(why_not)
    assert [injected.kind for injected in ledger.injected] == [kind]


@pytest.mark.req("S1-01")
def test_a_clean_fleet_has_no_findings_and_lives_through_the_documents_flows(tmp_path: Path) -> None:
    ledger = simulate(tmp_path, bots=4, steps=60, seed=9)
    assert ledger.injected == []
    seen: set[str] = set()
    for path in ledger.files:
        events, outputs = taken(path)
        assert found(outputs) == {}
        about = [event for event in events if event["aggregate_type"] in ("order", "position")]
        assert all(event["trading_pair"] for event in about if event["event_type"] != "entity_snapshot")
        seen |= {event["native_type"] for event in events}
    assert {"STOP_LOSS_TRIGGERED", "TAKE_PROFIT_TRIGGERED", "ORDER_REJECTED", "ORDER_PARTIALLY_FILLED"} <= seen
    assert seen - {"event_snapshots"} <= rules("catalyst").keys()


def test_the_seed_says_everything_and_a_second_run_goes_on(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate(tmp_path / name, bots=2, steps=5, seed=seed)
    one, same, other = (ask(tmp_path / name / "catalyst_1.db", ROWS) for name in "abc")
    assert one == same != other
    again = simulate(tmp_path / "a", bots=2, steps=5, seed=3)
    longer = ask(tmp_path / "a" / "catalyst_1.db", ROWS)
    assert longer[: len(one)] == one
    assert len(longer) == again.rows["catalyst_1"]["event_log"] > len(one)
    assert len({row[1] for row in longer}) == len(longer)
    assert found(taken(tmp_path / "a" / "catalyst_1.db")[1]) == {}


@pytest.mark.req("S1-05")
def test_prices_are_throttled_as_the_document_says(tmp_path: Path) -> None:
    (path,) = simulate(tmp_path, bots=1, steps=20, seed=1).files
    priced = [event["payload"] for event in taken(path)[0] if event["event_type"] == "position_priced"]
    assert len(priced) > 20
    assert all(abs(p["new_price"] - p["old_price"]) * 1000 > p["old_price"] for p in priced)


def test_unknown_defects_and_too_many_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such defect: sloth"):
        simulate(tmp_path, bots=1, steps=5, seed=1, defects=["sloth"])
    with pytest.raises(ValueError, match="do not fit"):
        simulate(tmp_path, bots=1, steps=5, seed=1, defects={"lost": 6})
