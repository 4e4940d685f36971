"""Correlation and causation carried along: what is recorded inside ``following(event)`` follows that event (S3-02).

    signal = recorder.record("signal_generated", {...})
    with following(signal):
        recorder.order_created(...)        # same correlation_id, caused by the signal

Works across ``await`` and in tasks started inside; a new thread begins without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Recorded(NamedTuple):
    """What was recorded: pass it as ``follows=`` to what happens because of it."""

    event_id: str
    correlation_id: str


_CAUSE: ContextVar[Recorded | None] = ContextVar("tradetape_cause", default=None)


@contextmanager
def following(cause: Recorded) -> Iterator[Recorded]:
    """Events recorded inside carry ``cause``'s correlation_id, and its event_id as causation_id."""
    token = _CAUSE.set(cause)
    try:
        yield cause
    finally:
        _CAUSE.reset(token)


def cause() -> Recorded | None:
    """The event that is being followed here, if any."""
    return _CAUSE.get()
