"""Ingest of a Hummingbot database: every row accounted for, resumable, idempotent (P-10).

What is read, in which order and how it is resumed is the business of ``source``; an ingest follows it to
the end of one snapshot. The checkpoint is written after Kafka acknowledged everything it speaks of, so a kill repeats
the unacknowledged tail at most, under the same ids and positions.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.hummingbot.source import HummingbotSource
from tradetape.producers.connectors.hummingbot.store import BEFORE_ALL, open_store
from tradetape.producers.connectors.summary import Progress, Summary
from tradetape.producers.emitter import Emits

FLUSH_EVERY = runner.BATCH


def check(path: Path) -> None:
    """Raise TradetapeError if ``path`` cannot be ingested; nothing is sent."""
    with open_store(path):
        pass


def ingest(
    path: Path,
    emitter: Emits,
    checkpoints: Checkpoints,
    *,
    source_id: str | None = None,
    on_progress: Progress | None = None,
) -> Summary:
    """Send every event of the database at ``path`` that was not sent before, and wait for Kafka.

    ``source_id`` names the store; without it the fingerprint does. Raises TradetapeError for a file that cannot be
    ingested (before anything is sent) and for a stack that fails on the way (the next run resumes).
    """
    if source_id is None:
        with open_store(path) as store:
            source_id = store.fingerprint()
    with closing(HummingbotSource(path, source_id, checkpoints.load(source_id))) as source:
        after, skipped = source.last, source.taken()
        total = source.rows["OrderStatus"]

        def progress(sent: int, _: int | None) -> None:
            if on_progress is not None:
                on_progress(min(sent + skipped, total), total)

        summary = runner.run(source, emitter, checkpoints, on_progress=progress)
        summary.source_id, summary.rows, summary.skipped = source.known_as, source.rows, skipped
        summary.already_ingested = not summary.sent and after != BEFORE_ALL
        return summary
