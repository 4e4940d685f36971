"""A file of canonical JSON lines, followed: the last line waits, a renamed file is read to its end first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.folding import fold
from tests.producers.support import Listed

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.envelope import source as envelope
from tradetape.producers.connectors.envelope.file import EnvelopeSource
from tradetape.producers.events import Event
from tradetape.producers.simulator import envelope_lines
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Encoder
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


def streams(events: Sequence[Event]) -> list[tuple[int, int]]:
    """Which file each line stood in, numbered as they come, and where."""
    names = list(dict.fromkeys(event["source_stream"] for event in events))
    return [(names.index(event["source_stream"]), event["source_position"]) for event in events]


def followed(path: Path, checkpoints: Checkpoints) -> list[Event]:
    """What `tradetape connect envelope` sends between a start and a stop, without a --source-id."""
    source_id = envelope.fingerprint(str(path))
    origin = Origin(source_id, "bot", "", "", legacy=False)
    source = envelope.open_source(str(path), origin, checkpoints.load(source_id))
    found: list[Event] = []
    while polled := source.poll(100):
        found += polled
    checkpoints.save(source_id, source.state())
    return found


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


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
    assert {event["source_id"] for event in events} == {"lines-1"}
    assert streams(events) == [(0, 3), (1, 1), (2, 1), (2, 2)]
    assert file.poll() == []


@pytest.mark.req("P-06")
def test_a_log_that_is_rotated_while_nobody_reads_loses_nothing(file: File, checkpoints: Checkpoints) -> None:
    file.write(*LINES[:3])
    before = followed(file.path, checkpoints)
    file.write(*LINES[3:6])
    file.path.rename(file.path.with_name("events.jsonl.1"))
    file.write(*LINES[6:8])
    after = followed(file.path, checkpoints)
    assert natives([*before, *after]) == LINES[:8]
    assert streams([*before, *after]) == [(0, number) for number in range(1, 7)] + [(1, 1), (1, 2)]


@pytest.mark.req("P-06")
def test_a_restart_after_a_rotation_repeats_nothing(file: File, checkpoints: Checkpoints) -> None:
    file.write(*LINES[:3])
    followed(file.path, checkpoints)
    file.path.rename(file.path.with_name("events.jsonl.1"))
    file.write(LINES[3], b"not json")
    assert len(followed(file.path, checkpoints)) == 2
    assert followed(file.path, checkpoints) == []
    file.path.rename(file.path.with_name("events.jsonl.2"))
    assert followed(file.path, checkpoints) == []


def test_the_unread_end_of_a_copied_and_truncated_file_is_read_in_the_copy(file: File) -> None:
    file.write(*LINES[:3])
    file.poll()
    file.write(*LINES[3:6])
    shutil.copy(file.path, file.path.with_name("events.jsonl.1"))
    os.truncate(file.path, 0)
    file.write(*LINES[6:8])
    events = file.poll()
    assert natives(events) == LINES[3:8]
    assert streams(events) == [(0, 4), (0, 5), (0, 6), (1, 1), (1, 2)]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_lines_that_were_seen_and_are_gone_are_told(file: File, *, is_deleted: bool) -> None:
    file.write(*LINES[:4])
    source = file.open()
    first = source.poll(3)
    file.path.unlink() if is_deleted else os.truncate(file.path, 0)
    file.write(*LINES[4:6])
    *events, gap = file.poll()
    assert natives(events) == LINES[4:6]
    assert (gap["event_type"], gap["source_id"], gap["source_position"]) == ("system_gap", "lines-1", None)
    assert gap["payload"]["stream"] == first[0]["source_stream"]
    assert (gap["payload"]["reason"], gap["payload"]["first"]) == ("unreadable", "4")
    assert gap["instance_name"] == "events"
    Encoder(event_types()["system_gap"].schema, 1).encode(gap)
    assert file.poll() == []
    assert file.source is not None
    told = {event["instance_name"]: event["payload"]["events"] for event in file.source.ended()}
    assert told["events"] == {"system_gap": 1}


def test_lines_without_an_id_of_their_own_are_told_apart_by_their_file(file: File) -> None:
    file.write(b"{}", LINES[0])
    first = file.poll()
    file.path.rename(file.path.with_name("events.jsonl.1"))
    file.write(b"[]", LINES[1])
    second = file.poll()
    ids = [event["event_id"] for event in [*first, *second]]
    assert len(set(ids)) == 4
    assert [output.audited["disposition"] for output in fold([*first, *second])] == ["rejected", "accepted"] * 2
    again = envelope.open_source(str(file.path), Origin("lines-1", "", "", "", legacy=False), None)
    assert [event["event_id"] for event in again.poll(100)] == ids


def test_the_unfinished_end_of_a_replaced_file_is_evidence(file: File) -> None:
    file.write(LINES[0], LINES[1][:40], end=b"")
    file.poll()
    file.path.rename(file.path.with_name("events.jsonl.1"))
    assert file.poll() == []
    file.write(LINES[2])
    good, broken = file.poll()
    assert (broken["event_type"], broken["native"], broken["source_position"]) == ("unmapped_record", LINES[1][:40], 2)
    assert good["native"] == LINES[2]


def test_a_truncated_file_begins_another_stream(file: File) -> None:
    file.write(*LINES[:3])
    first = file.poll()
    os.truncate(file.path, 0)
    assert file.poll() == []
    file.write(*LINES[3:8])
    assert streams(first + file.poll()) == [(0, 1), (0, 2), (0, 3), *((1, number) for number in range(1, 6))]


def test_a_rewritten_file_is_read_again_as_another_source(file: File) -> None:
    file.write(*LINES[:2])
    file.poll()
    file.path.write_bytes(b"\n".join([LINES[0], *LINES[4:8]]) + b"\n")
    events = file.poll()
    assert natives(events) == [LINES[0], *LINES[4:8]]
    assert [position for _, position in places(events)] == [1, 2, 3, 4, 5]
    (source_id,) = {event["source_id"] for event in events}
    assert source_id.startswith("lines-1@")
    assert file.source is not None
    assert len(file.source.notes) == 1
    file.write(LINES[8])
    assert file.open().lag() == (1, None)
    assert places(file.poll()) == [(source_id, 6)]
    assert file.source.notes == []
    ended = [event for event in file.source.ended() if event["source_id"] == source_id]
    assert sum(sum(event["payload"]["events"].values()) for event in ended) == 6


def test_a_checkpoint_of_the_older_form_is_no_obstacle(file: File) -> None:
    file.write(*LINES[:3])
    place = {"offset": 10, "line": 1, "last_start": 0, "last_hash": "x", "open_line": False, "fragment": ""}
    file.saved = {"adapter": "envelope", "generation": 1, "first_hash": "x", "ended": [], "instances": {}} | place
    assert natives(file.poll()) == LINES[:3]


def test_the_lag_counts_lines(file: File) -> None:
    file.write(*LINES[:6])
    source = file.open()
    source.poll(2)
    assert source.lag() == (4, None)
    source.poll(10)
    assert source.lag() == (0, 0.0)


def test_the_lag_counts_lines_of_all_files(file: File) -> None:
    file.write(*LINES[:6])
    source = file.open()
    source.poll(2)
    file.path.rename(file.path.with_name("events.jsonl.1"))
    file.write(*LINES[6:8])
    assert source.lag() == (6, None)


def test_a_log_is_known_by_its_path(file: File) -> None:
    with pytest.raises(TradetapeError, match="does not exist"):
        envelope.fingerprint(str(file.path))
    file.path.touch()
    known = envelope.fingerprint(str(file.path))
    file.write(LINES[0])
    assert envelope.fingerprint(str(file.path)) == known
    file.path.rename(file.path.with_name("events.jsonl.1"))
    assert envelope.fingerprint(str(file.path)) == known
    os.mkfifo(file.path)
    with pytest.raises(TradetapeError, match="is a pipe"):
        envelope.fingerprint(str(file.path))


def test_an_ingest_reads_the_one_file_that_it_was_given(file: File, checkpoints: Checkpoints) -> None:
    file.write(*LINES[:3])
    file.path.rename(file.path.with_name("events.jsonl.1"))
    file.write(*LINES[3:5])
    emitter = Listed()
    summary = envelope.ingest_file(file.path, emitter, checkpoints)
    assert natives(emitter.events)[:2] == LINES[3:5]
    assert (summary.rows, summary.skipped) == ({"lines": 2}, 0)
    file.write(LINES[5])
    summary = envelope.ingest_file(file.path, Listed(), checkpoints)
    assert (summary.rows, summary.skipped, summary.incomplete) == ({"lines": 3}, 2, False)


@pytest.mark.parametrize("location", ["/tmp/a\0b", "/tmp/" + "x" * 300])
def test_a_name_that_no_file_can_have_is_told(location: str) -> None:
    for refuse in (envelope.fingerprint, lambda text: envelope.check(Path(text))):
        with pytest.raises(TradetapeError, match="cannot be read") as refused:
            refuse(location)
        assert refused.value.hint


@pytest.mark.req("P-06")
def test_what_was_followed_is_not_ingested_again(file: File, checkpoints: Checkpoints) -> None:
    file.write(*LINES[:6])
    known_as = envelope.fingerprint(str(file.path))
    emitter = Listed()
    source = envelope.open_source(str(file.path), Origin(known_as, "", "", "", legacy=False), None)
    runner.run(source, emitter, checkpoints)
    source.close()
    assert natives(emitter.events)[:6] == LINES[:6]
    summary = envelope.ingest_file(file.path, Listed(), checkpoints)
    assert (summary.sent, summary.already_ingested, summary.rows) == (0, True, {"lines": 6})
