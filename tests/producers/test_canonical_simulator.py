"""Simulated canonical bots: deterministic, contract-clean but for the defects that they say, in a file or over HTTP."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.folding import fold
from tests.injected import missed, of_outputs, standing
from tests.producers.support import Listed

from tradetape.processors.core import Output
from tradetape.producers.adapters.envelope import Origin as Posting
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.envelope import source as envelope
from tradetape.producers.gateway import body, reading
from tradetape.producers.simulator import canonical
from tradetape.producers.simulator.canonical_defects import DEFECTS
from tradetape.producers.simulator.lines import BREAKS

BESIDE = {"orphaned": {"fill_before_created": 1}, "clock_skewed": {"clock_ahead": 1}}
"""What a defect shows besides its code: an order never created, and the end of a source dated like its last line."""


def taken_in(path: Path, folder: Path) -> list[Output]:
    emitter = Listed()
    origin = Origin(envelope.fingerprint(str(path)), path.stem, "", "envelope", ingest_source="envelope", legacy=False)
    runner.run(envelope.open_source(str(path), origin, None), emitter, Checkpoints(folder))
    return fold(emitter.events)


def posted(lines: list[bytes]) -> list[Output]:
    """What becomes of ``lines`` that were posted."""
    items = body.split_lines(b"\n".join(lines))
    return fold(reading.read(Posting("s", "http", "client", False), item).event for item in items)


def codes(outputs: list[Output]) -> Counter[str]:
    return Counter(one.code for one in standing(of_outputs(outputs)))


def test_a_file_follows_from_its_seed_and_a_second_run_goes_on(tmp_path: Path) -> None:
    one, same, other = (
        canonical.simulate(tmp_path / n, bots=2, steps=5, seed=s) for n, s in (("a", 3), ("b", 3), ("c", 4))
    )
    contents = [[path.read_bytes() for path in ledger.files] for ledger in (one, same, other)]
    assert contents[0] == contents[1] != contents[2]
    more = canonical.simulate(tmp_path / "a", bots=2, steps=5, seed=3, defects=["clock_skewed", "malformed"])
    again = canonical.simulate(tmp_path / "a", bots=2, steps=5, seed=3)
    (path, _) = again.files
    assert path.read_bytes().startswith(contents[0][0])
    assert again.rows["canonical_bot_1"]["lines"] > more.rows["canonical_bot_1"]["lines"]
    last = json.loads(path.read_bytes().splitlines()[-1])
    assert last["ts_utc"] < "2024"  # a skewed clock is not gone on from
    assert {one.code for one in of_outputs(taken_in(path, tmp_path / "kept"))} == {"clock_ahead", *BREAKS}


@pytest.mark.req("S3-01", "S3-04")
def test_without_defects_all_is_accepted_and_nothing_is_found(tmp_path: Path) -> None:
    for path in canonical.simulate(tmp_path, bots=4, steps=30, seed=9).files:
        outputs = taken_in(path, tmp_path / "kept")
        assert {output.audited["disposition"] for output in outputs} == {"accepted"}
        assert of_outputs(outputs) == []
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert [line["sequence"] for line in lines] == list(range(1, len(lines) + 1))
        types = {line["event_type"] for line in lines}
        assert types >= {"order_created", "order_filled", "order_completed", "position_opened", "position_closed"}
        held = {output.audited["trading_pair"]: output.risk for output in outputs if output.risk is not None}
        assert all(figures["net_base"] == 0 and figures["open_orders"] == 0 for figures in held.values())


@pytest.mark.req("P-04", "N-07")
@pytest.mark.parametrize("kind", DEFECTS)
def test_each_defect_shows_itself_and_nothing_else(kind: str, tmp_path: Path) -> None:
    ledger = canonical.simulate(tmp_path, bots=1, steps=6, seed=1, defects=[kind])
    outputs = taken_in(ledger.files[0], tmp_path / "kept")
    code, why_not = DEFECTS[kind]
    assert bool(code) != bool(why_not)
    expected = Counter(defect.expected for defect in ledger.injected if defect.expected)
    shown = {"doubled": {"duplicate_event_id": 2}}.get(kind, expected)  # a reason, and a finding
    assert codes(outputs) == Counter(shown) + Counter(BESIDE.get(kind, {}))
    assert missed([defect._asdict() for defect in ledger.injected], of_outputs(outputs)) == []
    assert {defect.kind for defect in ledger.injected} == {kind}
    assert {defect.instance for defect in ledger.injected} == {"canonical_bot_1"}


@pytest.mark.req("P-04", "S3-05")
def test_all_of_them_are_found_on_their_own_subjects_in_a_file_and_over_http(tmp_path: Path) -> None:
    path = tmp_path / "bot.jsonl"
    written = canonical.run(path, 1, steps=len(DEFECTS), seed=4, defects=DEFECTS)
    canonical.append(path, written)
    assert Counter(one.kind for one in written.injected) == Counter(
        dict.fromkeys(DEFECTS, 1) | {"malformed": len(BREAKS)}
    )
    injected = [defect._asdict() for defect in written.injected]
    assert missed(injected, of_outputs(taken_in(path, tmp_path / "kept"))) == []
    over_http = [each | ({"expected": "repeated"} if each["kind"] == "doubled" else {}) for each in injected]
    assert missed(over_http, of_outputs(posted(written.lines))) == []


def test_a_defect_of_another_kind_or_subject_does_not_count_as_found(tmp_path: Path) -> None:
    path = tmp_path / "bot.jsonl"
    written = canonical.run(path, 1, steps=12, seed=4, defects=["wrong_arithmetic", "lost", "reordered"])
    canonical.append(path, written)
    found = of_outputs(taken_in(path, tmp_path / "kept"))
    by_kind = {defect.kind: defect._asdict() for defect in written.injected}
    elsewhere = by_kind["wrong_arithmetic"] | {"subject": "c0000000000000000"}
    otherwise = by_kind["wrong_arithmetic"] | {"expected": "zero_price"}
    twice = [by_kind["lost"] | {"subject": name} for name in ("gone_1", "gone_2")]
    assert missed([*by_kind.values(), elsewhere, otherwise], found) == [elsewhere, otherwise]
    assert missed(twice, found) == twice


def test_unknown_defects_and_too_many_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such defect: sloth"):
        canonical.simulate(tmp_path, bots=1, steps=5, seed=1, defects=["sloth"])
    with pytest.raises(ValueError, match="10 defects do not fit into 9 steps"):
        canonical.simulate(tmp_path, bots=1, steps=9, seed=1, defects=DEFECTS)
