"""The reader of Turtle's table killed with −9 again and again while transactions commit in any order.

Costs about 30 s beside the stack that all crash tests share.
"""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import psycopg
import pytest
from tests.crash.pipeline import Pipeline
from tests.crash.reader import RUNNER_POINTS, SEEDS, Reader
from tests.producers.turtle_rows import insert, row, table
from tests.stores import Postgres
from tests.support import eventually

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "S0-01", "S0-02")]

WRITERS = 3
BATCH = 7
SOURCE = "turtle-crash"
POINTS = ("turtle.read", "turtle.finished", *RUNNER_POINTS)
STORED_SECONDS = 60.0
OLD = "2020-01-01T00:00:00+00:00"


class Writer(threading.Thread):
    """One bot's process: transactions of a few rows, some undone, some with an old time, some held open a while."""

    def __init__(self, url: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._run = f"0b0f3a52-0000-4000-8000-{number:012d}"
        self._random = random.Random(number)
        self._stop_now = stop
        self._sequence = 0

    def run(self) -> None:
        with psycopg.connect(self._url) as connection:
            while not self._stop_now.wait(self._random.random() * 0.15):
                made = [self._row(self._sequence + number) for number in range(1, self._random.randint(2, 5))]
                insert(connection, made)
                self._stop_now.wait(self._random.random() * 0.3)
                if self._random.random() < 0.2:
                    connection.rollback()
                    continue
                connection.commit()
                self._sequence += len(made)

    def _row(self, sequence: int) -> dict[str, object]:
        made = row("position_checked", "hold", run_id=self._run, sequence=sequence)
        return {**made, "timestamp": OLD if self._random.random() < 0.1 else f"2026-03-01T12:00:{sequence % 60:02d}Z"}


def test_a_reader_killed_again_and_again_records_every_row_once(
    pipeline: Pipeline, postgres: Postgres, tmp_path: Path
) -> None:
    url = table(postgres.database())
    reader = Reader(pipeline, "turtle.source", SOURCE, url, tmp_path, POINTS, batch=BATCH)
    stop = threading.Event()
    writers = [Writer(url, number, stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        died = [reader.kill_once(seed) for seed in range(SEEDS)]
    finally:
        stop.set()
        for writer in writers:
            writer.join(30)
    for _ in range(2):  # the second finds what is new of old time in transactions that the first has just seen
        reader.read_to_the_end()
    with psycopg.connect(url) as connection:
        query = "SELECT id::text, timestamp < '2021-01-01' FROM events"
        native = dict(connection.execute(query.encode()).fetchall())
    print(f"died at {died}, {len(native)} rows, {sum(native.values())} of old time")
    assert set(died) == {*POINTS, ""}
    assert sum(native.values()) > 0

    def ended() -> int:
        sql = (
            f"SELECT max(toUInt64(JSONExtractUInt(payload, 'rows', 'events') + JSONExtractUInt(payload, 'rows', "
            f"'events.late'))) FROM tradetape.events WHERE source_id = '{SOURCE}' AND event_type = 'source_ended'"
        )
        return int(pipeline.store.query(sql)[0][0])

    eventually(lambda: ended() == len(native), STORED_SECONDS, "the end of the table is stored")
    stored = pipeline.store.query(
        "SELECT toString(event_id), source_stream, toString(source_position) FROM tradetape.events "
        f"WHERE source_id = '{SOURCE}' AND source_position IS NOT NULL ORDER BY raw_offset"
    )
    assert sorted(str(event_id) for event_id, _, _ in stored) == sorted(native)
    for stream in ("events", "events.late"):
        places = [int(place) for _, name, place in stored if name == stream]
        assert places == sorted(set(places))
    repeats = pipeline.store.query(
        f"SELECT DISTINCT disposition, reasons FROM tradetape.quarantine WHERE source_id = '{SOURCE}'"
    )
    assert {(name, tuple(reasons)) for name, reasons in repeats} <= {("duplicate", ("repeated",))}
    assert json.loads((next(tmp_path.glob("*.json"))).read_text())["source_id"] == SOURCE
