"""Events straight to Kafka, with a receipt for each POST (P-01)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any

from confluent_kafka import KafkaException, Message

from tradetape.producers.emitter import OVERHEAD_BYTES, Emitter, EventTooLarge
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError

POLL_SECONDS = 0.1
LEAVE_SECONDS = 1.0
"""How long abandoned events may take to be given back."""

OnSettled = Callable[[Any, Message], None]
"""Called with an error or None when Kafka has decided about an event."""


class Undeliverable(TradetapeError):
    """Kafka does not take the event now."""


class DirectEmitter(Emitter):
    """An Emitter that says of each event when Kafka acknowledged it, on a thread of its own.

    Raises TradetapeError as Emitter, before the first event.
    """

    def __init__(self, bootstrap_servers: str, registry_url: str, *, timeout: float = 5.0) -> None:
        super().__init__(
            bootstrap_servers,
            registry_url,
            client_id="tradetape-gateway",
            block=False,
            timeout=timeout,
            config={"linger.ms": 1, "reconnect.backoff.max.ms": 1000},
        )
        self._gone = Flag()
        self._thread = Thread(target=self._poll, name="tradetape-gateway-kafka", daemon=True)
        self._thread.start()

    def produce(self, event: dict[str, Any], event_type_name: str, on_settled: OnSettled) -> None:
        """Queue ``event``. Raises EventTooLarge, ValueError or TypeError as ``emit``, and Undeliverable."""
        value = self._encoders[event_type_name].encode(event)
        key = event["instance_name"].encode()
        largest = topics.MAX_EVENT_BYTES - OVERHEAD_BYTES
        if len(value) + len(key) > largest:
            raise EventTooLarge(f"a {event_type_name} of {len(value)} bytes is larger than {largest}")
        if self._gone.is_set():
            raise Undeliverable("Kafka did not acknowledge events in time")
        try:
            self._producer.produce(topics.EVENTS, value=value, key=key, on_delivery=on_settled)
        except (BufferError, KafkaException) as error:
            raise Undeliverable(f"Kafka does not take events ({error})") from error

    def answers(self, timeout: float) -> bool:
        """Whether Kafka answers within ``timeout`` seconds."""
        try:
            self._producer.list_topics(topics.EVENTS, timeout=timeout)
        except KafkaException:
            return False
        return True

    def abandon(self) -> None:
        """Give up on what was not sent: its receipts are settled with an error. The emitter takes nothing more."""
        self._gone.set()
        self._producer.purge()
        self._thread.join(LEAVE_SECONDS + POLL_SECONDS)

    def _poll(self) -> None:
        while not self._gone.is_set():
            self._producer.poll(POLL_SECONDS)
        for _ in range(int(LEAVE_SECONDS / POLL_SECONDS)):
            self._producer.poll(POLL_SECONDS)
            if not len(self._producer):
                return


class Receipt:
    """What Kafka acknowledged of ``size`` events; an ``Emits`` for the event at ``index`` at a time."""

    def __init__(self, direct: DirectEmitter, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.index = 0
        self._direct = direct
        self._has = [False] * size
        self._open = 0
        self._failed = False
        self._closed = False
        self._lock = Lock()
        self._loop = loop
        self._decided: asyncio.Future[None] = loop.create_future()

    def emit(self, event: dict[str, Any], event_type_name: str) -> None:
        """Send ``event`` for ``index``. Raises as DirectEmitter.produce."""
        with self._lock:
            self._open += 1
        try:
            self._direct.produce(event, event_type_name, partial(self._settle, self.index))
        except BaseException:
            with self._lock:
                self._open -= 1
            raise

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until Kafka has the events of every POST."""
        self._direct.flush(timeout)

    def cluster_id(self) -> str:
        """The id of the Kafka cluster."""
        return self._direct.cluster_id()

    async def missing(self, timeout: float) -> list[int]:
        """What Kafka has not acknowledged when all is decided, one failed, or ``timeout`` seconds are over."""
        with self._lock:
            self._closed = True
            decided = not self._open or self._failed
        if not decided:
            await asyncio.wait([self._decided], timeout=timeout)
        return [index for index, has in enumerate(self._has) if not has]

    def _settle(self, index: int, error: Any, _message: Message) -> None:
        with self._lock:
            self._open -= 1
            if error is None:
                self._has[index] = True
            else:
                self._failed = True
            decided = self._closed and (not self._open or self._failed)
        if decided:
            self._loop.call_soon_threadsafe(self._decide)

    def _decide(self) -> None:
        if not self._decided.done():
            self._decided.set_result(None)
