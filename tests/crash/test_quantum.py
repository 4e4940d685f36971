"""The reader of Quantum's streams killed with −9 again and again: in the end the record is that of one reading.

Costs about 30 s beside the stack that all crash tests share.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.crash.pipeline import Pipeline
from tests.crash.reader import SEEDS, Reader, origin
from tests.producers.quantum_redis import client_of, drain, entries_in_order
from tests.stores import Valkey
from tests.support import eventually

from tradetape.producers.connectors.quantum.source import open_source
from tradetape.producers.simulator.quantum.fleet import simulate

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "S4-01")]

BATCH = 25
SOURCE = "quantum-crash"
GROUP = f"tradetape:{SOURCE}"
POINTS = ("quantum.read", "quantum.before_acknowledge", "quantum.buried", "quantum.acknowledged")
STORED_SECONDS = 60.0


def test_a_reader_killed_again_and_again_records_every_entry_once(
    pipeline: Pipeline, valkey: Valkey, tmp_path: Path
) -> None:
    url = valkey.database()
    reader = Reader(pipeline, "quantum.source", SOURCE, url, tmp_path / "checkpoints", POINTS, batch=BATCH)
    simulate(url, bots=1, steps=3, seed=0, defects=["malformed", "orphaned"])
    died = []
    for seed in range(1, SEEDS + 1):
        simulate(url, bots=1, steps=2, seed=seed)
        died.append(reader.kill_once(seed))
    reader.read_to_the_end()
    print(f"died at {died}")
    assert set(died) == {*POINTS, ""}

    eventually(lambda: len(reader.ends()) == 1, STORED_SECONDS, "the end of the streams is stored")
    client = client_of(url)
    streams = {name for name, _ in entries_in_order(url)}
    assert {client.xpending(name, GROUP)["pending"] for name in streams} == {0}

    undisturbed = open_source(url, origin(SOURCE), None)
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
    (end,) = reader.ends()
    assert json.loads(end)["rows"] == {name: client.xlen(name) for name in sorted(streams)}
    missing = pipeline.store.query(
        f"SELECT count() FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'system_gap'"
    )
    assert int(missing[0][0]) == 0
