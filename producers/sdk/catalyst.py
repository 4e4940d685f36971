"""Catalyst's event emitter on the record: persist, then notify (S1-01 … S1-05)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from threading import RLock
from typing import Any

from tradetape.producers.adapters import catalyst
from tradetape.producers.recorder import Recorder
from tradetape.producers.sdk.chains import Recorded, following
from tradetape.producers.sdk.mapped import Mapped
from tradetape.producers.sdk.throttle import DEFAULT_CHANGE, PriceThrottle
from tradetape.producers.sdk.values import exact, plain
from tradetape.schemas.instruments import Instruments

PRICE_UPDATED = "POSITION_PRICE_UPDATED"
CLOSED = "POSITION_CLOSED"

_LOG = logging.getLogger("tradetape.sdk")


@dataclass(frozen=True, slots=True)
class EventMetadata:
    """Where an event comes from, and what it belongs to."""

    source: str = ""
    correlation_id: str | None = None
    causation_id: str | None = None
    user_id: str | None = None
    version: str = "1.0"


@dataclass(frozen=True, slots=True)
class CatalystEvent:
    """One event of an aggregate. Its payload has the keys of its type, see `tradetape schemas docs`."""

    event_type: str
    aggregate_type: str
    aggregate_id: str
    payload: Mapping[str, Any]
    metadata: EventMetadata = field(default_factory=EventMetadata)
    event_id: str = ""


Listener = Callable[[CatalystEvent], object]


class EventEmitter:
    """Emits to the record first, then to the listeners of the type, then to those of all types.

    A listener that fails is logged, and stops neither the others nor the caller. With a Recorder that has a spool,
    emitting is one write and never waits for Kafka. Aggregates are numbered from 1 by this emitter. Price updates pass
    a throttle of ``min_price_change`` (a fraction; None lets all through): those left out are neither recorded nor
    told, and counted in ``suppressed`` of the position's next one. Symbols are tickers quoted in USD unless
    ``instruments`` says otherwise.
    """

    def __init__(
        self,
        recorder: Recorder,
        instruments: Instruments | None = None,
        *,
        min_price_change: Decimal | None = DEFAULT_CHANGE,
    ) -> None:
        self._mapped = Mapped(recorder, catalyst.ADAPTER, instruments or Instruments(quote="USD"))
        self._throttle = PriceThrottle(min_price_change) if min_price_change is not None else None
        self._lock = RLock()
        self._sequences: dict[tuple[str, str], int] = {}
        self._openings: dict[tuple[str, str], dict[str, Any]] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._global: list[Listener] = []

    def on(self, event_type: str, listener: Listener) -> None:
        """Call ``listener`` for every event of ``event_type``."""
        self._listeners.setdefault(event_type, []).append(listener)

    def on_all(self, listener: Listener) -> None:
        """Call ``listener`` for every event."""
        self._global.append(listener)

    def off(self, event_type: str, listener: Listener) -> None:
        """No longer call ``listener`` for ``event_type``; nothing happens where it was not registered."""
        if listener in self._listeners.get(event_type, ()):
            self._listeners[event_type].remove(listener)

    def emit(self, event: CatalystEvent, source: str = "") -> Recorded | None:
        """Record ``event`` and notify; returns its ids, None where the throttle left it out.

        ``source`` stands in for a missing metadata.source. Raises TradetapeError for an unknown type, and as
        ``Recorder.record``; then no listener is told.
        """
        with self._lock:
            recorded = self._record(event, source)
        if recorded is None:
            return None
        with following(recorded):
            for listener in (*self._listeners.get(event.event_type, ()), *self._global):
                _call(listener, event)
        return recorded

    def _record(self, event: CatalystEvent, source: str) -> Recorded | None:
        payload = dict(event.payload)
        kind = catalyst.native_type(plain(event.event_type))
        key = (event.aggregate_type, event.aggregate_id)
        if self._throttle is not None and kind == PRICE_UPDATED and "new_price" in payload:
            left_out = self._throttle.offer(event.aggregate_id, exact(payload["new_price"]))
            if left_out is None:
                return None
            payload["suppressed"] = left_out
        if self._throttle is not None and kind == CLOSED:
            payload["suppressed"] = self._throttle.forget(event.aggregate_id)
        number = self._sequences.get(key, 0) + 1
        metadata = event.metadata
        row = {
            "event_id": event.event_id or self._mapped.new_id(),
            "event_type": plain(event.event_type),
            "aggregate_type": event.aggregate_type,
            "aggregate_id": event.aggregate_id,
            "payload": json.dumps(plain(payload, "payload"), default=_text),
            "metadata": json.dumps(
                {
                    "source": metadata.source or source,
                    "correlation_id": metadata.correlation_id,
                    "causation_id": metadata.causation_id,
                    "user_id": metadata.user_id,
                    "version": metadata.version,
                }
            ),
            "created_at": int(self._mapped.now().timestamp() * 1000),
            "sequence_number": number,
        }
        recorded = self._mapped.record(catalyst.native_of(row, 0, self._openings.get(key)))
        self._sequences[key] = number
        if kind in catalyst.OPENERS.values():
            self._openings[key] = catalyst.opening(row)
        return recorded


def _call(listener: Listener, event: CatalystEvent) -> None:
    try:
        listener(event)
    except Exception:
        _LOG.exception("a listener of %s failed; the event is on record", event.event_type)


def _text(number: Decimal) -> str:
    return str(number)
