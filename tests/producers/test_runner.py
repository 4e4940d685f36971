"""The runner on one source: the order of its steps, its end, its waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.producers.support import Listed
from tests.producers.tables import Table, positions, table

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.runner import run
from tradetape.producers.events import Event


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def test_it_is_taken_in_to_its_end_in_batches_and_closed_once(tmp_path: Path, checkpoints: Checkpoints) -> None:
    path = table(tmp_path / "a.db", 25)
    emitter = Listed()
    progress: list[int] = []
    summary = run(
        Table(path, None), emitter, checkpoints, batch=10, on_progress=lambda done, _total: progress.append(done)
    )
    assert positions(emitter.acknowledged, "a") == list(range(1, 26))
    assert emitter.events[-1]["event_id"] == "the end"
    assert summary.sent == 26
    assert progress == [10, 20, 25, 26]
    assert checkpoints.load("a") == {"position": 25, "ended": True}

    again = run(Table(path, checkpoints.load("a")), emitter, checkpoints)
    assert again.already_ingested
    assert len(emitter.events) == 26


def test_following_it_finds_what_is_written_later_and_stops_when_told(tmp_path: Path, checkpoints: Checkpoints) -> None:
    path = table(tmp_path / "a.db", 3)
    emitter, stop = Listed(), threading.Event()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            table(path, 4, first=False)
        else:
            stop.set()

    summary = run(Table(path, None), emitter, checkpoints, follow=True, stop=stop, interval=0.25, wait=wait)
    assert positions(emitter.acknowledged, "a") == list(range(1, 8))
    assert summary.events == {"order_status": 7}  # no end: the store goes on
    assert waits == [0.25, 0.25]


def test_the_order_is_poll_send_flush_save_acknowledge(tmp_path: Path) -> None:
    steps: list[str] = []

    class Told(Table):
        def poll(self, limit: int) -> Sequence[Event]:
            steps.append("poll")
            return super().poll(limit)

        def acknowledge(self) -> None:
            steps.append("acknowledge")

    class Emitter(Listed):
        def emit(self, event: dict[str, Any], event_type_name: str) -> None:
            steps.append("emit")

        def flush(self, timeout: float = 60.0) -> None:
            steps.append("flush")

    class Saves(Checkpoints):
        def save(self, source_id: str, state: dict[str, Any]) -> None:
            steps.append("save")

    run(Told(table(tmp_path / "a.db", 1), None), Emitter(), Saves(tmp_path))
    one = ["poll", "emit", "flush", "save", "acknowledge"]
    assert steps == one + one  # the second is the end of the source


def test_nothing_new_writes_no_checkpoint_but_acknowledges(tmp_path: Path, checkpoints: Checkpoints) -> None:
    path = table(tmp_path / "a.db", 2)
    run(Table(path, None), Listed(), checkpoints)
    (file,) = checkpoints.folder.iterdir()
    before = file.stat().st_ino
    source = Table(path, checkpoints.load("a"))
    source.acknowledged = 0
    run(source, Listed(), checkpoints)
    assert file.stat().st_ino == before
    assert source.acknowledged == 2


@pytest.mark.req("P-08")
@pytest.mark.parametrize(
    "broken",
    [{"payload": {"client_order_id": 7, "status": "x"}}, {"ts_utc": "noon"}, {"source": Decimal(1)}],
    ids=lambda broken: next(iter(broken)),
)
def test_an_event_that_does_not_fit_its_schema_is_kept_as_unmapped(
    tmp_path: Path, checkpoints: Checkpoints, broken: dict[str, Any]
) -> None:
    class Poisoned(Table):
        def poll(self, limit: int) -> Sequence[Event]:
            return [e | (broken if e["source_position"] == 2 else {}) for e in super().poll(limit)]

    emitter = Listed()
    run(Poisoned(table(tmp_path / "a.db", 3), None), emitter, checkpoints)
    assert positions(emitter.events, "a") == [1, 2, 3]
    (kept,) = emitter.of("unmapped_record")
    assert kept["payload"]["error"].startswith("not_encodable: ")
    assert json.loads(kept["native"])["source_position"] == 2
