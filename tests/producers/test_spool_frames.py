"""The spool's files: what a kill or a bad disk leaves of a record is never taken for one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers.spool import frames
from tradetape.producers.spool.frames import Damage, Frame, Torn
from tradetape.producers.spool.log import Log, Position
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("P-07")

BODIES = [b'{"n":1}', '{"text":"größer \u00f5"}'.encode(), b'{"n":3}']
START = Position(0, 0)


def opened(folder: Path, segment_bytes: int = 10_000, max_bytes: int = 1_000_000) -> Log:
    return Log(folder, segment_bytes=segment_bytes, max_bytes=max_bytes, fsync=False)


def written(folder: Path, bodies: list[bytes], segment_bytes: int = 10_000) -> list[Path]:
    """The segments of a log that was left as a kill leaves it."""
    log = opened(folder, segment_bytes)
    for body in bodies:
        frame = frames.encode(frames.EVENT, body)
        assert log.has_room(len(frame))
        log.write(frame)
    log.forget()
    return [log.path(number) for number in log.segments()]


def everything(log: Log) -> list[bytes | Damage]:
    found: list[bytes | Damage] = []
    at = START
    while (batch := log.read(at)) is not None:
        found += [item.body if isinstance(item, Frame) else item for item in batch.items]
        at = batch.next
    return found


@given(st.lists(st.tuples(st.sampled_from([frames.EVENT, frames.GAP]), st.binary(max_size=200))))
def test_frames_read_as_they_were_written(records: list[tuple[int, bytes]]) -> None:
    data = b"".join(frames.encode(kind, body) for kind, body in records)
    at, found = 0, []
    while at < len(data):
        frame = frames.read(data, at)
        assert frame is not None
        found.append((frame.kind, frame.body))
        at = frame.end
    assert found == records
    assert frames.torn_tail(data) == len(data)


def test_a_record_torn_at_any_byte_is_cut_off_and_the_others_stay(tmp_path: Path) -> None:
    (whole,) = written(tmp_path / "whole", BODIES)
    content = whole.read_bytes()
    last = len(frames.encode(frames.EVENT, BODIES[-1]))
    for missing in range(1, last):
        folder = tmp_path / str(missing)
        folder.mkdir()
        (folder / whole.name).write_bytes(content[:-missing])
        log = opened(folder)
        assert everything(log) == BODIES[:-1]
        assert (folder / whole.name).stat().st_size == len(content) - last
        log.write(frames.encode(frames.EVENT, b"next"))
        assert everything(log) == [*BODIES[:-1], b"next"]
        log.close()


def test_a_flipped_bit_anywhere_costs_its_own_record_and_is_found(tmp_path: Path) -> None:
    (whole,) = written(tmp_path / "whole", BODIES)
    content = whole.read_bytes()
    sizes = [len(frames.encode(frames.EVENT, body)) for body in BODIES]
    starts = [0, sizes[0], sizes[0] + sizes[1]]
    for at in range(len(content)):
        folder = tmp_path / str(at)
        folder.mkdir()
        flipped = bytearray(content)
        flipped[at] ^= 1 << (at % 8)
        (folder / whole.name).write_bytes(flipped)
        log = opened(folder)
        hit = max(number for number, start in enumerate(starts) if at >= start)
        wanted: list[bytes | Damage] = list(BODIES)
        wanted[hit] = Damage(starts[hit], starts[hit] + sizes[hit])
        assert everything(log) == wanted, f"byte {at}"
        log.close()


@given(st.binary(max_size=300), st.integers(0, 40))
def test_bytes_of_any_kind_are_data_damage_or_torn(noise: bytes, cut: int) -> None:
    frame = frames.encode(frames.EVENT, b"sound")
    data = noise + frame
    at = 0
    found = frames.read(data, at)
    while found is None:
        bad = frames.resume(data, at)
        assert isinstance(bad, Damage)
        at = bad.end
        found = frames.read(data, at)
    assert (found.body, found.end) == (b"sound", len(data))
    torn = frame[:cut]
    assert isinstance(frames.resume(torn, 0), Torn) or len(torn) == len(frame)


def test_a_damaged_record_does_not_hide_the_next_segment(tmp_path: Path) -> None:
    first, second = written(tmp_path, BODIES[:2], segment_bytes=10)
    first.write_bytes(first.read_bytes()[:-3])
    log = opened(tmp_path)
    assert everything(log) == [Damage(0, first.stat().st_size), BODIES[1]]
    log.keep_damaged(1)
    log.drop_before(2)
    assert first.with_suffix(".damaged").exists()
    assert not first.exists()
    assert second.exists()


def test_records_longer_than_a_read_or_a_segment(tmp_path: Path) -> None:
    large = b"x" * 3_000_000
    log = opened(tmp_path, segment_bytes=100, max_bytes=10_000_000)
    bodies = [b"a", large, b"b", b"c"]
    for body in bodies:
        frame = frames.encode(frames.EVENT, body)
        assert log.has_room(len(frame))
        log.write(frame)
    assert everything(log) == bodies
    assert log.used_bytes == sum(len(frames.encode(frames.EVENT, body)) for body in bodies)
    assert len(log.segments()) == 3


def test_numbers_of_dropped_segments_are_not_used_again(tmp_path: Path) -> None:
    written(tmp_path, BODIES, segment_bytes=10)
    log = opened(tmp_path)
    assert (log.tail, log.segments()) == (Position(4, 0), [1, 2, 3])
    log.drop_before(4)
    assert log.used_bytes == 0
    log.close()
    log = opened(tmp_path)
    log.skip(3)
    assert log.tail == Position(4, 0)


def test_the_folder_belongs_to_one_process(tmp_path: Path) -> None:
    log = opened(tmp_path)
    with pytest.raises(TradetapeError, match=rf"in use by process {os.getpid()}; .*folder of its own"):
        opened(tmp_path)
    log.close()
    opened(tmp_path).close()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TradetapeError, match="cannot be used"):
        opened(tmp_path / "file")
