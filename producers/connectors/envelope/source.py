"""JSON lines of the canonical contract, from a file or stdin, once or followed (S3-01…S3-06).

A line's position is its number in its file; its stream is the file, named by its first line (see ``rolling``). The log
is known by its path, and read on through rotation. A file that was changed before its place, or begins like another, is
a source of its own from then on (``<source_id>@<name of the stream>``), so that no new line is taken for an old one. An
ingest reads the one file that it was given. Stdin is a new source each time. Events that come again so are known by
their ids.

While a file is followed its last line waits for its newline. At the end it is taken in if it is a whole JSON object;
otherwise its bytes go out as a fragment without a position, and the line is read again when it is complete.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from tradetape.producers import unmapped
from tradetape.producers.adapters import envelope as adapter
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.envelope.counts import Lines
from tradetape.producers.connectors.envelope.file import LONGEST, EnvelopeSource, opened
from tradetape.producers.connectors.lines import AtEnd, Place, take
from tradetape.producers.connectors.rolling import RollingLog, is_kind
from tradetape.producers.connectors.summary import Progress, Summary
from tradetape.producers.emitter import Emits
from tradetape.schemas import identity
from tradetape.schemas.errors import TradetapeError


def check(path: Path) -> None:
    """Raise TradetapeError if the file at ``path`` cannot be read; nothing is sent."""
    if not is_kind(path, stat.S_ISFIFO):  # opening a pipe would wait for its writer, or take from it
        with opened(path):
            pass


def fingerprint(location: str) -> str:
    """The identity of the log: its path. Raises TradetapeError where there is none."""
    path = Path(location)
    if is_kind(path, stat.S_ISFIFO):
        raise TradetapeError(f"{path} is a pipe", hint="send it through `tradetape ingest envelope -`")
    if not RollingLog(path, longest=LONGEST).exists():
        raise TradetapeError(f"{path} does not exist", hint="give the file of JSON lines that the bot writes")
    return _fingerprint(path)


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> EnvelopeSource:
    """The log at ``location`` from ``saved`` on. Raises TradetapeError."""
    return EnvelopeSource(
        Path(location),
        origin.source_id,
        saved,
        instance_name=origin.instance_name,
        ingest_source=origin.ingest_source or "file",
        legacy=origin.legacy,
    )


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

    ``source_id`` names the source; without it the path does. Rotated files beside it are not read. ``legacy`` lets
    lines without correlation_id in (S3-03). A pipe is read like stdin. Raises TradetapeError for an unreadable file and
    for a stack that fails on the way (the next run resumes).
    """
    with opened(path) as stream:
        if not stream.seekable():
            return ingest_stream(stream, emitter, source_id=source_id, legacy=legacy, on_progress=on_progress)
    known_as = source_id or _fingerprint(path)
    source = EnvelopeSource(path, known_as, checkpoints.load(known_as), legacy=legacy, is_alone=True)
    progress = None if on_progress is None else lambda _done, _total: on_progress(*source.progress())
    return _summary(source, runner.run(source, emitter, checkpoints, on_progress=progress))


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
    place = Place()
    lines = Lines(adapter.Origin(f"{source_id}/{run_id}" if source_id else run_id, "stdin", "stdin", legacy))
    summary = Summary("stdin", lines.origin.source_id)
    taken = take(stream, place, longest=LONGEST, at_end=AtEnd.TELL)
    while batch := list(islice(taken, runner.BATCH)):
        for line in batch:
            summary.count(unmapped.send(emitter, lines.event(line, source_id=lines.origin.source_id)))
        emitter.flush()
        if on_progress is not None:
            on_progress(place.offset, None)
    for event in lines.ended():
        summary.count(unmapped.send(emitter, event))
    emitter.flush()
    summary.rows, summary.rejected, summary.incomplete = (
        {adapter.STREAM: place.line},
        lines.rejected,
        lines.is_incomplete,
    )
    return summary


def _summary(source: EnvelopeSource, sent: Summary) -> Summary:
    """What an ingest of ``source`` did."""
    done, total = source.progress()
    skipped, lines = source.taken()
    return Summary(
        source.name,
        source.known_as,
        rows={adapter.STREAM: lines},
        events=sent.events,
        skipped=skipped,
        rejected=source.lines.rejected,
        already_ingested=not sent.sent and lines > 0,
        incomplete=done < total,
        notes=source.notes,
    )


def _fingerprint(path: Path) -> str:
    return identity.derive(adapter.SYSTEM, str(path.resolve()))
