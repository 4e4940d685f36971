"""Ingest of JSON lines of the canonical contract, from a file or stdin (S3-01…S3-06).

A line's position is its number. A file is known by its path and first line; it resumes where its checkpoint says, and
one that was changed before that place is another source from then on, so that no new line is taken for an old one.
Stdin is a new source each time. Events that come again so are known by their ids. A last line without a newline is
taken in if it is a whole JSON object; otherwise its bytes go out as a fragment without a position, and the line is
read again when it is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from tradetape.producers import unmapped
from tradetape.producers.adapters import envelope as adapter
from tradetape.producers.adapters.envelope import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.lines import Line, read_lines
from tradetape.producers.connectors.summary import Progress, Summary
from tradetape.producers.emitter import Emits
from tradetape.schemas import identity, times
from tradetape.schemas.envelope_json import MAX_LINE_BYTES
from tradetape.schemas.errors import TradetapeError

FLUSH_EVERY = 2000
LONGEST = MAX_LINE_BYTES
BOM = b"\xef\xbb\xbf"

CHANGED = "the file changed since it was ingested: it is read again from its beginning, as a new source"


def check(path: Path) -> None:
    """Raise TradetapeError if the file at ``path`` cannot be read; nothing is sent."""
    if not path.is_fifo():  # opening a pipe would wait for its writer, or take from it
        with _opened(path):
            pass


def ingest_file(
    path: Path,
    emitter: Emits,
    checkpoints: Checkpoints,
    *,
    source_id: str | None = None,
    legacy: bool = False,
    on_progress: Progress | None = None,
) -> Summary:
    """Send the lines of the file at ``path`` that were not sent before, and wait for Kafka.

    ``source_id`` names the source; without it the path and the first line do. ``legacy`` lets lines without
    correlation_id in (S3-03). A pipe is read like stdin. Raises TradetapeError for an unreadable file and for a stack
    that fails on the way (the next run resumes).
    """
    with _opened(path) as stream:
        if not stream.seekable():
            return ingest_stream(stream, emitter, source_id=source_id, legacy=legacy, on_progress=on_progress)
        first = next(read_lines(stream, longest=LONGEST), None)
        first_hash = hashlib.sha256(first.content if first else b"").hexdigest()
        known_as = source_id or identity.derive(adapter.SYSTEM, str(path.resolve()), first_hash)
        state = _State.of(checkpoints.load(known_as))
        notes = []
        if state.offset and not _continues(stream, state, first_hash):
            state = _State(generation=state.generation + 1)
            notes.append(CHANGED)
        state.first_hash = first_hash
        stream.seek(state.offset)
        name = f"{known_as}@{state.generation}" if state.generation else known_as
        origin = Origin(name, "file", path.name, legacy)
        summary = Summary(path.name, name, notes=notes)
        run = _Run(emitter, origin, state, summary, lambda: checkpoints.save(known_as, state.saved()))
        run.ingest(stream, on_progress, path.stat().st_size)
        return summary


def ingest_stream(
    stream: BinaryIO,
    emitter: Emits,
    *,
    source_id: str | None = None,
    legacy: bool = False,
    new_id: Callable[[], str] = lambda: str(uuid4()),
    on_progress: Progress | None = None,
) -> Summary:
    """Send all lines of ``stream``, e.g. stdin, and wait for Kafka.

    Lines are numbered from 1 in each run, so the source is a new one each time: ``source_id`` with the run's id
    behind it, or the run's id from ``new_id`` alone. Raises TradetapeError for a stack that fails on the way.
    """
    run_id = new_id()
    origin = Origin(f"{source_id}/{run_id}" if source_id else run_id, "stdin", "stdin", legacy)
    summary = Summary("stdin", origin.source_id)
    _Run(emitter, origin, _State(), summary, lambda: None).ingest(stream, on_progress, None)
    return summary


@dataclass(slots=True)
class _Instance:
    environment: str
    lines: int = 0
    latest: int = 0
    events: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _State:
    """What Kafka has of a source. ``open_line``: the last line taken in had no newline yet.

    ``generation`` counts how often the file was changed behind our back.
    """

    generation: int = 0
    offset: int = 0
    line: int = 0
    first_hash: str = ""
    last_start: int = 0
    last_hash: str = ""
    open_line: bool = False
    fragment: str = ""
    ended: set[str] = field(default_factory=set)
    instances: dict[str, _Instance] = field(default_factory=dict)

    @classmethod
    def of(cls, saved: dict[str, Any] | None) -> _State:
        if saved is None or saved.get("adapter") != adapter.SYSTEM:
            return cls()
        simple = {name: saved[name] for name in _SIMPLE}
        instances = {name: _Instance(**inner) for name, inner in saved["instances"].items()}
        return cls(**simple, ended=set(saved["ended"]), instances=instances)

    def saved(self) -> dict[str, Any]:
        return {
            "adapter": adapter.SYSTEM,
            **{name: getattr(self, name) for name in _SIMPLE},
            "ended": sorted(self.ended),
            "instances": {
                name: {
                    "environment": found.environment,
                    "lines": found.lines,
                    "latest": found.latest,
                    "events": found.events,
                }
                for name, found in self.instances.items()
            },
        }


_SIMPLE = ("generation", "offset", "line", "first_hash", "last_start", "last_hash", "open_line", "fragment")


class _Run:
    def __init__(
        self, emitter: Emits, origin: Origin, state: _State, summary: Summary, save: Callable[[], None]
    ) -> None:
        self._emitter = emitter
        self._origin = origin
        self._state = state
        self._summary = summary
        self._save_state = save
        self._unsaved = 0

    def ingest(self, stream: BinaryIO, on_progress: Progress | None, total: int | None) -> None:
        state = self._state
        self._summary.skipped = state.line
        before = state.offset
        for line in read_lines(stream, longest=LONGEST, offset=state.offset):
            if state.open_line:
                self._finish_open_line(line)
            else:
                self._take(line)
            if self._unsaved >= max(FLUSH_EVERY, len(state.instances)):
                self._save()
                if on_progress is not None:
                    on_progress(line.end, total)
        for name, instance in state.instances.items():
            self._end(name, instance)
        if self._unsaved or state.offset != before:
            self._save()
        if on_progress is not None:
            on_progress(state.offset, total)
        self._summary.rows = {adapter.STREAM: state.line}
        self._summary.already_ingested = not self._summary.sent and state.line > 0

    def _take(self, line: Line) -> None:
        number = self._state.line + 1
        content = line.content.removeprefix(BOM) if number == 1 else line.content
        content = content.removesuffix(b"\r") if line.length == len(line.content) else content
        if content.strip():
            length = line.length if line.length > len(line.content) else None
            event, broken = adapter.from_line(self._origin, content, number, length=length)
            if not line.ended and any(violation.code == "not_json" for violation in broken):
                self._take_fragment(content, number, "a last line without an end")
                return
            name = self._send(event, [violation.code for violation in broken])
            self._count(event, name)
        self._advance(line, number)
        self._state.open_line = not line.ended

    def _take_fragment(self, content: bytes, number: int, why: str) -> None:
        """Send bytes that are no whole line, once: the offset stays before them."""
        self._summary.incomplete = True
        found = hashlib.sha256(content).hexdigest()
        if self._state.fragment != found:
            event, broken = adapter.from_line(self._origin, content, number, fragment=why)
            self._send(event, [violation.code for violation in broken])
            self._state.fragment = found

    def _finish_open_line(self, line: Line) -> None:
        """The rest of a line that was taken in without its end: nothing but a newline, unless it was written on."""
        if line.content.strip():
            why = "written on to a line that had been taken in"
            event, broken = adapter.from_line(self._origin, line.content, self._state.line, fragment=why)
            self._send(event, [violation.code for violation in broken])
        self._advance(line, self._state.line)
        self._state.open_line = not line.ended

    def _advance(self, line: Line, number: int) -> None:
        state = self._state
        state.offset, state.line, state.last_start, state.fragment = line.end, number, line.start, ""
        state.last_hash = hashlib.sha256(line.content).hexdigest()

    def _send(self, event: dict[str, Any], broken: list[str]) -> str:
        name = unmapped.send(self._emitter, event)
        self._summary.count(name)
        for code in sorted(set(broken)):
            self._summary.rejected[code] = self._summary.rejected.get(code, 0) + 1
        self._unsaved += 1
        return name

    def _count(self, event: dict[str, Any], name: str) -> None:
        instance_name = event["instance_name"]
        if not instance_name:
            return
        instance = self._state.instances.setdefault(instance_name, _Instance(event["environment"]))
        instance.lines += 1
        instance.latest = max(instance.latest, event["ts_utc"])
        if name != unmapped.TYPE:
            instance.events[name] = instance.events.get(name, 0) + 1

    def _end(self, name: str, instance: _Instance) -> None:
        if not instance.events:
            return
        event = adapter.ended(
            self._origin,
            name,
            environment=instance.environment,
            lines=instance.lines,
            counts=instance.events,
            ts_utc=instance.latest or times.EARLIEST,
        )
        if event["event_id"] not in self._state.ended:
            self._send(event, [])
            self._state.ended.add(event["event_id"])

    def _save(self) -> None:
        self._emitter.flush()
        self._save_state()
        self._unsaved = 0


def _continues(stream: BinaryIO, state: _State, first_hash: str) -> bool:
    """Whether the file still has what was taken in: the same first line, and the same last line at its place."""
    if state.first_hash != first_hash and state.line > 1:
        return False
    stream.seek(state.last_start)
    last = next(read_lines(stream, longest=LONGEST, offset=state.last_start), None)
    if last is None:
        return False
    if state.open_line:
        # Written on since: its beginning must be what was taken in.
        length = state.offset - state.last_start
        return last.length >= length and hashlib.sha256(last.content[:length]).hexdigest() == state.last_hash
    return last.end == state.offset and hashlib.sha256(last.content).hexdigest() == state.last_hash


def _opened(path: Path) -> BinaryIO:
    hint = "give a file of JSON lines, or - for stdin"
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise TradetapeError(f"{path} does not exist", hint=hint) from None
    except IsADirectoryError:
        raise TradetapeError(f"{path} is a folder", hint=hint) from None
    except OSError as error:
        raise TradetapeError(f"{path} cannot be read ({error.strerror})", hint=hint) from error
