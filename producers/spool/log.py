"""The files of a spool: append-only segments in one folder, one process at a time (P-07)."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from tradetape.producers.spool import frames
from tradetape.producers.spool.frames import Damage, Frame
from tradetape.schemas.errors import TradetapeError

SUFFIX = ".spool"
DAMAGED = ".damaged"
LOCK = "lock"

CHUNK = 1024 * 1024
"""Bytes read at a time, unless one frame is longer."""

_LOG = logging.getLogger("tradetape.spool")


class Position(NamedTuple):
    """A place in the log: everything before it comes first."""

    segment: int
    offset: int


class Batch(NamedTuple):
    """What the log holds at a position, and the position behind it. Offsets of the items are those in ``segment``.

    No items: the segment has nothing more, and will not have.
    """

    segment: int
    items: tuple[Frame | Damage, ...]
    next: Position


class Log:
    """Segments ``<number>.spool``. One thread writes at a time; another may read and drop at the same time.

    ``segment_bytes`` is where a segment ends, unless one write is longer; all segments together never hold more than
    ``max_bytes``. Opening cuts off what a killed process left of an unfinished write.

    Raises TradetapeError where another process has the folder, or it cannot be used.
    """

    def __init__(self, folder: Path, *, segment_bytes: int, max_bytes: int, fsync: bool) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        self._lock = _lock(folder)
        self._descriptor: int | None = None
        try:
            sizes = self._recover()
        except OSError as error:
            os.close(self._lock)
            raise unusable(folder, error) from error
        # Each of the two is changed by one thread only, so that no lock is needed to compare them.
        self._written = sum(sizes.values())
        self._dropped = 0
        self.tail = Position(max(sizes, default=0) + 1, 0)
        """Where the next write goes: everything before it was written completely."""

    @property
    def used_bytes(self) -> int:
        """Bytes in all segments."""
        return self._written - self._dropped

    def skip(self, number: int) -> None:
        """Write behind segment ``number``, which is gone. Call it before the first write."""
        self.tail = max(self.tail, Position(number + 1, 0))

    def segments(self) -> list[int]:
        """Numbers of the segments that are there, in order."""
        return sorted(int(path.stem) for path in self.folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())

    def path(self, number: int) -> Path:
        """The file of segment ``number``."""
        return self.folder / f"{number:012d}{SUFFIX}"

    def has_room(self, size: int) -> bool:
        """Whether ``size`` bytes may be written now. Ends a segment that they do not fit, so that it can be dropped."""
        if self.tail.offset and self.tail.offset + size > self._segment_bytes:
            self._seal()
        return self.used_bytes + size <= self.max_bytes

    def write(self, data: bytes) -> None:
        """Append ``data`` and move ``tail`` behind it. Raises OSError, and then nothing of it stays."""
        segment, offset = self.tail
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            self._descriptor = os.open(self.path(segment), flags, 0o644)
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            if self._fsync:
                os.fsync(self._descriptor)
        except OSError:
            self._take_back(offset)
            raise
        self._written += len(data)
        self.tail = Position(segment, offset + len(data))

    def read(self, at: Position) -> Batch | None:
        """What is at ``at``, about a CHUNK of it; None at the tail. Raises OSError."""
        tail = self.tail
        if at >= tail:
            return None
        path = self.path(at.segment)
        size = tail.offset if at.segment == tail.segment else _size(path)
        if at.offset < size:
            return self._read(path, at, size)
        later = [number for number in self.segments() if at.segment < number < tail.segment]
        return Batch(at.segment, (), Position(min(later, default=tail.segment), 0))

    def drop_before(self, number: int) -> None:
        """Delete the segments below ``number``. Raises OSError."""
        for old in self.segments():
            if old < number:
                size = _size(self.path(old))
                self.path(old).unlink()
                self._dropped += size

    def keep_damaged(self, number: int) -> None:
        """Keep the bytes of segment ``number`` beside the log, also when the segment is dropped. Raises OSError."""
        kept = self.path(number).with_suffix(DAMAGED)
        if not kept.exists():
            shutil.copyfile(self.path(number), kept)

    def close(self) -> None:
        """Let the folder go."""
        self._seal()
        os.close(self._lock)

    def forget(self) -> None:
        """Close the copies of the descriptors in a forked process; its parent keeps the folder."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = None

    def _recover(self) -> dict[int, int]:
        numbers = self.segments()
        if numbers:
            path = self.path(numbers[-1])
            size, whole = _size(path), frames.torn_tail(path.read_bytes())
            if whole < size:
                _LOG.info(
                    "%s: cut off %d bytes at %d: the write of its last record did not end", path, size - whole, whole
                )
                os.truncate(path, whole)
        return {number: _size(self.path(number)) for number in numbers}

    def _read(self, path: Path, at: Position, size: int) -> Batch:
        with path.open("rb", buffering=0) as file:
            data = _pread(file.fileno(), min(CHUNK, size - at.offset), at.offset)
            if frames.read(data) is None:
                data = _pread(file.fileno(), size - at.offset, at.offset)
        items: list[Frame | Damage] = []
        end = 0
        while end < min(CHUNK, len(data)):
            frame = frames.read(data, end)
            if frame is None:
                break
            items.append(frame._replace(start=at.offset + frame.start, end=at.offset + frame.end))
            end = frame.end
        if not items:
            found = frames.resume(data, 0)
            end = found.end if isinstance(found, Damage) else len(data)
            items.append(Damage(at.offset, at.offset + end))
        return Batch(at.segment, tuple(items), Position(at.segment, at.offset + end))

    def _seal(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self.tail = Position(self.tail.segment + 1, 0)

    def _take_back(self, size: int) -> None:
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            # Half a record stays; nothing may be written behind it.
            self._seal()
            raise


def unusable(folder: Path, error: OSError) -> TradetapeError:
    """What to tell a person about ``error``."""
    return TradetapeError(
        f"the spool {folder} cannot be used ({error.strerror or error})",
        hint="give the recorder a folder on a local disk that it may write to",
    )


def _lock(folder: Path) -> int:
    import fcntl  # not on Windows, where a recorder works without a spool

    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unusable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise unusable(folder, error) from error
        raise TradetapeError(
            f"the spool {folder} is in use by process {holder}",
            hint="stop that process, or give each bot a folder of its own",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)
