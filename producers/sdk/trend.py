"""Trend's EventBus on the record: publish, and be told (S2-01, S2-04)."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tradetape.producers.adapters import trend
from tradetape.producers.recorder import Recorder
from tradetape.producers.sdk.chains import Recorded, following
from tradetape.producers.sdk.mapped import Mapped
from tradetape.producers.sdk.values import plain
from tradetape.schemas.instruments import Instruments

_LOG = logging.getLogger("tradetape.sdk")


@dataclass(frozen=True, slots=True)
class Event:
    """What was published. ``sequence_num`` counts this bus's events from 1."""

    event_id: str
    event_type: str
    timestamp: datetime
    sequence_num: int
    payload: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    recorded: Recorded | None = None


Handler = Callable[[Event], Awaitable[None] | None]


class EventBus:
    """Publishes to the record first, then to the handlers of the type, in the order they were registered.

    A handler that fails is logged, and stops neither the others nor the publisher. What handlers publish follows the
    event that they handle. ``instruments`` reads symbols; by default they carry their quote (BTCUSDT).

    Beside the document's types there is ``CONFIGURATION_RECORDED``: publish it at start with ``initial_equity`` and the
    risk and news settings, and the bot's TradingState can be rebuilt from its events alone (S2-03).
    """

    def __init__(self, recorder: Recorder, instruments: Instruments | None = None) -> None:
        self._mapped = Mapped(recorder, trend.ADAPTER, instruments or Instruments())
        self._handlers: dict[str, list[Handler]] = {}
        self._published = 0

    def register(self, event_type: str, handler: Handler) -> None:
        """Call ``handler`` (plain or async) for every event of ``event_type``, in any spelling of it."""
        self._handlers.setdefault(_name(event_type), []).append(handler)

    async def publish(
        self, event_type: str, payload: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
    ) -> Event:
        """Record an event, then call its handlers.

        Raises TradetapeError for an unknown type, and as ``Recorder.record``: then no handler is called.
        """
        at, event_id = self._mapped.now(), self._mapped.new_id()
        record = {
            "event_id": event_id,
            "event_type": _text(event_type),
            "timestamp": at.isoformat(),
            "sequence_num": self._published + 1,
            "payload": plain(payload, "payload"),
            "metadata": plain(metadata or {}, "metadata"),
        }
        native = trend.native_of(record, b"", "sdk", 0)
        recorded = self._mapped.record(native)
        self._published += 1
        event = Event(
            recorded.event_id, _text(event_type), at, self._published, dict(payload), dict(metadata or {}), recorded
        )
        with following(recorded):
            for handler in tuple(self._handlers.get(_name(event_type), ())):
                await _call(handler, event)
        return event


async def _call(handler: Handler, event: Event) -> None:
    try:
        done = handler(event)
        if inspect.isawaitable(done):
            await done
    except Exception:
        _LOG.exception("a handler of %s failed; the event %s is on record", event.event_type, event.event_id)


def _text(event_type: str) -> str:
    return str(plain(event_type))


def _name(event_type: str) -> str:
    return trend.native_type(_text(event_type))
