"""``tradetape connect`` up to the point where a stack is needed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tradetape.infra.cli.main import run
from tradetape.infra.connect_status import Reports
from tradetape.producers.connectors.source import Lag
from tradetape.producers.connectors.taken import FOLLOWING, Status


@pytest.fixture(autouse=True)
def no_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BOOTSTRAP_SERVERS", "REGISTRY_URL", "CLICKHOUSE_URL"):
        monkeypatch.delenv(f"TRADETAPE_{name}", raising=False)
    monkeypatch.setenv("TRADETAPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["turtle"], "give KIND and LOCATION, or --config FILE"),
        (["turtle", "x", "--config", "t.toml"], "give KIND and LOCATION, or --config FILE"),
        (["--instance", "a", "--legacy"], "--instance and --legacy are of one source"),
        (["turtel", "x"], "'turtel' is not known; did you mean turtle?"),
        (["turtle", ""], "location: is empty"),
        (["trend", "x", "--environment", "prod"], "environment: 'prod' is not known"),
    ],
)
def test_a_wrong_call_says_what_is_right(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--config", "fleet.toml"]])
def test_a_missing_file_says_what_to_write(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"tradetape: {'fleet.toml' if arguments else 'tradetape.toml'} does not exist; ")
    assert said.count("\n") == 1


def test_a_secret_that_is_not_set_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "turtle", "postgresql://u:${NO_SUCH_SECRET}@h/d"]) == 1
    assert "the environment variable NO_SUCH_SECRET is not set" in capsys.readouterr().err


def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "trend", "x", "--once"]) == 1
    assert "tradetape up" in capsys.readouterr().err


def test_status_shows_every_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "--status"]) == 0
    assert "no source was connected" in capsys.readouterr().out
    Reports(tmp_path / "home", lambda _: None)([Status("turtle-1", "id-1", FOLLOWING, 1234, Lag(5, 0.5), "")])
    assert run(["connect", "--status"]) == 0
    table = capsys.readouterr().out
    assert all(part in table for part in ("turtle-1", "following", "1,234", "5", "0.5"))
    assert run(["connect", "--status", "--output", "json"]) == 0
    (source,) = json.loads(capsys.readouterr().out)
    assert (source["source_id"], source["lag_records"], source["pid"]) == ("id-1", 5, os.getpid())
