"""Ingest of JSON lines: good ones typed, bad ones kept with their bytes, files resumed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.producers.support import Listed

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.envelope import source as envelope
from tradetape.producers.connectors.lines import read_lines
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.simulator import envelope_lines
from tradetape.schemas import envelope_json
from tradetape.schemas.errors import TradetapeError

GOOD = [case.line for case in envelope_lines(1, 6)]


def ingest(path: Path, **more: Any) -> tuple[Listed, Summary]:
    emitter = more.pop("emitter", None) or Listed()
    checkpoints = Checkpoints(path.parent / "checkpoints")
    return emitter, envelope.ingest_file(path, emitter, checkpoints, **more)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    return path


def positions(emitter: Listed) -> list[int | None]:
    return [event["source_position"] for event in emitter.events if event["event_type"] != "source_ended"]


@pytest.mark.req("S3-01", "S3-05")
def test_good_lines_are_typed_and_bad_ones_kept(tmp_path: Path) -> None:
    cases = envelope_lines(7, 200, bad=60)
    path = written(tmp_path, b"\n".join(case.line for case in cases) + b"\n")
    emitter, summary = ingest(path)
    sent = [event for event in emitter.events if event["event_type"] != "source_ended"]
    assert len(sent) == len(cases)
    for number, (case, event) in enumerate(zip(cases, sent, strict=True), 1):
        assert event["native"] == case.line
        assert (event["source_system"], event["source_position"]) == ("envelope", number)
        assert event["ingest_source"] == "file"
        if case.reason is None:
            assert event["event_type"] == json.loads(case.line)["event_type"]
        else:
            assert event["event_type"] == "unmapped_record"
            assert case.reason in event["payload"]["error"]
            assert (event["payload"]["line"], event["payload"]["location"]) == (number, "events.jsonl")
    assert sum(summary.rejected.values()) >= 60
    typed = {event["instance_name"]: event["payload"]["events"] for event in emitter.of("source_ended")}
    assert sum(sum(counts.values()) for counts in typed.values()) == 140


@pytest.mark.req("S3-03")
def test_lines_without_correlation_id_need_a_legacy_source(tmp_path: Path) -> None:
    line = json.loads(GOOD[0])
    del line["correlation_id"]
    path = written(tmp_path, json.dumps(line).encode() + b"\n")
    assert ingest(path)[1].rejected == {"missing_correlation_id": 1}
    emitter, summary = ingest(path, legacy=True, source_id="old")
    assert summary.rejected == {}
    assert emitter.events[0]["legacy"] is True
    assert emitter.events[0]["correlation_id"] == ""


def test_a_file_resumes_where_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, b"\n".join(GOOD[:3]) + b"\n")
    assert positions(ingest(path)[0]) == [1, 2, 3]
    again, summary = ingest(path)
    assert again.events == []
    assert summary.already_ingested
    with path.open("ab") as file:
        file.write(b"\n".join(GOOD[3:]) + b"\n")
    assert positions(ingest(path)[0]) == [4, 5, 6]


def test_a_kill_repeats_only_the_tail(tmp_path: Path) -> None:
    path = written(tmp_path, b"\n".join(case.line for case in envelope_lines(3, 5000)))
    first = Listed(fail_after=4500)
    with pytest.raises(TradetapeError):
        ingest(path, emitter=first)
    assert len(first.acknowledged) == 4000
    second, _ = ingest(path)
    assert positions(second) == list(range(4001, 5001))
    assert second.events[:500] == first.events[4000:]
    assert sum(sum(event["payload"]["events"].values()) for event in second.of("source_ended")) == 5000


def test_a_changed_file_starts_again(tmp_path: Path) -> None:
    path = written(tmp_path, b"\n".join(GOOD[:3]) + b"\n")
    ingest(path)
    path.write_bytes(b"\n".join([GOOD[0], GOOD[4], GOOD[5], GOOD[1]]) + b"\n")
    emitter, summary = ingest(path)
    assert positions(emitter) == [1, 2, 3, 4]
    assert summary.notes
    path.write_bytes(GOOD[0] + b"\n")
    assert positions(ingest(path)[0]) == [1]


def test_a_last_line_without_newline(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD[0] + b"\n" + GOOD[1])
    assert positions(ingest(path)[0]) == [1, 2]
    path.write_bytes(GOOD[0] + b"\n" + GOOD[1] + b"\n" + GOOD[2] + b"\n")
    assert positions(ingest(path)[0]) == [3]


def test_a_half_written_last_line_is_read_again_when_whole(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD[0] + b"\n" + GOOD[1][:40])
    emitter, summary = ingest(path)
    assert summary.incomplete
    assert positions(emitter) == [1, None]
    assert emitter.events[1]["native"] == GOOD[1][:40]
    assert ingest(path)[0].events == []
    path.write_bytes(GOOD[0] + b"\n" + GOOD[1] + b"\n")
    emitter, summary = ingest(path)
    assert positions(emitter) == [2]
    assert not summary.incomplete


def test_a_line_that_grows_after_it_was_taken_in_loses_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD[0] + b"\n" + GOOD[1])
    ingest(path)
    path.write_bytes(GOOD[0] + b"\n" + GOOD[1] + b"more\n" + GOOD[2] + b"\n")
    emitter, _ = ingest(path)
    assert positions(emitter) == [None, 3]
    assert emitter.events[0]["native"] == b"more"


def test_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf" + GOOD[0] + b"\r\n\r\n  \n" + GOOD[1] + b"\r\n")
    emitter, summary = ingest(path)
    assert positions(emitter) == [1, 4]
    assert emitter.events[0]["native"] == GOOD[0]
    assert summary.rejected == {}


@pytest.mark.req("P-08")
def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD[0].replace(b"bitget", b"bit\xffget") + b"\n\x00\x01\n")
    emitter, summary = ingest(path)
    assert emitter.types() == {"unmapped_record": 2}
    assert summary.rejected == {"not_json": 2}
    assert emitter.events[1]["native"] == b"\x00\x01"


@pytest.mark.req("P-08")
def test_a_line_that_is_too_long_is_cut_while_it_is_read(tmp_path: Path) -> None:
    longest = envelope_json.MAX_LINE_BYTES
    path = written(tmp_path, b"x" * (longest + 5) + b"\n" + GOOD[0] + b"\n")
    emitter, summary = ingest(path, emitter=Listed(largest=17_000_000))
    record = emitter.events[0]
    assert (len(record["native"]), record["payload"]["native_bytes"]) == (longest, longest + 5)
    assert summary.rejected == {"line_too_long": 1}
    assert positions(emitter) == [1, 2]


@pytest.mark.req("P-08")
def test_an_event_too_large_for_its_native_bytes_goes_without_them(tmp_path: Path) -> None:
    line = json.loads(GOOD[0])
    line["payload"]["note"] = "n" * 3000
    path = written(tmp_path, json.dumps(line).encode() + b"\n")
    emitter, _ = ingest(path, emitter=Listed(largest=5000))
    assert emitter.events[0]["event_type"] == "order_created"
    assert emitter.events[0]["native"] is None
    assert "nnn" in emitter.events[0]["extra"]


def test_stdin_is_a_new_source_each_time() -> None:
    ids = iter(("run-1", "run-2"))
    found = []
    for _ in range(2):
        emitter = Listed()
        stream = io.BytesIO(b"\n".join(GOOD))
        envelope.ingest_stream(stream, emitter, new_id=lambda: next(ids))
        assert positions(emitter) == [1, 2, 3, 4, 5, 6]
        assert {event["ingest_source"] for event in emitter.events} == {"stdin"}
        found.append(emitter.events[0]["source_id"])
    assert found == ["run-1", "run-2"]


@pytest.mark.parametrize("name", ["nothing.jsonl", "."])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(TradetapeError):
        envelope.check(tmp_path / name)


def test_an_empty_file_has_nothing_to_say(tmp_path: Path) -> None:
    emitter, summary = ingest(written(tmp_path, b""))
    assert emitter.events == []
    assert summary.rows == {"lines": 0}


@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=6),
    st.booleans(),
    st.integers(1, 9),
)
def test_lines_are_those_of_the_stream(lines: list[bytes], ended: bool, chunk: int) -> None:
    content = b"\n".join(lines) + (b"\n" if ended else b"")
    found = list(read_lines(io.BytesIO(content), longest=5, chunk=chunk))
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line.content for line in found] == [line[:5] for line in expected]
    assert [line.length for line in found] == [len(line) for line in expected]
    assert [content[line.start : line.start + line.length] for line in found] == expected
    assert all(line.ended == (content[line.end - 1 : line.end] == b"\n") for line in found)


@pytest.mark.req("P-08")
@given(st.lists(st.binary(max_size=60) | st.sampled_from(GOOD), max_size=6))
def test_any_bytes_are_taken_in(lines: list[bytes]) -> None:
    emitter = Listed()
    content = b"\n".join(lines)
    envelope.ingest_stream(io.BytesIO(content), emitter, new_id=lambda: "run")
    whole = [
        line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line for number, line in enumerate(content.split(b"\n"))
    ]
    expected = [line.removesuffix(b"\r") for line in whole if line.strip()]
    assert [event["native"] for event in emitter.events if event["event_type"] != "source_ended"] == expected
