"""A recorder for tests: events in a list, ids that count, a clock that ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

from tests.producers.support import Listed

from tradetape.producers.recorder import Recorder


def recorder(emitter: Listed) -> Recorder:
    """A recorder of bot1 on ibkr that sends to ``emitter``."""
    ids, ticks = count(1), count()
    start = datetime(2026, 2, 12, 14, 30, tzinfo=UTC)
    return Recorder(
        instance_name="bot1",
        producer="bot",
        connector_name="ibkr",
        emitter=emitter,
        clock=lambda: start + timedelta(seconds=next(ticks)),
        new_id=lambda: f"00000000-0000-4000-8000-{next(ids):012d}",
    )
