"""A file of canonical JSON lines, followed: the last line waits, a renamed file is read to its end first."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.producers.support import Listed

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.envelope import source as envelope
from tradetape.producers.connectors.envelope.file import EnvelopeSource
from tradetape.producers.events import Event
from tradetape.producers.simulator import envelope_lines
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("S3-01")

LINES = [case.line for case in envelope_lines(5, 12)]


class File:
    """A followed file and its checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.jsonl"
        self.saved: dict[str, Any] | None = None
        self.source: EnvelopeSource | None = None

    def write(self, *lines: bytes, end: bytes = b"\n") -> None:
        with self.path.open("ab") as file:
            file.write(b"\n".join(lines) + end)

    def open(self) -> EnvelopeSource:
        origin = Origin("lines-1", "", "", "", legacy=False)
        self.source = envelope.open_source(str(self.path), origin, json.loads(json.dumps(self.saved)))
        return self.source

    def poll(self, limit: int = 100) -> list[Event]:
        source = self.source or self.open()
        found: list[Event] = []
        while polled := source.poll(limit):
            found += polled
        self.saved = source.state()
        return found


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def natives(events: Sequence[Event]) -> list[bytes]:
    return [event["native"] for event in events]


def places(events: Sequence[Event]) -> list[tuple[str, int]]:
    return [(event["source_id"], event["source_position"]) for event in events]


def test_lines_are_followed_and_the_last_one_waits(file: File) -> None:
    file.write(*LINES[:3])
    file.write(LINES[3][:40], end=b"")
    assert natives(file.poll(limit=2)) == LINES[:3]
    assert file.poll() == []
    file.write(LINES[3][40:])
    assert places(file.poll()) == [("lines-1", 4)]


@pytest.mark.req("P-06")
def test_a_restart_goes_on(file: File) -> None:
    file.write(*LINES[:3])
    file.poll()
    file.write(*LINES[3:5])
    file.open()
    assert natives(file.poll()) == LINES[3:5]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_renamed_file_is_read_to_its_end_before_its_successors(file: File, *, restarts: bool) -> None:
    file.write(*LINES[:2])
    file.poll()
    file.write(LINES[2])
    file.path.rename(file.path.with_name("events.jsonl.2"))
    file.write(LINES[3])
    file.path.rename(file.path.with_name("events.jsonl.1"))
    file.write(*LINES[4:6])
    if restarts:
        file.open()
    events = file.poll()
    assert natives(events) == LINES[2:6]
    assert places(events) == [("lines-1", 3), ("lines-1@1", 1), ("lines-1@2", 1), ("lines-1@2", 2)]
    assert file.poll() == []


def test_the_unfinished_end_of_a_replaced_file_is_evidence(file: File) -> None:
    file.write(LINES[0], LINES[1][:40], end=b"")
    file.poll()
    file.path.rename(file.path.with_name("events.jsonl.1"))
    assert file.poll() == []
    file.write(LINES[2])
    broken, good = file.poll()
    assert (broken["event_type"], broken["native"], broken["source_position"]) == ("unmapped_record", LINES[1][:40], 2)
    assert good["native"] == LINES[2]


def test_a_truncated_file_begins_another_source(file: File) -> None:
    file.write(*LINES[:3])
    file.poll()
    os.truncate(file.path, 0)
    assert file.poll() == []
    file.write(*LINES[3:8])
    assert places(file.poll()) == [("lines-1@1", number) for number in range(1, 6)]
    assert file.source is not None
    assert len(file.source.notes) == 1


def test_a_rewritten_file_is_read_again_as_another_source(file: File) -> None:
    file.write(*LINES[:2])
    file.poll()
    file.path.write_bytes(b"\n".join([LINES[0], *LINES[4:8]]) + b"\n")
    assert places(file.poll()) == [("lines-1@1", number) for number in range(1, 6)]


def test_the_lag_counts_lines(file: File) -> None:
    file.write(*LINES[:6])
    source = file.open()
    source.poll(2)
    assert source.lag() == (4, None)
    source.poll(10)
    assert source.lag() == (0, 0.0)


def test_an_empty_file_is_known_when_it_has_a_line(file: File) -> None:
    file.path.touch()
    with pytest.raises(TradetapeError, match="no line yet"):
        envelope.fingerprint(str(file.path))
    file.write(LINES[0])
    known = envelope.fingerprint(str(file.path))
    file.write(LINES[1])
    assert envelope.fingerprint(str(file.path)) == known


@pytest.mark.req("P-06")
def test_what_was_followed_is_not_ingested_again(file: File, tmp_path: Path) -> None:
    file.write(*LINES[:6])
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    known_as = envelope.fingerprint(str(file.path))
    emitter = Listed()
    source = envelope.open_source(str(file.path), Origin(known_as, "", "", "", legacy=False), None)
    runner.run(source, emitter, checkpoints)
    source.close()
    assert natives(emitter.events)[:6] == LINES[:6]
    summary = envelope.ingest_file(file.path, Listed(), checkpoints)
    assert (summary.sent, summary.already_ingested, summary.rows) == (0, True, {"lines": 6})
