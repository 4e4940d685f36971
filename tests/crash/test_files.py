"""The readers of the other files killed with −9 again and again while they are written: every record once.

Costs about 60 s beside the stack that all crash tests share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.crash.pipeline import Pipeline
from tests.crash.reader import RUNNER_POINTS, SEEDS, Reader, origin
from tests.producers.test_hummingbot_log import CREATED, ENDED, FILLED, OTHER, line
from tests.support import eventually

from tradetape.infra import connect
from tradetape.producers.simulator import envelope_lines, simulate_hummingbot

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "P-10")]

STORED_SECONDS = 60.0
OTHER_BOT = 9
"""The ninth simulated bot: the first ones are those of ``test_ingest``, on the same stack."""

Write = Callable[[Path, int], Path]
"""Writes on into a folder, as a seed says; returns the file."""


def canonical(folder: Path, seed: int) -> Path:
    path = folder / "events.jsonl"
    with path.open("ab") as file:
        file.write(b"".join(case.line + b"\n" for case in envelope_lines(seed, 30, bad=3)))
    return path


def trades(folder: Path, seed: int) -> Path:
    return simulate_hummingbot(folder, bots=OTHER_BOT, orders_per_bot=8, seed=seed).files[-1]


def log(folder: Path, seed: int) -> Path:
    path = folder / "logs_bot.log"
    with path.open("ab") as file:
        for number in range(10):
            order = {"order_id": f"o-{seed}-{number}"}
            for name, fields in (
                ("BuyOrderCreatedEvent", CREATED),
                ("OrderFilledEvent", {**FILLED, "exchange_trade_id": f"t-{seed}-{number}"}),
                ("BuyOrderCompletedEvent", ENDED),
            ):
                file.write(line(name, {**fields, **order}) + b"\n" + OTHER)
    return path


@pytest.mark.parametrize(
    ("kind", "write"),
    [("envelope", canonical), ("hummingbot", trades), ("hummingbot-log", log)],
    ids=["envelope", "hummingbot", "hummingbot-log"],
)
def test_a_reader_killed_again_and_again_records_every_record_once(
    kind: str, write: Write, pipeline: Pipeline, tmp_path: Path
) -> None:
    source_id = f"{kind}-crash"
    path = write(tmp_path, 0)
    reader = Reader(pipeline, connect.KINDS[kind].module, source_id, str(path), tmp_path / "checkpoints")
    died = []
    for seed in range(1, SEEDS + 1):
        write(tmp_path, seed)
        died.append(reader.kill_once(seed))
    reader.read_to_the_end()
    print(f"died at {died}")
    assert set(died) == {*RUNNER_POINTS, ""}

    once = connect.connector(kind).open_source(str(path), origin(source_id), None)
    wanted = []
    while polled := once.poll(10_000):
        wanted += polled
    wanted += [event for event in once.ended() if event["event_type"] != "source_ended"]
    once.close()

    def ids(sql: str) -> list[str]:
        return sorted(str(event_id) for (event_id,) in pipeline.store.query(sql))

    where = f"source_id = '{source_id}'"
    accepted = f"SELECT toString(event_id) FROM tradetape.events WHERE {where} AND event_type != 'source_ended'"
    rejected = f"SELECT event_id FROM tradetape.quarantine WHERE {where} AND disposition = 'rejected'"

    def is_stored() -> bool:
        assert sorted(ids(accepted) + ids(rejected)) == sorted(event["event_id"] for event in wanted)
        return True

    eventually(is_stored, STORED_SECONDS, "every record once")
    repeats = pipeline.store.query(f"SELECT DISTINCT disposition, reasons FROM tradetape.quarantine WHERE {where}")
    assert {name for name, reasons in repeats if "repeated" in reasons} <= {"duplicate"}
