"""The consumer: events handed out to a program that acts on them, at least once (S4-05)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self

from tradetape.producers.consumer.deliveries import PROCESSING_SECONDS, RETRIES, Deliveries, Delivery
from tradetape.producers.consumer.member import Member
from tradetape.producers.consumer.messages import ACCEPTED, EventReader, Filter, Message, Reads, Unreadable
from tradetape.producers.consumer.subscription import EARLIEST, LATEST, Subscription
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry

BATCH_SIZE = 10
BATCH_SECONDS = 0.1
PREFETCH = 1000
SESSION_SECONDS = 10.0

_LOG = logging.getLogger("tradetape.consumer")

Handler = Callable[[Message], object]
BatchHandler = Callable[[list[Message]], object]


class Consumer:
    """One member of the consumer group ``group`` on ``topic``.

    The members of a group share the partitions; when one ends or dies, the others take its partitions over, within
    ``session_timeout`` seconds after a kill. Messages come at least once, in the order of their partition; a worker
    that crashed may also have written a verdict twice. They are accepted events unless ``dispositions`` says otherwise
    (``tradetape.events`` has no verdicts: all come), and those that ``filter`` is true for; what is passed over counts
    as acknowledged.

    Each message must be acknowledged within ``processing_timeout`` seconds after it was handed out. One that is not, or
    that failed, is handed out again after each of ``retries`` seconds in turn, alone and before anything else of its
    partition; then it becomes a dead letter. The failures of the first message that is not acknowledged are kept in
    Kafka with the committed offset, so that the next member goes on counting. A caller that asks for nothing for twice
    the processing timeout loses its partitions to the other members, and gets a TradetapeError.

    ``broadcast``: this member gets everything, whatever others do; it needs a ``member`` name, and its consumer group
    is ``<group>.<member>``. Without ``broadcast``, ``member`` makes the membership static: a member that comes back
    within the session timeout gets its partitions back without a rebalance, and nobody else has them meanwhile.

    ``start``: where a group begins that never committed, ``earliest`` or ``latest``. ``until_end``: iteration ends
    when everything is done that was there when the partitions were assigned. Fetching pauses while ``prefetch``
    messages are held. ``config`` overrides settings of the Kafka clients, e.g. for TLS. Safe to share by threads.

    Raises TradetapeError at construction where Kafka does not answer or a topic is missing. The group is joined when
    the first message is asked for.
    """

    def __init__(
        self,
        group: str,
        *,
        bootstrap_servers: str,
        registry_url: str,
        topic: str = topics.AUDITED,
        filter: Filter | None = None,
        dispositions: Collection[str] = (ACCEPTED,),
        broadcast: bool = False,
        member: str = "",
        start: str = EARLIEST,
        batch_size: int = BATCH_SIZE,
        batch_timeout: float = BATCH_SECONDS,
        processing_timeout: float = PROCESSING_SECONDS,
        retries: Sequence[float] = RETRIES,
        until_end: bool = False,
        prefetch: int = PREFETCH,
        session_timeout: float = SESSION_SECONDS,
        config: Mapping[str, Any] | None = None,
        reader: Reads | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not group:
            raise TradetapeError("a consumer needs a group", hint="name it after what it does, e.g. execution")
        if broadcast and not member:
            raise TradetapeError(
                "a broadcast consumer needs a member name",
                hint="give each process its own, the same after a restart: it goes on where it was",
            )
        if start not in (EARLIEST, LATEST):
            raise TradetapeError(f"start is {start!r}", hint=f"say {EARLIEST} or {LATEST}")
        if batch_size < 1 or prefetch < 1 or processing_timeout <= 0:
            raise TradetapeError("batch_size, prefetch and processing_timeout must be greater than 0")
        self.batch_size = batch_size
        self.batch_timeout = batch_timeout
        self.acknowledged = 0
        self.passed_over = 0
        self._clock = clock
        self._reader = reader or EventReader(Registry(registry_url), filter=filter, dispositions=dispositions)
        self._changed = threading.Condition()
        self._deliveries = Deliveries(retries=retries, processing_timeout=processing_timeout)
        self._callers = 0
        self._stopped = False
        subscription = Subscription(
            bootstrap_servers=bootstrap_servers,
            group=f"{group}.{member}" if broadcast else group,
            topic=topic,
            instance="" if broadcast else member,
            start=start,
            until_end=until_end,
            prefetch=prefetch,
            processing_timeout=processing_timeout,
            session_timeout=session_timeout,
            config=config or {},
        )
        self._member = Member(subscription, self._deliveries, self._changed, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        if kind is None:
            self._raise_failure()

    def __iter__(self) -> Iterator[Message]:
        """Messages one by one, until ``stop`` or, with ``until_end``, the end."""
        while (message := self.take()) is not None:
            yield message

    @property
    def retried(self) -> int:
        """Failures that led to another attempt."""
        with self._changed:
            return self._deliveries.retried

    @property
    def dead_lettered(self) -> int:
        """Dead letters that Kafka has from this member."""
        with self._changed:
            return self._member.dead_lettered

    def take(self, timeout: float | None = None) -> Message | None:
        """The next message; None after ``timeout`` seconds without one, after ``stop`` and at the end.

        Raises TradetapeError where the member had to leave its group, and what ``filter`` raises.
        """
        return self._take(None if timeout is None else self._clock() + timeout)

    def batches(self) -> Iterator[list[Message]]:
        """Messages in batches: up to ``batch_size``, or what comes within ``batch_timeout`` seconds of the first.

        A message that is handed out again comes alone: one bad message does not take others along.
        """
        while (first := self.take()) is not None:
            batch = [first]
            until = self._clock() + self.batch_timeout
            while first.attempt == 1 and len(batch) < self.batch_size:
                message = self._take(until, first_attempts_only=True)
                if message is None:
                    break
                batch.append(message)
            yield batch

    def run(self, handler: Handler) -> None:
        """Call ``handler`` with each message; a return acknowledges it, an exception fails it, with its text as reason.

        Returns as iteration ends. Handlers are called one after another on this thread, never twice at a time for
        one message.
        """
        for message in self:
            self._handle([message], lambda messages: handler(messages[0]))

    def run_batches(self, handler: BatchHandler) -> None:
        """As ``run``, in ``batches``. An exception fails each message of the batch that is not acknowledged yet."""
        for batch in self.batches():
            self._handle(batch, handler)

    def _handle(self, messages: list[Message], handler: BatchHandler) -> None:
        try:
            handler(messages)
        except Exception as error:  # whatever a handler raises is a failed attempt: retried, then a dead letter
            reason = f"{type(error).__name__}: {error}"
            _LOG.warning("handler failed: %s", reason)
            for message in messages:
                self.fail(message, reason)
        else:
            for message in messages:
                self.ack(message)

    def ack(self, message: Message) -> bool:
        """As ``Message.ack``."""
        with self._changed:
            counts = message.delivery is not None and self._deliveries.settle(message.delivery.token)
            self.acknowledged += counts
            return counts

    def fail(self, message: Message, reason: str) -> bool:
        """As ``Message.fail``."""
        with self._changed:
            delivery = message.delivery
            counts = delivery is not None and self._deliveries.fail(delivery.token, reason, self._clock())
            self._changed.notify_all()
            return counts

    def stop(self) -> None:
        """End iteration and ``run`` after the message at hand; from any thread, a handler or a signal handler."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Commit what is acknowledged and leave the group; what is not acknowledged goes to the next member."""
        self.stop()
        self._member.leave()

    def _take(self, until: float | None, *, first_attempts_only: bool = False) -> Message | None:
        with self._changed:
            if not self._member.started and not self._stopped:
                self._member.start()
            self._callers += 1
            self._member.idle_since = None
        try:
            while True:
                delivery = self._claim(until, first_attempts_only)
                if delivery is None:
                    return None
                message = self._read(delivery)
                if message is not None:
                    return message
                if until is not None and self._clock() >= until:
                    return None
        finally:
            with self._changed:
                self._callers -= 1
                if not self._callers:
                    self._member.idle_since = self._clock()

    def _claim(self, until: float | None, first_attempts_only: bool) -> Delivery | None:
        with self._changed:
            while True:
                self._raise_failure()
                if self._stopped or self._member.ended:
                    return None
                now = self._clock()
                delivery = self._deliveries.claim(now, first_attempts_only=first_attempts_only)
                if delivery is not None:
                    return delivery
                if until is not None and now >= until:
                    return None
                due = None if first_attempts_only else self._deliveries.next_due()
                waits = [moment - now for moment in (until, due) if moment is not None]
                self._changed.wait(min(waits, default=None))

    def _read(self, delivery: Delivery) -> Message | None:
        """The message of ``delivery``; None where it is passed over, which settles it."""
        try:
            message = self._reader.read(delivery.record)
        except Unreadable as error:
            with self._changed:
                self._deliveries.fail(delivery.token, str(error), self._clock(), final=True)
            return None
        except BaseException:
            with self._changed:
                self._deliveries.release(delivery.token)
            raise
        if message is not None:
            return message.handed_out(delivery, self)
        with self._changed:
            self.passed_over += self._deliveries.settle(delivery.token)
        return None

    def _raise_failure(self) -> None:
        if self._member.failure is not None:
            raise self._member.failure
