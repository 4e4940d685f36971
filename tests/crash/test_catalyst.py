"""The reader of a Catalyst store killed with −9 again and again: in the end the record is that of one reading.

Costs about 25 s beside the stack that all crash tests share.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.crash.pipeline import KILLED, Pipeline, random_moment
from tests.support import eventually

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.catalyst.source import open_source
from tradetape.producers.simulator.catalyst.fleet import simulate
from tradetape.schemas.crashpoints import VARIABLE
from tradetape.schemas.instruments import Instruments

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "S1-11")]

SEEDS = 20
BATCH = 15
SOURCE = "catalyst-crash"
POINTS = ("catalyst.polled", "catalyst.state", "catalyst.acknowledged")
STORED_SECONDS = 60.0
LONGEST = 0.15
"""Seconds until a kill at a random moment: a reader takes what is there in about as long."""

READER = f"""
import sys
from pathlib import Path
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.catalyst import source as catalyst
from tradetape.producers.emitter import Emitter
from tradetape.schemas.instruments import Instruments

kafka, registry, path, folder, follow = sys.argv[1:]
checkpoints = Checkpoints(Path(folder))
origin = Origin("{SOURCE}", "catalyst_crash", "alpaca", "catalyst", instruments=Instruments(quote="USD"))
with Emitter(kafka, registry) as emitter:
    print("open", flush=True)
    source = catalyst.open_source(path, origin, checkpoints.load("{SOURCE}"))
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


def test_a_reader_killed_again_and_again_records_every_row_once(pipeline: Pipeline, tmp_path: Path) -> None:
    store, folder = tmp_path / "bots", tmp_path / "checkpoints"
    (path,) = simulate(store, bots=1, steps=2, seed=0, defects=["malformed", "orphaned"]).files
    died = []
    for seed in range(1, SEEDS + 1):
        simulate(store, bots=1, steps=4, seed=seed)
        if seed % 5 == 0:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("VACUUM")
        died.append(kill_once(pipeline, path, folder, random.Random(seed)))
    last = reader(pipeline, path, folder, follow=False)
    _, stderr = last.communicate(timeout=60)
    assert last.returncode == 0, stderr
    print(f"died at {died}")
    assert {place.partition(":")[0] for place in died} == {*POINTS, ""}

    origin = Origin(SOURCE, "catalyst_crash", "alpaca", "catalyst", instruments=Instruments(quote="USD"))
    undisturbed = [event for event in open_source(str(path), origin, None).poll(100_000) if event["source_position"]]
    with closing(sqlite3.connect(path)) as connection:
        native = connection.execute("SELECT rowid, event_id FROM event_log ORDER BY rowid").fetchall()
    assert [(event["source_position"], event["event_id"]) for event in undisturbed] == native

    def ended() -> bool:
        sql = f"SELECT count() FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'source_ended'"
        return int(pipeline.store.query(sql)[0][0]) == 1

    eventually(ended, STORED_SECONDS, "the end of the store is stored")
    found = pipeline.store.query(
        "SELECT toString(source_position), toString(event_id), event_type, aggregate_id, payload FROM tradetape.events "
        f"WHERE source_id = '{SOURCE}' AND source_stream = 'event_log' ORDER BY raw_partition, raw_offset"
    )
    wanted = [event for event in undisturbed if event["event_type"] != "unmapped_record"]
    assert [(int(row[0]), *row[1:4]) for row in found] == [
        (event["source_position"], event["event_id"], event["event_type"], event["aggregate_id"]) for event in wanted
    ]
    kept = pipeline.store.query(
        "SELECT disposition, reasons, toString(source_position) FROM tradetape.quarantine "
        f"WHERE source_id = '{SOURCE}' ORDER BY raw_partition, raw_offset"
    )
    rejected = [int(row[2]) for row in kept if row[0] == "rejected"]
    assert rejected == [e["source_position"] for e in undisturbed if e["event_type"] == "unmapped_record"]
    assert {(row[0], tuple(row[1])) for row in kept} <= {("rejected", ("unmapped",)), ("duplicate", ("repeated",))}
    versions = pipeline.store.query(
        f"SELECT toString(event_id) FROM tradetape.events WHERE source_id = '{SOURCE}' "
        "AND event_type = 'entity_snapshot'"
    )
    assert len(set(versions)) == len(versions) >= 1
    (end,) = pipeline.store.query(
        f"SELECT payload FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'source_ended'"
    )
    assert json.loads(end[0])["rows"]["event_log"] == len(native)
