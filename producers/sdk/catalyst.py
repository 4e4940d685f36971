"""Catalyst's event emitter on the record: persist, then notify (S1-01 … S1-05)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from tradetape.producers.adapters import catalyst
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.adapters.native import at
from tradetape.producers.recorder import Recorder, Turn
from tradetape.producers.sdk.aggregates import Aggregates
from tradetape.producers.sdk.chains import Recorded
from tradetape.producers.sdk.listeners import Listener, Listeners
from tradetape.producers.sdk.mapped import Mapped
from tradetape.producers.sdk.throttle import DEFAULT_CHANGE, PriceThrottle
from tradetape.producers.sdk.values import exact, plain
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.instruments import Instruments

PRICED, CLOSED = "position_priced", "position_closed"
"""Canonical types that the throttle looks at."""

ENDS = frozenset({"order_filled", "order_cancelled", "order_failed", "order_expired", CLOSED})
"""Canonical types after which an order or a position goes on no more."""

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


class EventEmitter:
    """Emits to the record first, then to the listeners of the type, then to those of all types.

    Listeners are called in the order of the record on one thread of the emitter, so that none holds up who emits; one
    that fails is logged, and stops nothing. What a listener emits follows the event that it was told. ``close`` (or
    leaving a ``with`` block, before the recorder's) waits for them; a process that ends without it may leave some of
    them untold. With a Recorder that has a spool, emitting is one write and never waits for Kafka, and for other
    threads only as ``Recorder.turn`` does: where one of them hangs in its write, SpoolFull is raised, and counted.

    Aggregates are numbered from 1 by this emitter, without gaps and in the order of the record. It remembers the
    MOST_AGGREGATES open orders and positions that were used last, and as many others: one that goes on after so many
    others were used is numbered anew. What the opening of an order or a position says is forgotten after its end, when
    LATE others have ended.

    Price updates pass a throttle of ``min_price_change`` (a fraction; None lets all through): those left out are
    neither recorded nor told, and counted in ``suppressed`` of the position's next one. Symbols are tickers quoted in
    USD unless ``instruments`` says otherwise. Safe to share by threads.
    """

    def __init__(
        self,
        recorder: Recorder,
        instruments: Instruments | None = None,
        *,
        min_price_change: Decimal | None = DEFAULT_CHANGE,
    ) -> None:
        self._recorder = recorder
        self._mapped = Mapped(recorder, catalyst.ADAPTER, instruments or Instruments(quote="USD"))
        self._throttle = PriceThrottle(min_price_change) if min_price_change is not None else None
        self._turn = Turn()
        self._aggregates = Aggregates()
        self._listeners: Listeners[CatalystEvent] = Listeners()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except TradetapeError as untold:
            if kind is None:
                raise
            _LOG.warning("%s", untold)

    def on(self, event_type: str, listener: Listener[CatalystEvent]) -> None:
        """Call ``listener`` for every event of ``event_type``, in any spelling of it, that is emitted from now on.

        Raises TradetapeError after ``close``.
        """
        self._listeners.add(_kind(event_type), listener)

    def on_all(self, listener: Listener[CatalystEvent]) -> None:
        """Call ``listener`` for every event that is emitted from now on. Raises TradetapeError after ``close``."""
        self._listeners.add(None, listener)

    def off(self, event_type: str, listener: Listener[CatalystEvent]) -> None:
        """No longer call ``listener`` for what is emitted of ``event_type`` from now on, in any spelling of it.

        Nothing happens where it was not registered.
        """
        self._listeners.remove(_kind(event_type), listener)

    def emit(self, event: CatalystEvent, source: str = "") -> Recorded | None:
        """Record ``event`` and have it told; returns its ids, None where the throttle left it out.

        ``source`` stands in for a missing metadata.source. Raises TradetapeError for an unknown type, and as
        ``Recorder.record``; then no listener is told, and the event may be emitted again as if for the first time.
        """
        kind, payload = _kind(event.event_type), plain(event.payload, "payload")
        # The turn spans deciding, the write and the telling: numbers and listeners keep the order of the record.
        with self._recorder.turn(self._turn):
            recorded = self._record(event, kind, payload, source)
            if recorded is not None:
                self._listeners.tell(kind, replace(event, payload=_copy(event.payload)), recorded)
        return recorded

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until the listeners were told everything emitted so far.

        Raises TradetapeError if not, after ``timeout`` seconds, and at once where a listener calls it.
        """
        self._listeners.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Wait until the listeners were told everything, what they emit themselves too, and end the telling.

        What is emitted later is recorded, and told to nobody. Raises as ``flush``; what is untold then is told on, for
        as long as the process lives.
        """
        self._listeners.close(timeout)

    def _record(self, event: CatalystEvent, kind: str, payload: dict[str, Any], source: str) -> Recorded | None:
        """Decide, record, and only then change what is remembered, so that what was refused may be emitted again."""
        key = (event.aggregate_type, event.aggregate_id)
        rule = rules(catalyst.ADAPTER.system).get(kind)
        becomes = rule.event if rule is not None else ""
        price = _number(payload, rule.payload["new_price"].paths) if rule is not None and becomes == PRICED else None
        aggregate = self._aggregates.get(key)
        if self._throttle is not None and price is not None:
            left_out = self._throttle.offer(key, price)
            if left_out is None:
                return None
            payload["suppressed"] = left_out
        elif self._throttle is not None and becomes == CLOSED:
            payload["suppressed"] = self._throttle.left_out(key)
        row = self._row(event, payload, source, aggregate.number + 1)
        recorded = self._mapped.record(catalyst.native_of(row, 0, aggregate.opening))
        opening = catalyst.opening(row) if kind in catalyst.OPENERS.values() else None
        over = self._aggregates.advance(key, aggregate, opening, ends=_ends(event.aggregate_type, becomes))
        if self._throttle is not None:
            if price is not None:
                self._throttle.keep(key, price)
            for gone in (key if becomes == CLOSED else None, over):
                self._throttle.forget(gone)
        return recorded

    def _row(self, event: CatalystEvent, payload: Mapping[str, Any], source: str, number: int) -> dict[str, Any]:
        """``event`` as the document's own store would hold it."""
        metadata = event.metadata
        return {
            "event_id": event.event_id or self._mapped.new_id(),
            "event_type": plain(event.event_type),
            "aggregate_type": event.aggregate_type,
            "aggregate_id": event.aggregate_id,
            "payload": json.dumps(payload, default=_text),
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


def _copy(value: Any) -> Any:
    """``value`` with containers of its own: the bot may change its payload when ``emit`` has returned."""
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copy(inner) for inner in value]
    if isinstance(value, tuple):
        return tuple(_copy(inner) for inner in value)
    return set(value) if isinstance(value, set) else value


def _kind(event_type: Any) -> str:
    return catalyst.native_type(plain(event_type))


def _ends(aggregate_type: str, becomes: str) -> bool:
    """Whether an event ends its aggregate: a fill ends the order, and not a position that it is told under."""
    about = str(plain(aggregate_type)).casefold()
    return becomes in ENDS and (about not in catalyst.OPENERS or becomes.startswith(about))


def _number(payload: Mapping[str, Any], paths: tuple[str, ...]) -> Decimal | None:
    """The number at the first of ``paths`` that is there; None where it is none, which is for the record to tell."""
    found = (value for path in paths if (value := at(payload, path)) is not None)
    try:
        value = next(found, None)
        return None if value is None else exact(value)
    except TradetapeError:
        return None


def _text(number: Decimal) -> str:
    return str(number)
