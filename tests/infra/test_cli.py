"""The command line: errors in one line, exit codes, and no heavy import before it is needed."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tradetape.infra.cli.main import run, tradetape
from tradetape.infra.cli.options import home_option
from tradetape.schemas.errors import TradetapeError

HEAVY = ("rich", "psutil", "confluent_kafka", "fastavro", "faust", "chdb", "clickhouse_connect", "aiohttp", "jgo")


def fail_with(error: BaseException) -> click.Command:
    @click.command("probe")
    @home_option
    def probe(home: Path) -> None:
        raise error

    return probe


@pytest.fixture
def probe_home() -> Iterator[list[Path]]:
    seen: list[Path] = []

    @tradetape.command("probe")
    @home_option
    def probe(home: Path) -> None:
        seen.append(home)

    yield seen
    del tradetape.commands["probe"]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TradetapeError("it broke\nbadly", hint="mend it", exit_code=4), 4, "tradetape: it broke badly; mend it"),
        (KeyboardInterrupt(), 130, "tradetape: interrupted"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            1,
            "tradetape: the disk is full: cannot write /data/x; free space there",
        ),
    ],
)
def test_what_a_person_can_put_right_is_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tradetape.commands, "probe", fail_with(error))
    assert run(["probe"]) == code
    assert capsys.readouterr().err.strip() == line


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tradetape.commands, "probe", fail_with(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run(["probe"])


def test_the_home_goes_before_or_after_the_command(
    tmp_path: Path, probe_home: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADETAPE_HOME", str(tmp_path / "configured"))
    assert run(["--home", str(tmp_path / "before"), "probe"]) == 0
    assert run(["probe", "--home", str(tmp_path / "after")]) == 0
    assert run(["--home", str(tmp_path / "before"), "probe", "--home", str(tmp_path / "after")]) == 0
    assert run(["probe"]) == 0
    assert [home.name for home in probe_home] == ["before", "after", "after", "configured"]


def test_wrong_usage_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "--kafka-port", "70000", "--home", str(tmp_path / "h")]) == 2
    assert "--kafka-port" in capsys.readouterr().err
    assert not (tmp_path / "h").exists()


def test_an_unknown_component_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "--only", "zookeeper", "--home", str(tmp_path / "h")]) == 1
    assert capsys.readouterr().err.startswith("tradetape: no such component: zookeeper; choose from kafka,")
    assert not (tmp_path / "h").exists()


def test_a_home_that_cannot_be_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["up", "--home", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith(f"tradetape: cannot use {tmp_path / 'file'} as home: ")


def test_a_reader_that_stops_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tradetape.infra.cli.main", "status", "--output", "json"]
    with subprocess.Popen(
        [*command, "--home", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as shown:
        assert shown.stdout is not None
        assert shown.stderr is not None
        shown.stdout.close()
        assert shown.stderr.read() == ""
        assert shown.wait(20) == 1


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tradetape.infra.cli.main import run; run(['--help'])\n"
        f"sys.exit(','.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr.strip() == ""
    assert "Commands:" in done.stdout
