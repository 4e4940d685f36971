"""Events to Kafka: typed Avro, idempotent, non-blocking, delivery errors surfaced (P-01)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self

from confluent_kafka import KafkaException, Message, Producer

from tradetape.schemas import topics
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Encoder
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry

OVERHEAD_BYTES = 4096
"""Left for Kafka's batch and record headers below the topic's largest message."""

QUEUE_MESSAGES = 100_000
QUEUE_KBYTES = 128 * 1024
"""Bounds of what waits in memory for Kafka."""

DELIVERY: Mapping[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "message.timeout.ms": 0,
    "enable.gapless.guarantee": True,
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "compression.type": "lz4",
}
"""No event is given up while later ones are still sent: a position that arrived after a hole would make the missing
ones look like repeats when they are sent again. How long to wait for Kafka is ``flush``'s to say."""

ANY_EVENT_TYPE = "unmapped_record"
"""Looked up at the start where the others are not: it tells whether the schemas are registered."""

ANY_PARTITION = -1
"""librdkafka's: the partitioner chooses."""

POLL_SECONDS = 0.1

KEEP_ERRORS = 20

_LOG = logging.getLogger("tradetape.kafka")
_LOG.addHandler(logging.NullHandler())

OnDelivery = Callable[[Any, Message], None]


class EventTooLarge(TradetapeError):
    """The encoded event is larger than the topic takes."""


class Emits(Protocol):
    """What connectors and the recorder need of an emitter."""

    def emit(self, event: dict[str, Any], event_type_name: str) -> None:
        """Take ``event`` over; it is sent in the background. Raises TradetapeError for earlier failures."""

    def flush(self, timeout: float = ...) -> None:
        """Return when Kafka acknowledged everything taken over; raises TradetapeError if it did not."""

    def cluster_id(self) -> str:
        """The id of the Kafka cluster."""


class Emitter:
    """An idempotent producer on ``tradetape.events``.

    ``block``: when the queue is full, ``emit`` waits for room; otherwise it raises. ``on_delivery`` is called with
    (error or None, message) for each event, on a thread that calls ``emit`` or ``flush``. ``ahead``: every schema is
    looked up before the first event, for callers that cannot send it again; otherwise each with the first event of
    its type. Safe to share by threads.

    Raises TradetapeError when Kafka or the registry does not answer, the topic is not there or a schema is not
    registered: all of it before the first event, and without ``ahead`` in ``emit`` for a schema that it looks up.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        registry_url: str,
        *,
        client_id: str = "tradetape",
        block: bool = True,
        on_delivery: OnDelivery | None = None,
        ahead: bool = True,
        timeout: float = 5.0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.block = block
        self.emitted = 0
        self.acknowledged = 0
        """Events that Kafka confirmed with all in-sync replicas; exact."""
        self.failed = 0
        self._on_delivery = on_delivery
        self._errors: list[str] = []
        self._lock = threading.Lock()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "client.id": client_id,
                **DELIVERY,
                "message.max.bytes": topics.MAX_EVENT_BYTES,
                "queue.buffering.max.messages": QUEUE_MESSAGES,
                "queue.buffering.max.kbytes": QUEUE_KBYTES,
                "error_cb": self._note,
                **(config or {}),
            },
            logger=_LOG,
        )
        self._last_note = ""
        self._cluster_id = self._connect(timeout)
        self._registry = Registry(registry_url)
        self._encoders: dict[str, Encoder] = {}
        self.look_up(event_types() if ahead else (ANY_EVENT_TYPE,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.flush()
        else:
            self._producer.flush(1.0)

    def partitions(self) -> int:
        """How many partitions ``tradetape.events`` has."""
        return self._partitions

    def cluster_id(self) -> str:
        """The id of the Kafka cluster: another cluster has none of what this one holds."""
        return self._cluster_id

    def look_up(self, names: Iterable[str]) -> None:
        """Get the schemas of these event types now; raises TradetapeError as the constructor does."""
        wanted = [event_types()[name] for name in names]
        ids = self._registry.look_up_all(topics.EVENTS, [event_type.schema for event_type in wanted])
        for event_type, schema_id in zip(wanted, ids, strict=True):
            self._encoders[event_type.name] = Encoder(event_type.schema, schema_id)

    def emit(self, event: dict[str, Any], event_type_name: str, *, partition: int | None = None) -> None:
        """Encode ``event`` and queue it under its instance's key, or for one ``partition`` (control records).

        Raises EventTooLarge; ValueError or TypeError where a value does not fit the schema; TradetapeError for
        deliveries that failed since the last call, without ``block`` for a full queue, and without ``ahead`` for a
        schema that cannot be looked up.
        """
        if event_type_name not in self._encoders:
            self.look_up((event_type_name,))
        value = self._encoders[event_type_name].encode(event)
        key = event["instance_name"].encode()
        if len(value) + len(key) > topics.MAX_EVENT_BYTES - OVERHEAD_BYTES:
            raise EventTooLarge(
                f"a {event_type_name} of {len(value)} bytes is larger than {topics.MAX_EVENT_BYTES - OVERHEAD_BYTES}"
            )
        self._raise_failures()
        while True:
            try:
                self._producer.produce(
                    topics.EVENTS,
                    value=value,
                    key=key,
                    partition=ANY_PARTITION if partition is None else partition,
                    on_delivery=self._delivered,
                )
                break
            except BufferError:
                if not self.block:
                    self._producer.poll(0)
                    raise TradetapeError(
                        f"{QUEUE_MESSAGES} events wait for Kafka at {self.bootstrap_servers}",
                        hint="the event was not taken; check `tradetape status`",
                    ) from None
                self._producer.poll(POLL_SECONDS)
                self._raise_failures()
            except KafkaException as error:
                raise self._unreachable(str(error)) from error
        with self._lock:
            self.emitted += 1
        self._producer.poll(0)

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until Kafka acknowledged everything. Raises TradetapeError if it did not within ``timeout`` seconds."""
        until = monotonic() + timeout
        left = len(self._producer)
        while left:
            left = self._producer.flush(max(0.0, min(1.0, until - monotonic())))
            self._raise_failures()
            if left and monotonic() >= until:
                raise self._unreachable(f"{left} events not acknowledged after {timeout:g} s; {self._last_note}")
        self._producer.poll(0)
        self._raise_failures()

    def _connect(self, timeout: float) -> str:
        try:
            metadata = self._producer.list_topics(timeout=timeout)
        except KafkaException as error:
            raise self._unreachable(error.args[0].str() if error.args else str(error)) from error
        if topics.EVENTS not in metadata.topics:
            raise TradetapeError(
                f"Kafka at {self.bootstrap_servers} has no topic {topics.EVENTS}",
                hint="create the topics with `tradetape up`",
            )
        self._partitions = len(metadata.topics[topics.EVENTS].partitions)
        return str(metadata.cluster_id)

    def _delivered(self, error: Any, message: Message) -> None:
        with self._lock:
            if error is None:
                self.acknowledged += 1
            else:
                self.failed += 1
                if len(self._errors) < KEEP_ERRORS:
                    self._errors.append(str(error))
        if self._on_delivery is not None:
            self._on_delivery(error, message)

    def _note(self, error: Any) -> None:
        self._last_note = error.str()

    def _raise_failures(self) -> None:
        with self._lock:
            errors, self._errors = self._errors, []
        if errors:
            raise self._unreachable(f"{self.failed} events not delivered, the first: {errors[0]}")

    def _unreachable(self, what: str) -> TradetapeError:
        return TradetapeError(
            f"Kafka at {self.bootstrap_servers} does not take events ({what.rstrip('; ')})",
            hint="start it with `tradetape up`, or check `tradetape status` and TRADETAPE_BOOTSTRAP_SERVERS",
        )
