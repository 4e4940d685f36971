"""The SDK: what a bot calls to put its events on the record (S3-01, S3-02, S3-06).

    with Recorder(instance_name="bot1", producer="my_strategy", connector_name="kucoin", trading_pair="BTC-USDT",
                  bootstrap_servers="localhost:9092", registry_url="http://localhost:8081") as r:
        order = r.order_created(client_order_id="c1", side="buy", order_type="limit",
                                price="27000.5", amount_base="0.01", is_live=True)
        r.order_cancelled(client_order_id="c1", follows=order)

Recording takes about a tenth of a millisecond and never waits for Kafka; leaving the block does, and raises if
anything is not there.

With ``spool=Path("spool/bot1")`` an event is recorded when it is written to that folder, in some hundredths of a
millisecond, and goes to Kafka from there: Kafka and the registry may be away at any time, and a bot that is killed
and started again sends what it left (P-07).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from threading import Lock
from types import TracebackType
from typing import Any, Self

from tradetape.producers import events, unmapped
from tradetape.producers.emitter import Emits, Emitter
from tradetape.producers.events import EventRefused
from tradetape.producers.sdk import chains
from tradetape.producers.sdk.chains import Recorded
from tradetape.producers.spool import PatientEmitter, Spool, documents
from tradetape.schemas import envelope_json, environments, times
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.errors import TradetapeError

__all__ = ["Moment", "Number", "Recorded", "Recorder", "Turn"]

SYSTEM = "sdk"

Number = Decimal | int | str
"""Exact numbers only: a float is refused."""

Moment = datetime | int | str
"""Aware datetime, microseconds since 1970, or ISO-8601 text with Z."""


def _now() -> datetime:
    return datetime.now(UTC)


_RANDOM = Random()
"""Our own, seeded by the system: a bot may seed Python's. A forked process seeds its copy anew."""

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_RANDOM.seed)


def _new_id() -> str:
    """A random UUID (version 4); uuid4() takes four times as long."""
    digits = _RANDOM.randbytes(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:]}"


_VARIANTS = {f"{nibble:x}": "89ab"[nibble & 3] for nibble in range(16)}


MOST_TURNS = 10
"""``max_wait``s that one waits for its turn while others have theirs: 10 × 5 ms with a spool's default."""


class Turn:
    """A lock that tells who waits whether it changes hands: one that hangs is given up, one that is busy is not."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._came = 0

    def come(self, max_wait: float | None) -> bool:
        """Whether it is the caller's turn; ``end`` it then.

        Not, where one other's lasted all of ``max_wait`` seconds that were waited for it, or all others' together
        MOST_TURNS times that. None: it is waited for as long as it takes.
        """
        until = time.monotonic() + MOST_TURNS * (max_wait or 0)
        seen = self._came
        while not self._lock.acquire(timeout=-1 if max_wait is None else max_wait):
            before, seen = seen, self._came
            if seen == before or time.monotonic() >= until:
                return False
        self._came += 1
        return True

    def end(self) -> None:
        """It is another's turn."""
        self._lock.release()


class Recorder:
    """Records the events of one bot instance.

    ``environment`` is by default what the connector's name says (paper, testnet), else live. ``clock`` gives the time
    of events recorded without ``ts_utc``, ``new_id`` their ids and the run's id. Safe to share by threads.

    Pass an ``emitter`` to share one between recorders (it stays open), or the two addresses. With a ``spool`` events go
    through the disk: give a folder and the two addresses, or a started Spool to share one (it stays open).

    Raises TradetapeError at construction when the stack is not there, and at any call for deliveries that failed; with
    a spool, at construction when its folder is in use, and SpoolFull at ``record``.
    """

    def __init__(
        self,
        *,
        instance_name: str,
        producer: str,
        connector_name: str = "",
        trading_pair: str = "",
        controller_id: str = "",
        environment: str | None = None,
        account: str = "",
        bootstrap_servers: str = "",
        registry_url: str = "",
        emitter: Emits | None = None,
        spool: Spool | Path | None = None,
        clock: Callable[[], datetime] = _now,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self.instance_name = instance_name
        self.producer = producer
        self.connector_name = connector_name
        self.environment = environment or environments.of_connector(connector_name)
        self._defaults = {
            "instance_name": instance_name,
            "producer": producer,
            "connector_name": connector_name,
            "trading_pair": trading_pair,
            "controller_id": controller_id,
            "account": account,
        }
        if environment is not None:
            self._defaults["environment"] = environment
        self._clock = clock
        self._new_id = new_id
        self._lock = Lock()
        self._sequence = 0
        self.run_id = new_id()
        self._defaults |= {
            "run_id": self.run_id,
            "source_system": SYSTEM,
            "source_id": self.run_id,
            "source_stream": SYSTEM,
        }
        if emitter is not None and spool is not None:
            raise TradetapeError("a recorder takes an emitter or a spool", hint="start the spool, and give it alone")
        if emitter is None and not isinstance(spool, Spool) and not (bootstrap_servers and registry_url):
            raise TradetapeError("a recorder needs an emitter, or bootstrap_servers and registry_url")
        self._emitter = emitter
        self._spool = spool if isinstance(spool, Spool) else None
        self._owned: Emitter | Spool | None = None
        if isinstance(spool, Path):
            self._owned = self._spool = Spool(spool, name=instance_name)
            self._spool.start(partial(PatientEmitter, bootstrap_servers, registry_url, client_id=instance_name))
        elif emitter is None and spool is None:
            self._owned = self._emitter = Emitter(bootstrap_servers, registry_url, client_id=instance_name, block=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._spool is not None:
            self.close()
        elif kind is None:
            self.flush()
        elif self._owned is not None:
            self._owned.__exit__(kind, error, at)

    def now(self) -> datetime:
        """The recorder's time."""
        return self._clock()

    def new_id(self) -> str:
        """A fresh id."""
        return self._new_id()

    @contextmanager
    def turn(self, turn: Turn) -> Iterator[None]:
        """Have ``turn``, of those who record in here one at a time, and end it (P-07).

        Raises SpoolFull, counted as a refused event, where it does not come: see ``Turn.come``. Without a spool it is
        waited for as long as it takes.
        """
        if not turn.come(None if self._spool is None else self._spool.max_wait):
            assert self._spool is not None
            raise self._spool.refuse(self._defaults)
        try:
            yield
        finally:
            turn.end()

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until Kafka has everything recorded so far; raises TradetapeError if not, after ``timeout`` s."""
        way = self._spool or self._emitter
        assert way is not None
        way.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """End recording. Waits for Kafka for ``timeout`` s at most, and raises TradetapeError where it must.

        With a spool of its own, what Kafka does not have by then stays on the disk for the next start: no error.
        A shared spool or emitter stays open.
        """
        if isinstance(self._owned, Spool):
            self._owned.close(timeout)
        elif self._spool is None:
            self.flush(timeout)

    def record(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        follows: Recorded | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        ts_utc: Moment | None = None,
        event_id: str | None = None,
        **context: Any,
    ) -> Recorded:
        """Record one event and return its ids.

        Without ``follows`` or ``correlation_id`` it is the first of its chain, and correlation_id is its event_id;
        ``follows`` also makes that event the direct cause. Inside ``chains.following(event)``, an event without any of
        these follows that one. ``context`` overrides envelope fields, e.g. trading_pair.
        Payload keys that the schema does not know are kept. An event that breaks a contract rule is still evidence:
        it goes out as an UnmappedRecord, and the processor writes the reasons.

        Raises TradetapeError for an unknown or a control event type, for a float where a decimal belongs, for values
        that JSON cannot hold, for a full queue and for deliveries that failed; SpoolFull for a full spool (P-07).
        """
        known = event_types().get(event_type)
        if known is None or known.control:
            raise TradetapeError(f"{event_type!r} is no event type to record", hint="see `tradetape schemas list`")
        if follows is None and correlation_id is None and causation_id is None:
            follows = chains.cause()
        native_id = event_id or self._new_id()
        fields: dict[str, Any] = {
            **self._defaults,
            "ts_utc": self._clock() if ts_utc is None else ts_utc,
            "event_id": native_id,
            "correlation_id": correlation_id or (follows.correlation_id if follows else native_id),
        }
        cause = causation_id or (follows.event_id if follows else None)
        if cause is not None:
            fields["causation_id"] = cause
        if self._spool is not None:
            document = documents.draft(event_type, fields, context, payload)
            return self._put_down(self._spool, document, is_uuid=not event_id and self._new_id is _new_id)
        # The lock spans numbering and emitting: positions must reach Kafka in their order.
        with self._lock:
            return self._send(event_type, payload, {**fields, **context})

    def _send(self, event_type: str, payload: Mapping[str, Any], fields: dict[str, Any]) -> Recorded:
        assert self._emitter is not None
        fields["source_position"] = self._sequence + 1
        fields.setdefault("sequence", self._sequence + 1)
        try:
            event = events.new_event(event_type, payload=payload, **fields)
        except EventRefused as refused:
            event = self._unmapped(refused)
        unmapped.send(self._emitter, event)
        self._sequence += 1
        return Recorded(event["event_id"], event["correlation_id"] or event["event_id"])

    def _put_down(self, spool: Spool, document: dict[str, Any], *, is_uuid: bool) -> Recorded:
        if not (self._lock.acquire(False) or self._lock.acquire(timeout=spool.max_wait)):
            raise spool.refuse(document)
        try:
            number = self._sequence + 1
            document["source_position"] = number
            document.setdefault("sequence", number)
            spool.append(document, documents.write_drafted)
            self._sequence = number
        finally:
            self._lock.release()
        event_id = document["event_id"] if is_uuid else documents.event_id_of(document)
        return Recorded(event_id, document["correlation_id"])

    def _unmapped(self, refused: EventRefused) -> events.Event:
        reading = envelope_json.read_document(refused.document, source_id=self.run_id)
        return unmapped.unmapped(
            format=envelope_json.FORMAT,
            error=unmapped.explain(refused.violations),
            native=events.to_json(refused.document),
            fields={"ts_utc": times.to_micros(self._clock())} | reading.event | {"ingest_source": SYSTEM},
            location=SYSTEM,
        )

    def order_created(
        self,
        *,
        client_order_id: str,
        side: str,
        order_type: str,
        amount_base: Number,
        is_live: bool,
        price: Number | None = None,
        amount_quote: Number | None = None,
        **more: Any,
    ) -> Recorded:
        """An order was sent. ``price`` in quote per base (needed for limit-like orders), ``amount_base`` in base."""
        return self._record(
            "order_created",
            more,
            client_order_id=client_order_id,
            side=side,
            order_type=order_type,
            price=price,
            amount_base=amount_base,
            amount_quote=amount_quote,
            is_live=is_live,
        )

    def order_cancelled(
        self, *, client_order_id: str, reason: str | None = None, cancel_source: str | None = None, **more: Any
    ) -> Recorded:
        """An order ended by cancellation. ``cancel_source`` is strategy, risk, ops or exchange."""
        return self._record(
            "order_cancelled", more, client_order_id=client_order_id, reason=reason, cancel_source=cancel_source
        )

    def order_failed(
        self,
        *,
        error_message: str,
        client_order_id: str | None = None,
        error_code: str | None = None,
        failure_stage: str | None = None,
        **more: Any,
    ) -> Recorded:
        """An order was refused. ``failure_stage`` is create, cancel or update."""
        return self._record(
            "order_failed",
            more,
            client_order_id=client_order_id,
            error_code=error_code,
            error_message=error_message,
            failure_stage=failure_stage,
        )

    def order_expired(self, *, client_order_id: str, reason: str | None = None, **more: Any) -> Recorded:
        """An order ended by its time in force."""
        return self._record("order_expired", more, client_order_id=client_order_id, reason=reason)

    def order_completed(self, *, client_order_id: str, side: str | None = None, **more: Any) -> Recorded:
        """The bot considers the order fully executed."""
        return self._record("order_completed", more, client_order_id=client_order_id, side=side)

    def order_filled(
        self,
        *,
        client_order_id: str,
        fill_price: Number,
        fill_qty_base: Number,
        fill_qty_quote: Number,
        fee_asset: str,
        fee_amount: Number,
        liquidity_side: str = "unknown",
        fill_id: str | None = None,
        side: str | None = None,
        **more: Any,
    ) -> Recorded:
        """One execution. Price in quote per base, quantities in base and quote; a negative fee is a rebate."""
        return self._record(
            "order_filled",
            more,
            client_order_id=client_order_id,
            fill_id=fill_id,
            fill_price=fill_price,
            fill_qty_base=fill_qty_base,
            fill_qty_quote=fill_qty_quote,
            fee_asset=fee_asset,
            fee_amount=fee_amount,
            liquidity_side=liquidity_side,
            side=side,
        )

    def order_status(self, *, client_order_id: str, status: str, **more: Any) -> Recorded:
        """A status of an order that no other type stands for."""
        return self._record("order_status", more, client_order_id=client_order_id, status=status)

    def order_snapshot(self, *, client_order_id: str, **more: Any) -> Recorded:
        """The state of an order whose creation was not recorded: side, order_type, price, amount_base, status."""
        return self._record("order_snapshot", more, client_order_id=client_order_id)

    def risk_decision(
        self,
        *,
        approved: bool,
        decision: str,
        reason: str,
        max_notional_quote: Number | None = None,
        policy_name: str | None = None,
        **more: Any,
    ) -> Recorded:
        """A risk check. ``decision`` is allow, soft_pause, hard_stop or reduce."""
        return self._record(
            "risk_decision",
            more,
            approved=approved,
            decision=decision,
            reason=reason,
            max_notional_quote=max_notional_quote,
            policy_name=policy_name,
        )

    def state_snapshot(
        self, *, state: str, regime: str | None = None, equity_quote: Number | None = None, **more: Any
    ) -> Recorded:
        """State of the bot: running, soft_pause or hard_stop; net_edge_pct, spread_pct, base_pct, target_base_pct."""
        return self._record("state_snapshot", more, state=state, regime=regime, equity_quote=equity_quote)

    def _record(self, event_type: str, more: dict[str, Any], **payload: Any) -> Recorded:
        """``more`` holds arguments of ``record`` by their names, and any further payload keys."""
        if not more:
            return self.record(event_type, payload)
        arguments = {name: more.pop(name) for name in _ARGUMENTS & more.keys()}
        return self.record(event_type, payload | more, **arguments)


_ARGUMENTS = frozenset(
    {"follows", "correlation_id", "causation_id", "ts_utc", "event_id", "account", "connector_name", "trading_pair"}
    | {"controller_id", "aggregate_id", "aggregate_type", "dry_run", "owner", "user_id", "source", "supersedes"}
)
"""Arguments of the typed methods that belong to the envelope; everything else is payload."""
