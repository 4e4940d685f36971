"""`tradetape reconcile` on the command line: what cannot run, what a person is told, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tradetape.infra import reconcile as reconciling
from tradetape.infra.cli.main import run
from tradetape.infra.reconcile import Found
from tradetape.sinks.reconciliation.compare import Outcome, Tally
from tradetape.sinks.reconciliation.differences import Acceptance, Difference

pytestmark = pytest.mark.req("S3-11", "N-03")

CHANGED = Difference(
    "changed", "s", "e1", "order_filled", "OrderStatus 7", "0:3:0", (("payload.fill_price", "1", "2\x1b[31m"),)
)


class Prepared:
    """Stands in for a reconciliation on a stack: it finds what it was given."""

    found: list[Found]

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def source(self, *_: Any) -> list[Found]:
        return self.found


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Found]:
    monkeypatch.setenv("TRADETAPE_CLICKHOUSE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TRADETAPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(reconciling, "Reconciliation", Prepared)
    prepared: list[Found] = []
    monkeypatch.setattr(Prepared, "found", prepared, raising=False)
    return prepared


def outcome(**tally: int) -> Outcome:
    made = Outcome()
    made.by_native_type["OrderFilled"] = Tally(**tally)
    made.native_events["order_filled"] = tally["native"]
    made.stored_events["order_filled"] = tally["accepted"]
    return made


def test_all_that_agrees_is_0(found: list[Found], capsys: pytest.CaptureFixture[str]) -> None:
    found.append(
        Found("source", "bot", "s", 3, notes=["3 stored rows are repeats"], outcome=outcome(native=3, accepted=3))
    )
    assert run(["reconcile", "trend", "x"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[2:] == ["native", "accepted", "duplicate", "rejected", "missing", "unexpected", "changed"]
    assert out[2].split() == ["OrderFilled", "3", "3", "0", "0", "0", "0", "0"]
    assert out[3:] == ["3 stored rows are repeats", "bot: agrees: 3 compared"]


def test_a_break_is_1_and_is_shown_with_its_places(found: list[Found], capsys: pytest.CaptureFixture[str]) -> None:
    found.append(Found("source", "bot", "s", 2, [CHANGED], outcome=outcome(native=2, accepted=1)))
    assert run(["reconcile", "trend", "x"]) == 1
    out = capsys.readouterr().out
    assert "OrderStatus 7" in out
    assert "0:3:0" in out
    assert "payload.fill_price: 1 ≠ 2�[31m" in out
    assert out.endswith("bot: BREAK: 1 differences in 2 compared\n")
    assert [line.split() for line in out.splitlines() if line.startswith("order_filled")] == [
        ["order_filled", "2", "1", "1"]
    ]
    assert run(["reconcile", "trend", "x", "--output", "json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)["reconciliations"]
    assert (report["breaks"], report["by_kind"]) == (1, {"changed": 1})
    assert report["differences"][0]["id"] == CHANGED.id
    assert report["by_event_type"] == [{"event_type": "order_filled", "native": 2, "stored": 1, "delta": 1}]


def test_what_was_accepted_is_0_and_shown_as_accepted(found: list[Found], capsys: pytest.CaptureFixture[str]) -> None:
    accepted = {CHANGED.id: Acceptance("ann", "repaired", "b1")}
    found.append(Found("source", "bot", "s", 2, [CHANGED], accepted))
    assert run(["reconcile", "trend", "x"]) == 0
    out = capsys.readouterr().out
    assert "ann: repaired" in out
    assert out.endswith("bot: agrees: 2 compared, 1 differences are accepted\n")


def test_what_could_not_be_compared_is_2_and_a_break_beside_it_1(found: list[Found], tmp_path: Path) -> None:
    found.append(Found("source", "bot", error="the file is locked; try again"))
    assert run(["reconcile", "trend", "x"]) == 2
    found.append(Found("source", "other", "s", 2, [CHANGED]))
    assert run(["reconcile", "trend", "x"]) == 1


def test_a_table_lists_some_and_says_how_many_more(found: list[Found], capsys: pytest.CaptureFixture[str]) -> None:
    found.append(Found("source", "bot", "s", 50, [CHANGED._replace(item=f"e{number}") for number in range(50)]))
    assert run(["reconcile", "trend", "x"]) == 1
    assert "… and 30 more: --output json lists all" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trend"], "give KIND and LOCATION"),
        (["trend", "x", "--accept", "why"], "--accept REASON and --by NAME go together"),
        (["trend", "x", "--accept", " ", "--by", "ann"], "it is blank"),
        (["trend", "x", "--beside", "y.csv"], "--beside is of one hummingbot database"),
        (["hummingbot", "x", "--beside", "nowhere.csv"], "--beside: nowhere.csv does not exist"),
        (["--instance", "a"], "--instance are of one source"),
        (["--parity", "a", "b", "--within", "-1"], "below 0"),
        (["nokind", "x"], "'nokind' is not known"),
    ],
)
def test_what_a_person_gets_wrong_is_2(
    arguments: list[str], message: str, found: list[Found], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reconcile", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_without_a_stack_or_a_file_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["reconcile", "--portfolios", "--home", str(tmp_path / "h")]) == 2
    assert "start it with `tradetape up`" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert run(["reconcile"]) == 2
    assert "tradetape.toml does not exist" in capsys.readouterr().err
