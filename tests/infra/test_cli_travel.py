"""`state`, `verify`, `what-if` and `replay --step` on the command line: what cannot run, and what people are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tradetape.infra.cli import state, step, verify
from tradetape.infra.cli.main import run
from tradetape.infra.verification import Verdict
from tradetape.sinks import steps, travel
from tradetape.sinks.portfolio_check import Checked
from tradetape.sinks.replay import Difference, Outcome
from tradetape.sinks.travel import When


@pytest.mark.parametrize(
    "arguments",
    [
        ["state", "instance", "bot1"],
        ["state", "order", "o1"],
        ["snapshot"],
        ["replay", "--step", "o1"],
        ["verify"],
    ],
)
def test_without_a_stack_they_say_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run([*arguments, "--home", str(tmp_path / "h")]) == (2 if arguments == ["verify"] else 1)
    assert "start it with `tradetape up`" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["yesterday", "2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00"])
def test_a_time_is_utc(capsys: pytest.CaptureFixture[str], said: str) -> None:
    assert run(["state", "instance", "bot1", "--at", said]) == 2
    assert "for example 2026-01-31T00:00:00Z" in capsys.readouterr().err


def test_a_timeline_needs_its_pair(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["state", "position", "bot1", "--timeline"]) == 1
    assert "state position bot1 BASE-QUOTE" in capsys.readouterr().err


@pytest.mark.req("N-05", "S1-06")
def test_state_asks_for_both_times_and_shows_every_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def answer(_store: Any, _schemas: Any, name: str, when: When, **narrowed: Any) -> dict[str, Any]:
        asked.append((name, when, narrowed))
        return {"found": [{"figures": [{"net_base": "1.5"}], "kills": [], "trading_state": None}]}

    monkeypatch.setattr(state, "open_record", lambda _: (None, None))
    monkeypatch.setattr(travel, "instance_at", answer)
    times = ["--at", "2026-01-01T00:00:00Z", "--known-at", "2026-01-02T00:00:00Z"]
    assert run(["state", "instance", "bot1", "--account", "", "--no-snapshots", *times]) == 0
    assert asked == [
        ("bot1", When(1_767_225_600_000_000, 1_767_312_000_000_000, False), {"environment": "", "account": ""})
    ]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:]] == [["figures[0].net_base", "1.5"], ["kills", "[]"], ["trading_state"]]
    assert run(["state", "instance", "bot1", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"][0]["figures"] == [{"net_base": "1.5"}]
    assert asked[1][1] == travel.NOW


@pytest.mark.req("S1-08")
def test_steps_are_lines_safe_for_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {
        **{"ts_utc": "t1", "ingest_ts_utc": "t2", "event_type": "order_filled", "event_id": "e1\x1b[31m"},
        **{"instance_name": "bot1", "trading_pair": "", "order_id": "o1", "raw_partition": 1, "raw_offset": 7},
        **{"disposition": "accepted", "link": "asserted", "findings": ["overfill opened"]},
        "changes": [{"field": "figures.net_base", "before": None, "after": "2"}],
    }

    def walk(*_: Any) -> tuple[str, Iterator[dict[str, Any]]]:
        return "order", iter([document, {**document, "findings": [], "changes": []}])

    monkeypatch.setattr(step, "open_record", lambda _: (None, None))
    monkeypatch.setattr(steps, "walk", walk)
    assert run(["replay", "--step", "o1"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.splitlines()[:5] == [
        "order o1",
        "t1  order_filled  bot1 o1",
        "  1:7  e1�[31m  accepted  asserted",
        "  ! overfill opened",
        f"  {'figures.net_base':<32} – → 2",
    ]
    assert out.endswith("  changes nothing\n")
    assert run(["replay", "--step", "o1", "--output", "json"]) == 0
    assert [json.loads(line)["raw_offset"] for line in capsys.readouterr().out.splitlines()] == [7, 7]


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Verdict:
    """What is found, in place of a stack."""
    found = Verdict([Outcome(0, records=10, equal=12, seconds=0.5)], Checked(books=2, equal=5), snapshots=1)
    monkeypatch.setattr(verify, "_run", lambda *_: found)
    return found


@pytest.mark.req("P-06")
def test_verified_is_0(verdict: Verdict, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-3:] == [
        "portfolios: 2 books, 5 figures equal, 0 different",
        "1 snapshots are what the fold comes to",
        "OK: everything that is stored follows from the stored bytes",
    ]
    assert verdict.equal == 18


@pytest.mark.req("P-06")
@pytest.mark.parametrize("where", ["rows", "others", "portfolios", "gap"])
def test_whatever_differs_is_1_and_named(verdict: Verdict, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = Difference("0:4:1", "risk", "net_base", "1", "2")
    if where == "rows":
        verdict.outcomes[0].first, verdict.outcomes[0].different = first, 1
    elif where == "others":
        verdict.others.append(first)
    elif where == "portfolios":
        verdict.portfolios = Checked(books=1, different=1, first=first)
    else:
        verdict.outcomes[0].gap, verdict.portfolios = (5, 7), None
    assert run(["verify"]) == 1
    out = capsys.readouterr().out
    assert out.endswith("NOT OK\n")
    assert ("offsets 5 to 7" if where == "gap" else "differs: risk 0:4:1 net_base: stored 1, replayed 2") in out
    assert run(["verify", "--output", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [each["place"] for each in answer["differences"]] == ([] if where == "gap" else ["0:4:1"])


def test_nothing_compared_is_2(verdict: Verdict, capsys: pytest.CaptureFixture[str]) -> None:
    verdict.outcomes[0].equal, verdict.portfolios, verdict.snapshots = 0, None, 0
    assert run(["verify"]) == 2
    assert capsys.readouterr().out.endswith("nothing could be compared\n")
