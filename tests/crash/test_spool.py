"""A bot killed with −9 again and again while it records through an outage: what it accepted is stored once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.crash.pipeline import BOT, KILLED, Pipeline
from tests.crash.undisturbed import Undisturbed, assert_places, assert_rows, wait_until_stored
from tests.forks import Process
from tests.support import eventually

from tradetape.infra.stackfile import KAFKA, REGISTRY
from tradetape.schemas.crashpoints import VARIABLE

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "P-07")]

SEED = 707
KILLS = 4
ENDLESS = 10_000_000
MOST_PER_LIFE = 1_000
LAST = 100
BEFORE_CURSOR = "spool.before_cursor"
NAME = "spool-bot"
STORED_SECONDS = 60.0


def receipts_in(path: Path) -> list[str]:
    """The ids of the events whose ``record`` returned; a receipt torn by a kill is none."""
    return [line.decode() for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def live_and_die(pipeline: Pipeline, folder: Path, more: int) -> None:
    """Run the bot until it has written ``more`` receipts, and kill it in the middle of the next."""
    receipts = folder / "receipts"
    before = len(receipts_in(receipts))
    process = start(pipeline, folder, ENDLESS)
    try:
        eventually(lambda: process.poll() is not None or len(receipts_in(receipts)) >= before + more, 60, "it records")
    finally:
        process.kill()
        code = process.wait()
    assert code == KILLED, said(folder)


def start(pipeline: Pipeline, folder: Path, count: int, point: str = "") -> Process:
    arguments = (str(folder / "spool"), str(folder / "receipts"), str(count), NAME)
    env = {**pipeline.env, VARIABLE: point} if point else pipeline.env
    return pipeline.forks.start(BOT, arguments, env, folder / "log")


def said(folder: Path) -> str:
    return (folder / "log").read_text()


def test_every_event_whose_record_returned_is_stored_exactly_once(
    pipeline: Pipeline, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    for life in range(KILLS):
        if life in (1, 3):
            pipeline.kill_server(KAFKA if life == 1 else REGISTRY)
        live_and_die(pipeline, tmp_path, rng.randrange(1, MOST_PER_LIFE))
    pipeline.wait_healthy()
    # Kafka has a batch, and the bot dies before it knows: the batch comes again.
    assert start(pipeline, tmp_path, LAST, BEFORE_CURSOR).wait(60) == KILLED, said(tmp_path)
    assert start(pipeline, tmp_path, LAST).wait(120) == 0, said(tmp_path)
    accepted = receipts_in(tmp_path / "receipts")

    began = undisturbed.catch_up()
    wait_until_stored(pipeline.store, undisturbed, STORED_SECONDS, "spool")
    assert_places(pipeline.store, undisturbed, "spool")
    assert_rows(pipeline.store, undisturbed, began, "spool")
    stored = pipeline.store.query(
        "SELECT toString(event_id), source_id, source_position FROM tradetape.events "
        "WHERE instance_name = {name:String} ORDER BY raw_partition, raw_offset",
        {"name": NAME},
    )
    ids = [str(row[0]) for row in stored]
    assert len(set(ids)) == len(ids), "an event is stored twice"
    lost = set(accepted) - set(ids)
    assert not lost, f"{len(lost)} of {len(accepted)} accepted events are not stored"
    # The kill may come between the write of an event and its receipt, once in each life.
    assert len(ids) - len(accepted) <= KILLS + 1
    runs: dict[str, list[int]] = {}
    for _, source_id, position in stored:
        runs.setdefault(str(source_id), []).append(int(position))
    assert len(runs) == KILLS + 2
    assert all(positions == list(range(1, len(positions) + 1)) for positions in runs.values())
    others = pipeline.store.query(
        "SELECT DISTINCT disposition FROM tradetape.quarantine WHERE instance_name = {name:String}", {"name": NAME}
    )
    assert others == [("duplicate",)]
    print(f"{len(accepted)} accepted, {len(ids)} stored")
