"""The reader of a Trend ledger killed with −9 again and again while the ledger is written, rotated and truncated.

Costs about 25 s beside the stack that all crash tests share.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.crash.pipeline import KILLED, Pipeline, random_moment
from tests.support import eventually

from tradetape.producers.simulator.trend import simulate
from tradetape.schemas.crashpoints import VARIABLE

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "S2-02")]

SEEDS = 20
BATCH = 15
SOURCE = "trend-crash"
POINTS = ("connect.polled", "connect.sent", "connect.acknowledged", "connect.saved")
STORED_SECONDS = 60.0
LONGEST = 0.15
"""Seconds until a kill at a random moment: a reader takes what is there in about as long."""

READER = f"""
import sys
from pathlib import Path
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.trend import source as trend
from tradetape.producers.emitter import Emitter

kafka, registry, path, folder, follow = sys.argv[1:]
checkpoints = Checkpoints(Path(folder))
origin = Origin("{SOURCE}", "trend_crash", "binance", "trend")
with Emitter(kafka, registry) as emitter:
    print("open", flush=True)
    source = trend.open_source(path, origin, checkpoints.load("{SOURCE}"))
    runner.run(source, emitter, checkpoints, follow=bool(follow), batch={BATCH}, interval=0.01)
"""


def reader(pipeline: Pipeline, path: Path, folder: Path, *, point: str = "", follow: bool) -> subprocess.Popen[str]:
    env = {**pipeline.env, VARIABLE: point} if point else pipeline.env
    kafka, registry = pipeline.env["TRADETAPE_BOOTSTRAP_SERVERS"], pipeline.env["TRADETAPE_REGISTRY_URL"]
    arguments = [sys.executable, "-c", READER, kafka, registry, str(path), str(folder), "yes" if follow else ""]
    return subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_once(pipeline: Pipeline, path: Path, folder: Path, rng: random.Random) -> str:
    """One reader that dies; returns where."""
    point = rng.choice((*POINTS, ""))
    at = f"{point}:{rng.randint(1, 3)}" if point else ""
    process = reader(pipeline, path, folder, point=at, follow=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n", process.communicate()[1]
        if point:
            process.wait(30)
        else:
            random_moment(rng, LONGEST)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        _, stderr = process.communicate()
    assert process.returncode == KILLED, stderr
    return at


def rotate(path: Path, seed: int) -> None:
    """The ledger moves on to a new file: renamed, or copied and truncated."""
    for age in range(SEEDS, 0, -1):
        older = path.with_name(f"{path.name}.{age}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{age + 1}"))
    if seed % 2:
        path.rename(path.with_name(f"{path.name}.1"))
    else:
        shutil.copy(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)


def test_a_reader_killed_again_and_again_records_every_line_once(pipeline: Pipeline, tmp_path: Path) -> None:
    store, folder = tmp_path / "bots", tmp_path / "checkpoints"
    (path,) = simulate(store, bots=1, steps=2, seed=0, defects=["malformed", "doubled"]).files
    died = []
    for seed in range(1, SEEDS + 1):
        if seed % 4 == 0:
            rotate(path, seed // 4)
        simulate(store, bots=1, steps=3, seed=seed)
        died.append(kill_once(pipeline, path, folder, random.Random(seed)))
    last = reader(pipeline, path, folder, follow=False)
    _, stderr = last.communicate(timeout=60)
    assert last.returncode == 0, stderr
    print(f"died at {died}")
    assert {place.partition(":")[0] for place in died} == {*POINTS, ""}

    files = [path.with_name(f"{path.name}.{age}") for age in range(SEEDS, 0, -1)] + [path]
    lines = [line for file in files if file.exists() for line in file.read_bytes().splitlines()]
    native = [_numbered(line) for line in lines]

    def is_ended() -> bool:
        sql = f"SELECT count() FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'source_ended'"
        return int(pipeline.store.query(sql)[0][0]) == 1

    eventually(is_ended, STORED_SECONDS, "the end of the ledger is stored")
    places = "source_stream, toString(source_position)"
    stored = pipeline.store.query(
        f"SELECT * FROM (SELECT raw_offset, toString(event_id), toString(sequence), {places} FROM tradetape.events "
        f"WHERE source_id = '{SOURCE}' AND source_position IS NOT NULL UNION ALL "
        f"SELECT raw_offset, '', '', {places} FROM tradetape.quarantine "
        f"WHERE source_id = '{SOURCE}' AND disposition = 'rejected') ORDER BY raw_offset"
    )
    assert [(str(row[1]), str(row[2])) for row in stored] == native
    assert len({tuple(row[3:]) for row in stored}) == len(native)
    repeats = pipeline.store.query(
        "SELECT DISTINCT disposition, reasons FROM tradetape.quarantine "
        f"WHERE source_id = '{SOURCE}' AND disposition != 'rejected'"
    )
    assert {(row[0], tuple(row[1])) for row in repeats} <= {("duplicate", ("repeated",))}
    (end,) = pipeline.store.query(
        f"SELECT payload FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'source_ended'"
    )
    assert json.loads(end[0])["rows"] == {"events.jsonl": len(lines)}


def _numbered(line: bytes) -> tuple[str, str]:
    """Id and number of a line, empty where it is broken."""
    try:
        record = json.loads(line)
    except ValueError:
        return ("", "")
    return (record["event_id"], str(record["sequence_num"]))
