"""A followed store while Kafka is killed under it: nothing is lost, doubled or out of order, and nobody has to help."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash.pipeline import Pipeline
from tests.forks import TABLES
from tests.producers.tables import table
from tests.support import eventually

from tradetape.sinks.store import QueryRefused

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "P-03")]

NAME = "connected"
STORED_SECONDS = 90.0


def stored(pipeline: Pipeline) -> list[int]:
    """The positions of the accepted events, in the order of Kafka; none while there is no table yet."""
    try:
        rows = pipeline.store.query(
            f"SELECT source_position FROM tradetape.events WHERE source_id = '{NAME}' AND source_position IS NOT NULL "
            "ORDER BY raw_partition, raw_offset"
        )
    except QueryRefused:
        return []
    return [int(position) for (position,) in rows]


def test_kafka_killed_under_a_connector(pipeline: Pipeline, tmp_path: Path) -> None:
    path = table(tmp_path / f"{NAME}.db", 500)
    log = tmp_path / "log"
    command = ("--home", str(pipeline.home), "connect", "table", str(path), "--interval", "0.05")
    process = pipeline.forks.start(TABLES, command, pipeline.env, log)
    try:
        total = 500
        eventually(lambda: len(stored(pipeline)) == total, STORED_SECONDS, "what was there")
        for _ in range(2):
            table(path, 1000, first=False)
            pipeline.kill_server("kafka")
            table(path, 1000, first=False)
            total += 2000
            pipeline.wait_healthy()
        eventually(lambda: len(stored(pipeline)) >= total, STORED_SECONDS, f"what came, see {log}")
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert stored(pipeline) == list(range(1, total + 1))
