"""The reader of a Catalyst store killed with −9 again and again: in the end the record is that of one reading.

Costs about 25 s beside the stack that all crash tests share.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.crash.pipeline import Pipeline
from tests.crash.reader import SEEDS, Reader, origin
from tests.support import eventually

from tradetape.producers.connectors.catalyst.source import open_source
from tradetape.producers.simulator.catalyst.fleet import simulate

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "S1-11")]

SOURCE = "catalyst-crash"
POINTS = ("catalyst.polled", "catalyst.state", "catalyst.acknowledged")
STORED_SECONDS = 60.0


def test_a_reader_killed_again_and_again_records_every_row_once(pipeline: Pipeline, tmp_path: Path) -> None:
    store = tmp_path / "bots"
    (path,) = simulate(store, bots=1, steps=2, seed=0, defects=["malformed", "orphaned"]).files
    reader = Reader(pipeline, "catalyst.source", SOURCE, str(path), tmp_path / "checkpoints", POINTS, quote="USD")
    died = []
    for seed in range(1, SEEDS + 1):
        simulate(store, bots=1, steps=4, seed=seed)
        if seed % 5 == 0:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("VACUUM")
        died.append(reader.kill_once(seed))
    reader.read_to_the_end()
    print(f"died at {died}")
    assert set(died) == {*POINTS, ""}

    once = open_source(str(path), origin(SOURCE, "USD"), None)
    undisturbed = [event for event in once.poll(100_000) if event["source_position"]]
    with closing(sqlite3.connect(path)) as connection:
        native = connection.execute("SELECT rowid, event_id FROM event_log ORDER BY rowid").fetchall()
    assert [(event["source_position"], event["event_id"]) for event in undisturbed] == native

    eventually(lambda: len(reader.ends()) == 1, STORED_SECONDS, "the end of the store is stored")
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
    (end,) = reader.ends()
    assert json.loads(end)["rows"]["event_log"] == len(native)
