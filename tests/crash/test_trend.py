"""The reader of a Trend ledger killed with −9 again and again while the ledger is written, rotated and truncated.

Costs about 25 s beside the stack that all crash tests share.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.crash.pipeline import Pipeline
from tests.crash.reader import RUNNER_POINTS, SEEDS, Reader
from tests.support import eventually

from tradetape.producers.simulator.trend import simulate

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "S2-02")]

SOURCE = "trend-crash"
STORED_SECONDS = 60.0


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
    store = tmp_path / "bots"
    (path,) = simulate(store, bots=1, steps=2, seed=0, defects=["malformed", "doubled"]).files
    reader = Reader(pipeline, "trend.source", SOURCE, str(path), tmp_path / "checkpoints")
    died = []
    for seed in range(1, SEEDS + 1):
        if seed % 4 == 0:
            rotate(path, seed // 4)
        simulate(store, bots=1, steps=3, seed=seed)
        died.append(reader.kill_once(seed))
    reader.read_to_the_end()
    print(f"died at {died}")
    assert set(died) == {*RUNNER_POINTS, ""}

    files = [path.with_name(f"{path.name}.{age}") for age in range(SEEDS, 0, -1)] + [path]
    lines = [line for file in files if file.exists() for line in file.read_bytes().splitlines()]
    native = [_numbered(line) for line in lines]

    eventually(lambda: len(reader.ends()) == 1, STORED_SECONDS, "the end of the ledger is stored")
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
    (end,) = reader.ends()
    assert json.loads(end)["rows"] == {"events.jsonl": len(lines)}


def _numbered(line: bytes) -> tuple[str, str]:
    """Id and number of a line, empty where it is broken."""
    try:
        record = json.loads(line)
    except ValueError:
        return ("", "")
    return (record["event_id"], str(record["sequence_num"]))
