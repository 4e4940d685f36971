"""Simulated Trend bots write ledgers in the document's form, with the defects that were asked for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests import folding
from tests.producers.support import Listed

from tradetape.processors.findings import CATALOGUE
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.trend import source as trend
from tradetape.producers.simulator.trend import DEFECTS, simulate
from tradetape.schemas.rules import REASONS

STEPS = 40


def taken_in(path: Path, folder: Path) -> Listed:
    emitter = Listed()
    origin = Origin(trend.fingerprint(str(path)), "bot", "binance", "trend")
    runner.run(trend.open_source(str(path), origin, None), emitter, Checkpoints(folder))
    return emitter


def test_a_ledger_follows_from_its_seed(tmp_path: Path) -> None:
    contents = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        ledger = simulate(tmp_path / folder, bots=2, steps=6, seed=seed)
        contents.append([path.read_bytes() for path in ledger.files])
        assert len(ledger.files) == 2
    assert contents[0] == contents[1] != contents[2]


def test_a_ledger_without_defects_shows_none(tmp_path: Path) -> None:
    ledger = simulate(tmp_path, bots=1, steps=STEPS, seed=2)
    (path,) = ledger.files
    emitter = taken_in(path, tmp_path / "checkpoints")
    events = [event for event in emitter.events if event["event_type"] != "source_ended"]
    assert len(events) == ledger.rows["trend_bot_1"]["events.jsonl"] == path.read_bytes().count(b"\n")
    outputs = folding.fold(emitter.events)
    assert {output.audited["disposition"] for output in outputs} == {"accepted"}
    found = {finding["code"] for output in outputs for finding in output.audited["findings"]}
    assert found <= {"value_assumed"}
    assert [event["extra"] for event in events] == [None] * len(events)


def test_bots_write_every_type_of_the_document(tmp_path: Path) -> None:
    ledger = simulate(tmp_path, bots=3, steps=STEPS, seed=11)
    written = {json.loads(line)["event_type"] for path in ledger.files for line in path.read_bytes().splitlines()}
    spelt = {"".join(part.capitalize() for part in name.split("_")) for name in rules("trend")}
    assert written == spelt


def test_a_bot_goes_on_where_its_ledger_ends(tmp_path: Path) -> None:
    simulate(tmp_path, bots=1, steps=3, seed=4)
    (path,) = simulate(tmp_path, bots=1, steps=3, seed=4).files
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [record["sequence_num"] for record in records] == list(range(1, len(records) + 1))
    assert [record["timestamp"] for record in records] == sorted(record["timestamp"] for record in records)
    assert len({record["event_id"] for record in records}) == len(records)
    assert (path.parent / "sequence.txt").read_text() == f"{len(records) + 1}\n"


@pytest.mark.req("P-04")
@pytest.mark.parametrize("kind", DEFECTS)
def test_each_defect_is_caught_by_its_code_or_says_why_not(kind: str, tmp_path: Path) -> None:
    expected, why_not = DEFECTS[kind]
    assert bool(expected) != bool(why_not)
    ledger = simulate(tmp_path, bots=1, steps=STEPS, seed=3, defects=[kind])
    (injected,) = ledger.injected
    assert (injected.kind, injected.expected, injected.why_not) == (kind, expected, why_not)
    outputs = folding.fold(taken_in(ledger.files[0], tmp_path / "checkpoints").events)
    codes = Counter(finding["code"] for output in outputs for finding in output.audited["findings"])
    codes.update(reason for output in outputs for reason in output.audited["reasons"])
    if expected:
        assert expected in CATALOGUE.keys() | REASONS.keys()
        assert codes[expected]
    else:
        assert set(codes) <= {"value_assumed"}
    if kind == "wrong_arithmetic":
        about = [f["subject"] for output in outputs for f in output.audited["findings"] if f["code"] == expected]
        assert about == [injected.subject]


def test_what_cannot_be_injected_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such defect"):
        simulate(tmp_path, bots=1, steps=3, seed=1, defects=["gremlins"])
    with pytest.raises(ValueError, match="do not fit"):
        simulate(tmp_path, bots=1, steps=5, seed=1, defects=DEFECTS)
    assert len(simulate(tmp_path, bots=1, steps=len(DEFECTS), seed=1, defects=DEFECTS).injected) == len(DEFECTS)
