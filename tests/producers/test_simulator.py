"""The simulated fleet: deterministic, native, and with exactly the defects that it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.folding import fold, open_findings
from tests.injected import missed, of_outputs
from tests.producers.support import Listed, ask

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.hummingbot import ingest as hummingbot
from tradetape.producers.simulator import DEFECTS, envelope_lines, simulate_hummingbot
from tradetape.producers.simulator.hummingbot import CODES, SKEW_MS
from tradetape.producers.simulator.ledger import START_MS
from tradetape.schemas import envelope_json

RESOLVED = {"fill_before_created"}


def sent(path: Path, folder: Path) -> Listed:
    emitter = Listed()
    hummingbot.ingest(path, emitter, Checkpoints(folder))
    return emitter


@pytest.mark.req("P-04")
def test_the_ledger_is_what_the_core_finds(tmp_path: Path) -> None:
    ledger = simulate_hummingbot(
        tmp_path / "fleet", bots=3, orders_per_bot=60, seed=5, defects=dict.fromkeys(DEFECTS, 2)
    )
    assert len(ledger.injected) == 3 * 2 * len(DEFECTS)
    for path in ledger.files:
        emitter = sent(path, tmp_path / "checkpoints")
        assert "unmapped_record" not in emitter.types()
        expected = Counter(
            found.expected for found in ledger.injected if found.instance == path.stem and found.kind not in RESOLVED
        )
        assert open_findings(fold(emitter.events)) == expected


@pytest.mark.req("P-04")
@pytest.mark.parametrize("kind", DEFECTS)
def test_each_defect_shows_itself_and_nothing_else(kind: str, tmp_path: Path) -> None:
    ledger = simulate_hummingbot(tmp_path, bots=1, orders_per_bot=8, seed=1, defects=[kind])
    emitter = sent(ledger.files[0], tmp_path / "checkpoints")
    assert open_findings(fold(emitter.events)) == ({} if kind in RESOLVED else {kind: 1})


@pytest.mark.req("P-04", "N-07")
@pytest.mark.parametrize("kind", sorted(CODES.keys() - set(DEFECTS)))
def test_each_other_defect_is_found_on_its_order_and_nothing_else_is(kind: str, tmp_path: Path) -> None:
    ledger = simulate_hummingbot(tmp_path, bots=1, orders_per_bot=8, seed=1, defects=[kind])
    found = of_outputs(fold(sent(ledger.files[0], tmp_path / "checkpoints").events))
    code, why_not = CODES[kind]
    assert bool(code) != bool(why_not)
    assert {one.code for one in found} == ({code} if code else set())
    assert [defect.kind for defect in ledger.injected] == [kind]
    assert missed([defect._asdict() for defect in ledger.injected], found) == []


def test_every_defect_is_found_on_its_own_order_and_a_bot_goes_on_after_them(tmp_path: Path) -> None:
    ledgers = [
        simulate_hummingbot(tmp_path, bots=2, orders_per_bot=len(CODES), seed=seed, defects=CODES) for seed in (1, 2)
    ]
    injected = [defect._asdict() for ledger in ledgers for defect in ledger.injected]
    assert len(injected) == 2 * 2 * len(CODES)
    for path in ledgers[0].files:
        outputs = fold(sent(path, tmp_path / "checkpoints").events)
        mine = [defect for defect in injected if defect["instance"] == path.stem]
        assert missed(mine, of_outputs(outputs)) == []
        ahead = ask(path, f"SELECT count(*) FROM OrderStatus WHERE timestamp > {START_MS + SKEW_MS // 2}")
        assert ahead == [(2,)]  # only the skewed ones: the clock itself was not moved


def test_a_silent_bot_stops_in_the_middle(tmp_path: Path) -> None:
    ledger = simulate_hummingbot(tmp_path, bots=1, orders_per_bot=30, seed=1, defects=["silent"])
    assert ledger.rows["sim_mm_1"]["Order"] == 15


def test_a_clean_fleet_has_no_findings(tmp_path: Path) -> None:
    ledger = simulate_hummingbot(tmp_path, bots=2, orders_per_bot=100, seed=9)
    assert ledger.injected == []
    for path in ledger.files:
        assert open_findings(fold(sent(path, tmp_path / "checkpoints").events)) == {}


def test_the_seed_says_everything_and_a_second_run_goes_on(tmp_path: Path) -> None:
    first = simulate_hummingbot(tmp_path / "a", bots=2, orders_per_bot=20, seed=3)
    second = simulate_hummingbot(tmp_path / "b", bots=2, orders_per_bot=20, seed=3)
    other = simulate_hummingbot(tmp_path / "c", bots=2, orders_per_bot=20, seed=4)
    rows = 'SELECT * FROM "Order" JOIN OrderStatus ON order_id = "Order".id'
    assert ask(first.files[0], rows) == ask(second.files[0], rows) != ask(other.files[0], rows)
    more = simulate_hummingbot(tmp_path / "a", bots=2, orders_per_bot=20, seed=3)
    assert more.rows["sim_mm_1"]["Order"] == 40
    times = [row[0] for row in ask(first.files[0], "SELECT timestamp FROM OrderStatus ORDER BY id")]
    assert times == sorted(times)


def test_unknown_defects_and_too_many_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such defect"):
        simulate_hummingbot(tmp_path, bots=1, orders_per_bot=5, seed=1, defects=["magic"])
    with pytest.raises(ValueError, match="do not fit"):
        simulate_hummingbot(tmp_path, bots=1, orders_per_bot=2, seed=1, defects=DEFECTS)


@pytest.mark.req("S3-05")
def test_lines_are_rejected_for_the_reason_they_say() -> None:
    cases = envelope_lines(11, 300, bad=100)
    assert cases == envelope_lines(11, 300, bad=100)
    for case in cases:
        codes = {violation.code for violation in envelope_json.read(case.line, source_id="s").violations}
        assert codes == ({case.reason} if case.reason else set())
    assert sum(case.reason is not None for case in cases) == 100
