"""`tradetape ingest hummingbot` killed with −9 again and again: in the end the record is that of one ingest."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from benchmarks.stack import Ends
from tests import folding
from tests.crash.pipeline import KILLED, Pipeline
from tests.crash.undisturbed import Undisturbed, assert_places, assert_rows, wait_until_stored
from tests.forks import CLI
from tests.producers.support import Listed
from tests.support import eventually

from tradetape.producers import simulator
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.hummingbot import ingest as hummingbot
from tradetape.schemas.topics import EVENTS

pytestmark = [pytest.mark.crash, pytest.mark.req("P-03", "P-06", "P-10")]

SEED = 31
BOTS = 2
ORDERS = 1_000
KILLS = 5
STORED_SECONDS = 60.0

COLUMNS = "event_id, event_type, link, payload, instance_name, source_id, toString(source_position)"
FINDINGS = "arrayMap(f -> (f.code, f.status, f.subject), findings)"
FIGURES = (
    "net_base, cost_quote, avg_cost, realised_quote, last_price, fills, open_orders, orders_created, "
    "orders_cancelled, orders_failed"
)


def command(files: list[Path], *options: str) -> list[str]:
    return ["ingest", "hummingbot", *(str(file) for file in files), *options]


def ingest(pipeline: Pipeline, files: list[Path]) -> str:
    """Run the ingest to its end; returns what it said."""
    done = pipeline.forks.run(CLI, command(files), pipeline.env, seconds=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def start_and_kill(pipeline: Pipeline, files: list[Path], ends: Ends, more: int) -> bool:
    """Run the ingest until it has sent ``more`` records, and kill it; False where it was done before."""
    before = ends.count(EVENTS)
    log = pipeline.home / "logs" / "ingest.log"
    process = pipeline.forks.start(CLI, command(files, "--no-wait"), pipeline.env, log)
    try:
        eventually(lambda: process.poll() is not None or ends.count(EVENTS) >= before + more, 60, "the ingest sends")
    finally:
        process.kill()
        code = process.wait()
    assert code in (0, KILLED), log.read_text()
    return code == KILLED


def one_ingest(file: Path, folder: Path) -> list[dict[str, Any]]:
    """The events of an ingest that nothing disturbs."""
    listed = Listed()
    hummingbot.ingest(file, listed, Checkpoints(folder))
    return listed.events


def test_an_ingest_killed_again_and_again_records_every_row_once(
    pipeline: Pipeline, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    files = simulator.simulate_hummingbot(
        tmp_path / "stores", bots=BOTS, orders_per_bot=ORDERS, seed=SEED, defects=dict.fromkeys(simulator.DEFECTS, 3)
    ).files
    expected = {file: one_ingest(file, tmp_path / "checkpoints") for file in files}
    total = sum(map(len, expected.values()))
    ends = Ends(pipeline.bootstrap_servers)
    before = ends.count(EVENTS)
    # Somewhere between two checkpoints: what was sent since the last one is sent again.
    kills = sum(start_and_kill(pipeline, files, ends, rng.randrange(1, hummingbot.FLUSH_EVERY)) for _ in range(KILLS))
    ingest(pipeline, files)
    sent = ends.count(EVENTS) - before
    print(f"{total} events, {kills} kills, {sent - total} sent twice")
    assert kills >= KILLS // 2

    began = undisturbed.catch_up()
    wait_until_stored(pipeline.store, undisturbed, STORED_SECONDS, "ingest")
    assert_places(pipeline.store, undisturbed, "ingest")
    assert_rows(pipeline.store, undisturbed, began, "ingest")
    for file, events in expected.items():
        compare_with_one_ingest(pipeline, file, events)
    sources = sorted({event["source_id"] for events in expected.values() for event in events})
    repeats = pipeline.store.query(
        "SELECT disposition, reasons, count() FROM tradetape.quarantine "
        "WHERE source_id IN {sources:Array(String)} GROUP BY ALL",
        {"sources": sources},
    )
    assert all((row[0], list(row[1])) == ("duplicate", ["repeated"]) for row in repeats), repeats
    assert sum(int(row[2]) for row in repeats) == sent - total

    assert ingest(pipeline, files).count("nothing new") == len(files)
    assert ends.count(EVENTS) == before + sent


def compare_with_one_ingest(pipeline: Pipeline, file: Path, events: list[dict[str, Any]]) -> None:
    """What is stored of ``file``, in its order, is what the core makes of one undisturbed ingest of it."""
    outputs = folding.fold(events)
    source = events[0]["source_id"]
    stored = pipeline.store.query(
        f"SELECT {COLUMNS}, {FINDINGS} FROM tradetape.events WHERE source_id = {{source:String}} "
        "ORDER BY raw_partition, raw_offset",
        {"source": source},
    )
    counts = Counter(event["event_type"] for event in events)
    assert Counter(row[1] for row in stored) == counts, file.name
    assert len({row[0] for row in stored}) == len(stored) == len(events), f"{file.name}: an event is stored twice"
    for output, row in zip(outputs, stored, strict=True):
        verdict = output.audited
        position = verdict["source_position"]
        assert (str(row[0]), *row[1:7]) == (
            verdict["event_id"],
            verdict["event_type"],
            verdict["link"],
            verdict["payload"],
            verdict["instance_name"],
            verdict["source_id"],
            None if position is None else str(position),
        )
        assert list(row[7]) == [(f["code"], f["status"], f["subject"]) for f in verdict["findings"]], json.dumps(
            verdict["findings"]
        )
    figures = pipeline.store.query(
        f"SELECT {FIGURES} FROM tradetape.risk WHERE instance_name = {{instance:String}} "
        "ORDER BY raw_partition, raw_offset",
        {"instance": events[0]["instance_name"]},
    )
    wanted = [tuple(o.risk[name.strip()] for name in FIGURES.split(",")) for o in outputs if o.risk is not None]
    assert figures == wanted, f"{file.name}: the figures differ from those of one ingest"
