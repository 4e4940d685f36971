"""Takes open sources in, batch by batch, in the one order that loses nothing (P-06).

Poll, send, wait for Kafka, save the checkpoint, acknowledge. What fails at any of these steps leaves the last
checkpoint in place, which speaks of events that Kafka has and of no other: the source is opened there again, and the
events after it come a second time, under the same ids and positions.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence

from tradetape.producers import events, unmapped
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.source import Source
from tradetape.producers.connectors.summary import Progress, Summary
from tradetape.producers.emitter import Emits
from tradetape.producers.events import Event
from tradetape.schemas import envelope_json
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.errors import TradetapeError

BATCH = 2000
INTERVAL = 1.0
"""Seconds between two looks at a source that had nothing new."""


class KafkaFailed(TradetapeError):
    """Kafka did not take or not acknowledge events. Nothing that was sent since the last checkpoint is certain."""


def run(
    source: Source,
    emitter: Emits,
    checkpoints: Checkpoints,
    *,
    follow: bool = False,
    stop: threading.Event | None = None,
    batch: int = BATCH,
    interval: float = INTERVAL,
    on_progress: Progress | None = None,
    wait: Callable[[float], object] | None = None,
) -> Summary:
    """Take ``source`` in to its end, or until ``stop`` is set; ``source`` stays open.

    With ``follow`` the end of the store is waited at, ``interval`` seconds at a time (``wait`` is called with them);
    without it ``source_ended`` events close the run. A ``stop`` lets the batch at hand be finished and saved. Raises
    KafkaFailed, and TradetapeError for a store or a checkpoint that fails: open the source again at its checkpoint.
    """
    stop = stop or threading.Event()
    wait = wait or stop.wait
    reader = Reader(source, checkpoints, batch=batch)
    while not stop.is_set():
        taken = reader.poll()
        if not taken and not follow:
            reader.poll_end()
        reader.send(emitter)
        flush(emitter)
        reader.keep()
        if on_progress is not None:
            on_progress(reader.summary.sent, None)
        if not taken:
            if not follow:
                break
            wait(interval)
    return reader.summary


def flush(emitter: Emits) -> None:
    """Wait until Kafka has everything sent; raises KafkaFailed."""
    try:
        emitter.flush()
    except TradetapeError as error:
        raise KafkaFailed(error.message, hint=error.hint) from error


class Reader:
    """One open source: ``poll`` what is new, ``send`` it, then, once Kafka has it, ``keep`` the place.

    ``summary`` counts what was sent. Every method may raise TradetapeError; the reader is of no use then, and the
    checkpoint is where it was.
    """

    def __init__(self, source: Source, checkpoints: Checkpoints, *, batch: int = BATCH) -> None:
        self.source = source
        self.summary = Summary(source.name, source.source_id)
        self._checkpoints = checkpoints
        self._batch = batch
        self._polled: Sequence[Event] = ()
        self._saved = ""
        saved = checkpoints.load(source.source_id)
        if saved is not None:
            self._saved = _text(saved)
            self.summary.already_ingested = True

    def poll(self) -> int:
        """Read the next events of the source; the number of them, 0 where nothing is new."""
        self._polled = self.source.poll(self._batch)
        reach("connect.polled")
        return len(self._polled)

    def poll_end(self) -> None:
        """Read the events that close the source."""
        self._polled = self.source.ended()

    def send(self, emitter: Emits) -> int:
        """Send what was read; the number of events."""
        polled, self._polled = self._polled, ()
        for event in polled:
            try:
                self.summary.count(_send(emitter, event))
            except TradetapeError as error:
                raise KafkaFailed(error.message, hint=error.hint) from error
            self.summary.already_ingested = False
        reach("connect.sent")
        return len(polled)

    def keep(self) -> None:
        """Save the place and let the source know. Only after Kafka acknowledged what was taken."""
        reach("connect.acknowledged")
        state = self.source.state()
        text = _text(state)
        if text != self._saved:
            self._checkpoints.save(self.source.source_id, state)
            self._saved = text
        reach("connect.saved")
        self.source.acknowledge()


def _send(emitter: Emits, event: Event) -> str:
    """Emit ``event``; one that does not fit its schema goes as an UnmappedRecord, so that it stops nothing (P-08)."""
    try:
        return unmapped.send(emitter, event)
    except (ValueError, TypeError) as error:
        instead = unmapped.unmapped(
            format=event["source_system"] or envelope_json.FORMAT,
            error=f"not_encodable: {error}",
            native=event["native"] or events.to_json(event),
            fields={name: event[name] for name, kind in _PLACE.items() if isinstance(event[name], kind)},
        )
        return unmapped.send(emitter, instead)


_PLACE = {
    **dict.fromkeys(("event_id", "event_type", "producer", "instance_name", "correlation_id"), str),
    **dict.fromkeys(("source_system", "source_id", "source_stream", "adapter"), str),
    **dict.fromkeys(("environment", "ingest_source"), str),
    **dict.fromkeys(("ts_utc", "source_position"), int),
    "legacy": bool,
}
"""What an UnmappedRecord says of where its record is from: envelope fields, each with the type it must have."""


def _text(state: dict[str, object]) -> str:
    return json.dumps(state, separators=(",", ":"), sort_keys=True)
