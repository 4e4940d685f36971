"""`tradetape connect` on the real stack: many stores at once, followed, stopped, gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.forks import TABLES
from tests.integration.conftest import Tradetape
from tests.producers.tables import table
from tests.stores import Postgres, Valkey
from tests.support import eventually

from tradetape.producers.simulator import trend
from tradetape.producers.simulator.catalyst import fleet as catalyst
from tradetape.producers.simulator.quantum import fleet as quantum
from tradetape.producers.simulator.turtle import fleet as turtle
from tradetape.schemas.crashpoints import VARIABLE

pytestmark = pytest.mark.integration

STORED_SECONDS = 60.0


def connect(stack: Tradetape, *arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `tradetape connect` that knows one more kind of store, ``table``."""
    command = ("--home", str(stack.home), "connect", *arguments)
    done = stack.forks.run(TABLES, command, os.environ | env)
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, stdout + stderr
    return subprocess.CompletedProcess(done.args, code, stdout, stderr)


def config(folder: Path, *sources: dict[str, str]) -> str:
    """A tradetape.toml with ``sources``."""
    path = folder / "tradetape.toml"
    tables = ["\n".join(["[[source]]", *(f'{key} = "{value}"' for key, value in s.items())]) for s in sources]
    path.write_text("\n\n".join(tables))
    return str(path)


def are_stored(stack: Tradetape, counts: dict[str, int]) -> bool:
    """Every source of ``counts`` has that many accepted events, in the order of its positions, each once."""
    names = ", ".join(f"'{name}'" for name in counts)
    rows = stack.sql(
        "SELECT source_id, groupArray(toString(source_position)) AS positions FROM ("
        f"SELECT * FROM tradetape.events WHERE source_id IN ({names}) AND source_position IS NOT NULL "
        "ORDER BY raw_partition, raw_offset) GROUP BY source_id"
    )
    found = {row["source_id"]: [int(position) for position in row["positions"]] for row in rows}
    return found == {name: list(range(1, count + 1)) for name, count in counts.items() if count}


def wait_stored(stack: Tradetape, counts: dict[str, int]) -> None:
    eventually(lambda: are_stored(stack, counts), STORED_SECONDS, f"all of {counts}")


def status(stack: Tradetape, name: str) -> dict[str, Any]:
    sources = json.loads(stack.run("connect", "--status", "--output", "json").stdout)
    found: dict[str, Any] = next((source for source in sources if source["name"] == name), {})
    return found


@pytest.mark.req("S1-11", "P-06")
def test_all_sources_of_a_file_are_taken_in_once_and_gone_on_with(stack: Tradetape, tmp_path: Path) -> None:
    names = [f"many-{number:02}" for number in range(40)]
    paths = [table(tmp_path / f"{name}.db", 10 * number) for number, name in enumerate(names)]
    file = config(tmp_path, *({"kind": "table", "location": path.name} for path in paths))
    first = connect(stack, "--config", file, "--once")
    assert "many-39: 391 events sent (391 order_status) [source many-39]" in first.stdout.splitlines()
    assert "many-00: no events [source many-00]" in first.stdout.splitlines()

    for path in paths:
        table(path, 5, first=False)
    connect(stack, "--config", file, "--once")
    again = connect(stack, "--config", file, "--once")
    assert again.stdout.count("nothing new") == len(paths)
    wait_stored(stack, {name: 10 * number + 5 for number, name in enumerate(names)})


def test_one_that_fails_is_told_and_the_others_are_taken_in(stack: Tradetape, tmp_path: Path) -> None:
    good = table(tmp_path / "beside-a-bad-one.db", 3)
    file = config(
        tmp_path,
        {"kind": "table", "location": "bad.db"},
        {"kind": "table", "location": good.name},
    )
    done = connect(stack, "--config", file, "--once", code=1)
    assert "bad cannot be read (no such table: records)" in done.stderr
    assert "tradetape: 1 of 2 sources failed; run the same again: it resumes" in done.stderr
    assert "Traceback" not in done.stderr
    wait_stored(stack, {"beside-a-bad-one": 3})


@pytest.mark.req("P-06")
def test_a_followed_store_is_stored_as_it_grows_reports_its_lag_and_stops_when_told(
    stack: Tradetape, tmp_path: Path
) -> None:
    path = table(tmp_path / "followed.db", 10)
    command = ("--home", str(stack.home), "connect", "table", str(path), "--interval", "0.1")
    following = stack.forks.start(TABLES, command, os.environ, tmp_path / "log")
    try:
        wait_stored(stack, {"followed": 10})
        table(path, 2500, first=False)
        wait_stored(stack, {"followed": 2510})
        second = connect(stack, "table", str(path), "--once", code=1)
        assert "is taken in by another `tradetape connect`" in second.stderr

        def following_since() -> bool:
            told = status(stack, "followed")
            return (told["source_id"], told["state"]) == ("followed", "following")

        eventually(following_since, 30, "a report of the first")
        following.terminate()
        assert following.wait(30) == 0
    finally:
        following.kill()
    told = status(stack, "followed")
    assert (told["state"], told["events"], told["last_error"]) == ("stopped", 2510, "")
    text = (tmp_path / "log").read_text()
    assert "followed: 2,510 events sent (2,510 order_status) [source followed]" in text
    table(path, 1, first=False)
    assert "followed: 2 events sent" in connect(stack, "table", str(path), "--once").stdout  # it, and the end
    wait_stored(stack, {"followed": 2511})


POINTS = ("polled", "sent", "acknowledged", "saved")


@pytest.mark.crash
@pytest.mark.req("P-06", "P-03")
def test_a_kill_at_any_step_loses_and_doubles_nothing(stack: Tradetape, tmp_path: Path) -> None:
    names = [f"killed-{number}" for number in range(3)]
    paths = [table(tmp_path / f"{name}.db", 1000 + number) for number, name in enumerate(names)]
    file = config(tmp_path, *({"kind": "table", "location": path.name} for path in paths))
    for number, point in enumerate(POINTS):
        at = {VARIABLE: f"connect.{point}:{1 + 2 * (number % 3)}"}
        connect(stack, "--config", file, "--once", code=-signal.SIGKILL, **at)
    connect(stack, "--config", file, "--once")
    wait_stored(stack, {name: 1000 + number for number, name in enumerate(names)})

    def is_complete() -> bool:
        rows = stack.rows("completeness")
        return [(row["missing"], row["holes"], row["doubles"]) for row in rows] == [(0, 0, 0)] * len(rows)

    eventually(is_complete, STORED_SECONDS, "every offset is stored once")


@pytest.mark.req("S3-10")
def test_several_kinds_of_real_stores_in_one_process(
    stack: Tradetape, tmp_path: Path, postgres: Postgres, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, redis = postgres.database(), valkey.database()
    turtle.simulate(database, bots=1, steps=20, seed=5)
    quantum.simulate(redis, bots=1, steps=3, seed=5)
    (alerts,) = catalyst.simulate(tmp_path / "catalyst", bots=1, steps=3, seed=5).files
    (ledger,) = trend.simulate(tmp_path / "trend", bots=1, steps=3, seed=5).files
    monkeypatch.setenv("TURTLE_STORE", turtle.bot_location(database, 1))
    monkeypatch.setenv("QUANTUM_STORE", quantum.bot_location(redis, 1))
    file = config(
        tmp_path,
        {"kind": "turtle", "location": "${TURTLE_STORE}", "instance": "mixed-turtle"},
        {"kind": "quantum", "location": "${QUANTUM_STORE}", "instance": "mixed-quantum"},
        {"kind": "catalyst", "location": str(alerts.relative_to(tmp_path)), "instance": "mixed-catalyst"},
        {"kind": "trend", "location": str(ledger.relative_to(tmp_path)), "instance": "mixed-trend"},
    )
    first = connect(stack, "--config", file, "--once")
    sent = {line.partition(":")[0]: int(line.split()[1].replace(",", "")) for line in first.stdout.splitlines()}
    assert sent.keys() == {"mixed-turtle", "mixed-quantum", "mixed-catalyst", "mixed-trend"}
    assert all(sent.values())
    assert postgres.password not in first.stdout + first.stderr
    assert connect(stack, "--config", file, "--once").stdout.count("nothing new") == 4

    def counted() -> dict[str, int]:
        rows = stack.sql(
            "SELECT instance_name, count() AS n FROM (SELECT instance_name, derived_seq FROM tradetape.events "
            "UNION ALL SELECT instance_name, derived_seq FROM tradetape.quarantine) "
            "WHERE startsWith(instance_name, 'mixed-') AND derived_seq = 0 "
            "GROUP BY instance_name"
        )
        return {row["instance_name"]: int(row["n"]) for row in rows}

    eventually(lambda: counted() == sent, STORED_SECONDS, f"all of {sent}")
    secrets = stack.sql(
        "SELECT count() AS n FROM tradetape.quarantine "
        f"WHERE position(raw, '{postgres.password}') > 0 OR position(raw, '{valkey.password}') > 0"
    )
    assert secrets == [{"n": 0}]
