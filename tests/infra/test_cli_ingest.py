"""``tradetape ingest`` up to the point where a stack is needed, and what it says afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradetape.infra.cli.ingest import describe
from tradetape.infra.cli.main import run
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.simulator import simulate_hummingbot


@pytest.fixture(autouse=True)
def no_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BOOTSTRAP_SERVERS", "REGISTRY_URL", "CLICKHOUSE_URL"):
        monkeypatch.delenv(f"TRADETAPE_{name}", raising=False)
    monkeypatch.setenv("TRADETAPE_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("kind", ["hummingbot", "envelope"])
def test_a_missing_file_is_one_line_and_an_exit_code(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest", kind, "nothing-here"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("tradetape: nothing-here does not exist; ")
    assert said.count("\n") == 1


def test_all_files_are_checked_before_the_first_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (good,) = simulate_hummingbot(tmp_path, bots=1, orders_per_bot=1, seed=1).files
    (tmp_path / "text").write_text("no database, but text")
    assert run(["ingest", "hummingbot", str(good), str(tmp_path / "text")]) == 1
    assert "is not an SQLite database" in capsys.readouterr().err


def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (good,) = simulate_hummingbot(tmp_path, bots=1, orders_per_bot=1, seed=1).files
    assert run(["ingest", "hummingbot", str(good)]) == 1
    assert "tradetape up" in capsys.readouterr().err
    assert run(["schemas", "check"]) == 1
    assert "tradetape up" in capsys.readouterr().err


def test_one_source_id_is_for_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest", "envelope", "a", "b", "--source-id", "x"]) != 0
    assert "give one FILE" in capsys.readouterr().err


def test_the_summary_is_one_line() -> None:
    summary = Summary("f", "s", rows={"lines": 1200}, events={"order_created": 1100}, skipped=5)
    summary.rejected = {"not_json": 100}
    assert describe(summary) == (
        "f: 1,100 events sent (1,100 order_created) from 1,200 lines; 5 taken in before;"
        " rejected by the contract: 100 not_json [source s]"
    )
    again = Summary("f", "s", rows={"lines": 1200}, already_ingested=True, incomplete=True, notes=["n"])
    assert describe(again).splitlines() == [
        "f: nothing new (1,200 lines); the last line is incomplete and is read again when it is whole [source s]",
        "  note: n",
    ]
