"""The reader of Quantum's streams killed with −9 again and again: in the end the record is that of one reading.

Costs about 30 s beside the stack that all crash tests share.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.crash.pipeline import KILLED, Pipeline, random_moment
from tests.producers.quantum_redis import client_of, drain, entries_in_order
from tests.stores import Valkey
from tests.support import eventually

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.quantum.source import open_source
from tradetape.producers.simulator.quantum.fleet import simulate
from tradetape.schemas.crashpoints import VARIABLE

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "S4-01")]

SEEDS = 20
BATCH = 25
SOURCE = "quantum-crash"
GROUP = f"tradetape:{SOURCE}"
POINTS = ("quantum.read", "quantum.before_acknowledge", "quantum.buried", "quantum.acknowledged")
STORED_SECONDS = 60.0
LONGEST = 0.15
"""Seconds until a kill at a random moment: a reader takes what is there in about as long."""

READER = f"""
import sys
from pathlib import Path
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.quantum import source as quantum
from tradetape.producers.emitter import Emitter

kafka, registry, location, folder, follow = sys.argv[1:]
checkpoints = Checkpoints(Path(folder))
origin = Origin("{SOURCE}", "quantum_crash", "binance", "quantum")
with Emitter(kafka, registry) as emitter:
    print("open", flush=True)
    source = quantum.open_source(location, origin, checkpoints.load("{SOURCE}"))
    runner.run(source, emitter, checkpoints, follow=bool(follow), batch={BATCH}, interval=0.01)
"""


def reader(pipeline: Pipeline, url: str, folder: Path, *, point: str = "", follow: bool) -> subprocess.Popen[str]:
    env = {**pipeline.env, VARIABLE: point} if point else pipeline.env
    kafka, registry = pipeline.env["TRADETAPE_BOOTSTRAP_SERVERS"], pipeline.env["TRADETAPE_REGISTRY_URL"]
    arguments = [sys.executable, "-c", READER, kafka, registry, url, str(folder), "yes" if follow else ""]
    return subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_once(pipeline: Pipeline, url: str, folder: Path, rng: random.Random) -> str:
    """One reader that dies; returns where."""
    point = rng.choice((*POINTS, ""))
    at = f"{point}:{rng.randint(1, 3)}" if point else ""
    process = reader(pipeline, url, folder, point=at, follow=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n", process.communicate()[1]
        if point:
            process.wait(60)
        else:
            random_moment(rng, LONGEST)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        _, stderr = process.communicate()
    assert process.returncode == KILLED, stderr
    return at


def test_a_reader_killed_again_and_again_records_every_entry_once(
    pipeline: Pipeline, valkey: Valkey, tmp_path: Path
) -> None:
    url, folder = valkey.database(), tmp_path / "checkpoints"
    simulate(url, bots=1, steps=3, seed=0, defects=["malformed", "orphaned"])
    died = []
    for seed in range(1, SEEDS + 1):
        simulate(url, bots=1, steps=2, seed=seed)
        died.append(kill_once(pipeline, url, folder, random.Random(seed)))
    last = reader(pipeline, url, folder, follow=False)
    _, stderr = last.communicate(timeout=120)
    assert last.returncode == 0, stderr
    print(f"died at {died}")
    assert {place.partition(":")[0] for place in died} == {*POINTS, ""}

    def ended() -> bool:
        sql = f"SELECT count() FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'source_ended'"
        return int(pipeline.store.query(sql)[0][0]) == 1

    eventually(ended, STORED_SECONDS, "the end of the streams is stored")
    client = client_of(url)
    streams = {name for name, _ in entries_in_order(url)}
    assert {client.xpending(name, GROUP)["pending"] for name in streams} == {0}

    undisturbed = open_source(url, Origin(SOURCE, "quantum_crash", "binance", "quantum"), None)
    wanted = drain(undisturbed)
    undisturbed.close()
    assert [(event["source_stream"], event["source_position"]) for event in wanted] == entries_in_order(url)
    columns = "source_stream, toString(source_position), event_id, event_type, raw_partition, raw_offset"
    where = f"source_id = '{SOURCE}' AND source_position IS NOT NULL"
    stored = f"SELECT {columns} FROM tradetape.events WHERE {where}"
    refused = f"SELECT {columns} FROM tradetape.quarantine WHERE {where} AND disposition = 'rejected'"
    found = [*pipeline.store.query(stored), *pipeline.store.query(refused)]
    found.sort(key=lambda row: row[4:])
    assert [(row[0], int(row[1]), str(row[2]), row[3]) for row in found] == [
        (event["source_stream"], event["source_position"], event["event_id"], event["event_type"]) for event in wanted
    ]
    (end,) = pipeline.store.query(
        f"SELECT payload FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'source_ended'"
    )
    assert json.loads(end[0])["rows"] == {name: client.xlen(name) for name in sorted(streams)}
    missing = pipeline.store.query(
        f"SELECT count() FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'system_gap'"
    )
    assert int(missing[0][0]) == 0
