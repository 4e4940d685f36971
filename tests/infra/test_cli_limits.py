"""`tradetape limits` and `tradetape kill` on the command line: what is refused, and what a person is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradetape.infra import settings
from tradetape.infra.cli import limits
from tradetape.infra.cli.main import run
from tradetape.sinks import queries
from tradetape.sinks.store import StoreUnavailable

pytestmark = pytest.mark.req("S4-06")

GOOD = '[[limit]]\nname = "orders"\nfigure = "open_orders"\nat_most = "2"\n'
BAD = {
    "a float": (GOOD.replace('"2"', "2.5"), "tradetape: limits: limit[0].at_most is a float (2.5); write it in quotes"),
    "no TOML": ("[[limit", "is no TOML"),
    "an unknown figure": (
        GOOD.replace("open_orders", "luck"),
        "limit 'orders': 'luck' is no figure; one of",
    ),
    "an unknown table": ("[[limits]]\n", "unknown field `limits`"),
    "an unknown environment": (f'{GOOD}environment = "prod"\n', "'prod'"),
    "a number out of reach": (GOOD.replace('"2"', '"1e30"'), "a figure can reach"),
    "a pair of a figure without": (f'{GOOD}trading_pair = "BTC-*"\n', "leave trading_pair out"),
    "no time": ("silent_after_seconds = -1\n", "silent_after_seconds is -1"),
    "the portfolio of all": ("[portfolio.all]\n", "is there already"),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home without a stack: a command that asks for one fails, and says so."""
    return tmp_path / "home"


def written(folder: Path, text: str) -> str:
    path = folder / "limits.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_good_file_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["limits", "check", written(tmp_path, GOOD)]) == 0
    assert capsys.readouterr().out == "1 limits\n"


@pytest.mark.parametrize("why", BAD)
def test_a_bad_file_is_one_line_and_changes_nothing(
    why: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, told = BAD[why]
    file = written(tmp_path, text)
    for command in (["check", file], ["set", file, "--by", "ann", "--home", str(home)]):
        assert run(["limits", *command]) == 1
        err = capsys.readouterr().err
        assert told in err
        assert err.startswith("tradetape: ")
        assert err.count("\n") == 1


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["limits", "check", str(tmp_path / "none.toml")]) == 1
    assert capsys.readouterr().err.endswith("(No such file or directory); give a TOML file of limits\n")


def test_without_a_stack_it_says_how_to_start_one(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, GOOD)
    for command in (["limits", "set", file, "--by", "ann"], ["kill", "order", "--by", "ann", "--reason", "drill"]):
        assert run([*command, "--home", str(home)]) != 0
        assert "tradetape up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["kill", "order", "--by", "ann"], "--reason"),
        (["kill", "order", "--reason", "drill"], "--by"),
        (["kill", "order", "--by", " ", "--reason", "drill"], "it is blank"),
        (["kill", "order", "--by", "ann", "--reason", "drill", "--environment", "prod"], "'prod' is not one of"),
        (["kill", "reset", "0b0f3a52-0000-4000-8000-000000000009", "--by", "ann", "--reason", ""], "it is blank"),
    ],
    ids=["no reason", "nobody", "a blank name", "an unknown environment", "a blank reason"],
)
def test_an_order_without_who_and_why_is_none(
    command: list[str], told: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--home", str(home)]) == 2
    assert told in capsys.readouterr().err


@pytest.fixture
def reset(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the kills that were reset, on a stack whose store knows one kill."""
    sent: list[str] = []
    for name in settings.ADDRESSES.values():
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setattr(limits, "STORED_SECONDS", 0)
    monkeypatch.setattr(limits, "LOOK_SECONDS", 0)
    monkeypatch.setattr(queries, "rows", lambda *_: [{"kill_id": "run-7:kill"}, {"kill_id": "other"}])
    monkeypatch.setattr(limits, "_broadcast", lambda _, copies: sent.append(copies(1)[0]["payload"]["kill_id"]))
    return sent


RESET = ["kill", "reset", "run-7:kill", "--by", "ann", "--reason", "checked"]


def test_a_kill_is_reset_by_whatever_id_it_has(
    reset: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*RESET, "--home", str(home)]) == 0
    assert reset == ["run-7:kill"]
    assert capsys.readouterr().out == "kill run-7:kill is reset\n"


def test_a_kill_that_is_not_on_record_is_not_reset(
    reset: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*RESET, "--home", str(home)]
    command[2] = "run-7"
    assert run(command) == 1
    assert reset == []
    assert capsys.readouterr().err == "tradetape: no kill 'run-7' is on record; `tradetape query kills` lists them\n"


def test_a_store_that_is_away_holds_up_no_reset(
    reset: list[str], home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> list[bytes]:
        raise StoreUnavailable("ClickHouse does not answer")

    monkeypatch.setattr(queries, "rows", away)
    assert run([*RESET, "--home", str(home)]) == 0
    assert reset == ["run-7:kill"]
    assert "cannot be looked up: ClickHouse does not answer" in capsys.readouterr().err


def test_a_kill_that_was_just_ordered_is_waited_for(
    reset: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([[], [], [{"kill_id": "run-7:kill"}]])
    monkeypatch.setattr(limits, "STORED_SECONDS", 60)
    monkeypatch.setattr(queries, "rows", lambda *_: next(answers))
    assert run([*RESET, "--home", str(home)]) == 0
    assert reset == ["run-7:kill"]
