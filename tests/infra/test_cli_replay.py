"""`tradetape replay` on the command line: what cannot run, and what a person is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tradetape.infra.cli import replay as command
from tradetape.infra.cli.main import run
from tradetape.sinks.replay import Difference, Outcome

pytestmark = pytest.mark.req("P-06")


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """What the replay finds, in place of a stack."""
    found: list[Outcome] = []
    monkeypatch.setattr(command, "_run", lambda *_: found)
    return found


def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "--from-store", "--home", str(tmp_path / "h")]) == 2
    assert "start it with `tradetape up`" in capsys.readouterr().err


def test_it_needs_to_know_where_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "--home", str(tmp_path / "h")]) == 2
    assert "--from-topic or --from-store" in capsys.readouterr().err


def test_equal_is_0(outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    outcomes += [Outcome(0, records=10, equal=12, seconds=0.5), Outcome(1, not_stored=3)]
    assert run(["replay", "--from-topic"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2:] == ["3 records are not stored yet: not compared", "all 12 rows are equal to the last digit"]
    assert out[2].split() == ["0", "10", "20", "12", "0"]


def test_different_is_1_and_the_first_place_is_named(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    first = Difference("1:7:0", "events", "payload", "a\x1b[31m", "b")
    outcomes += [Outcome(0, records=1, equal=1), Outcome(1, records=9, equal=8, different=2, first=first)]
    assert run(["replay", "--from-topic"]) == 1
    out = capsys.readouterr().out
    assert "first difference: events 1:7:0 payload: stored a�[31m, replayed b\n" in out
    assert out.endswith("2 rows differ, 9 are equal\n")
    assert run(["replay", "--from-topic", "--output", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["first_difference"]["place"] == "1:7:0"
    assert [part["equal"] for part in answer["partitions"]] == [1, 8]


@pytest.mark.parametrize(
    ("first", "line"),
    [
        (Difference("0:4:1", "risk", "row", None, "risk"), "first difference: risk 0:4:1 is not stored"),
        (
            Difference("0:4:9", "risk", "row", "risk", None),
            "first difference: risk 0:4:9 is stored, and nothing caused it",
        ),
    ],
)
def test_a_row_that_one_side_lacks(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str], first: Difference, line: str
) -> None:
    outcomes.append(Outcome(0, records=5, equal=4, different=1, first=first))
    assert run(["replay", "--from-store"]) == 1
    assert line in capsys.readouterr().out.splitlines()


def test_a_hole_is_1(outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    outcomes.append(Outcome(2, records=5, equal=5, gap=(5, 1_007)))
    assert run(["replay", "--from-store"]) == 1
    assert "partition 2 stopped: offsets 5 to 1,007 are not in the store" in capsys.readouterr().out


def test_nothing_compared_is_2(outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(0, records=5)
    outcome.other_core["0"] = 5
    outcomes.append(outcome)
    assert run(["replay", "--from-store"]) == 2
    out = capsys.readouterr().out
    assert "5 records were judged by core 0, replay is core " in out
    assert out.endswith("nothing was compared\n")
