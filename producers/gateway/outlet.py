"""Where events are kept before a POST is answered: Kafka, and the spool while Kafka is away (P-06, P-07).

The order of POSTs that wait for one another is kept across an outage: after the first event that Kafka did not
acknowledge in time everything goes through the spool, until Kafka has all of it and no POST is in work. An event that
reached Kafka unseen then comes twice, under one id, which the processor recognises.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from tradetape.producers import unmapped
from tradetape.producers.emitter import EventTooLarge
from tradetape.producers.gateway import reading
from tradetape.producers.gateway.direct import DirectEmitter, Receipt, Undeliverable
from tradetape.producers.gateway.reading import Taken
from tradetape.producers.spool import Spool
from tradetape.schemas import crashpoints
from tradetape.schemas.errors import TradetapeError

ACK_SECONDS = 1.0
"""How long Kafka may take to acknowledge a POST's events before they go to the spool."""

TURN_EVENTS = 50
"""Events handled between two turns of other requests."""

LOOK_SECONDS = 0.1
"""Between two looks at the spool while it drains."""

NEARLY_BYTES = 1024 * 1024
"""So little left in the spool that POSTs may wait for the rest."""

HOLD_SECONDS = ACK_SECONDS + 0.5
"""How long POSTs wait at most for the way back to Kafka."""

BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
ANSWER_SECONDS = 1.0
"""How long Kafka may take to answer a question about its health; an answer holds as long."""

_LOG = logging.getLogger("tradetape.gateway")


class Unavailable(TradetapeError):
    """Neither Kafka nor the spool took all of it."""


class Outlet:
    """Keeps events in Kafka or in ``spool``. ``connect`` makes the emitter; it may raise TradetapeError, and block.

    The spool must have been started. Use it on one event loop: ``start``, ``take`` any number of times, ``close``.
    """

    def __init__(self, spool: Spool, connect: Callable[[], DirectEmitter], *, ack_seconds: float = ACK_SECONDS) -> None:
        self.refusing = False
        """The last events were taken by neither."""
        self._spool = spool
        self._connect = connect
        self._ack_seconds = ack_seconds
        self._direct: DirectEmitter | None = None
        self._inside = 0
        self._open = asyncio.Event()
        self._open.set()
        self._disk = ThreadPoolExecutor(1, "tradetape-gateway-spool")
        self._returning: asyncio.Task[None] | None = None
        self._answered: tuple[float, bool] = (float("-inf"), False)

    @property
    def is_direct(self) -> bool:
        """Whether events go straight to Kafka."""
        return self._direct is not None

    def start(self) -> None:
        """Begin with the spool: what an earlier process left comes first. Then go over to Kafka."""
        self._go_back(None)

    async def take(self, taken: Sequence[Taken]) -> list[Taken]:
        """Return when all of ``taken`` are in Kafka or in the spool, as they were kept.

        Raises Unavailable where they are not; some may be kept all the same.
        """
        await self._open.wait()
        self._inside += 1
        try:
            kept = list(taken)
            left = range(len(kept)) if self._direct is None else await self._send(self._direct, kept)
            if left:
                await self._keep([kept[index] for index in left])
            return kept
        finally:
            self._inside -= 1

    async def kafka_answers(self) -> bool:
        """Whether Kafka answers now, or did a moment ago."""
        at, answer = self._answered
        if monotonic() - at > ANSWER_SECONDS:
            self._answered = (monotonic(), answer)
            direct = self._direct
            answer = direct is not None and await asyncio.to_thread(direct.answers, ANSWER_SECONDS)
            self._answered = (monotonic(), answer)
        return answer

    async def close(self, drain_timeout: float = 5.0) -> int:
        """Let everything go, when no ``take`` is in work. Returns the bytes that stay in the spool's folder."""
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
        if self._direct is not None:
            await asyncio.to_thread(self._direct.abandon)
        self._disk.shutdown()
        return await asyncio.to_thread(self._spool.close, drain_timeout)

    async def _send(self, direct: DirectEmitter, kept: list[Taken]) -> Sequence[int]:
        """Send ``kept`` to Kafka; returns what it has not acknowledged, and then goes over to the spool."""
        receipt = Receipt(direct, len(kept), asyncio.get_running_loop())
        try:
            for index, taken in enumerate(kept):
                receipt.index = index
                try:
                    unmapped.send(receipt, taken.event)
                except (ValueError, TypeError, EventTooLarge) as error:
                    kept[index] = reading.refused(taken, str(error))
                    unmapped.send(receipt, kept[index].event)
                if index % TURN_EVENTS == TURN_EVENTS - 1:
                    await asyncio.sleep(0)
            crashpoints.reach("gateway.after_send")
            reason = f"no acknowledgement after {self._ack_seconds:g} s"
            missing = await receipt.missing(self._ack_seconds)
        except Undeliverable as error:
            reason = error.message
            missing = await receipt.missing(0)
        if missing:
            self._leave(direct, reason)
        return missing

    def _leave(self, direct: DirectEmitter, reason: str) -> None:
        if self._direct is direct:
            self._direct = None
            _LOG.warning("events go to the spool: %s", reason)
            self._go_back(direct)

    def _go_back(self, left: DirectEmitter | None) -> None:
        self._returning = asyncio.create_task(self._return_to_kafka(left))
        self._returning.add_done_callback(_tell_fault)

    async def _keep(self, taken: list[Taken]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._append, taken)
        except TradetapeError as error:
            if not self.refusing:
                _LOG.error("events are refused: %s", error)
            self.refusing = True
            raise Unavailable(error.message, hint=error.hint) from error
        self.refusing = False

    def _append(self, taken: list[Taken]) -> None:
        for one in taken:
            self._spool.append(reading.to_record(one))

    async def _return_to_kafka(self, left: DirectEmitter | None) -> None:
        """Abandon ``left``, and go over to Kafka when the spool is empty."""
        if left is not None:
            await asyncio.to_thread(left.abandon)
        direct: DirectEmitter | None = None
        failures = 0
        try:
            while True:
                if self._spool.health().waiting_bytes > NEARLY_BYTES:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                try:
                    if direct is None:
                        direct = await asyncio.to_thread(self._connect)
                except TradetapeError as error:
                    if not failures:
                        _LOG.warning("Kafka is not there: %s", error)
                    await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                    failures += 1
                    continue
                if await asyncio.to_thread(direct.answers, ANSWER_SECONDS) and await self._is_still():
                    self._direct, direct = direct, None
                    self.refusing = False
                    _LOG.info("events go to Kafka")
                    return
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._open.set()
            if direct is not None:
                direct.abandon()

    async def _is_still(self) -> bool:
        """Hold new POSTs until those in work are done and the spool is empty. If it becomes so, they are held on."""
        self._open.clear()
        until = monotonic() + HOLD_SECONDS
        while self._inside or self._spool.health().waiting_bytes:
            if monotonic() >= until:
                self._open.set()
                return False
            await asyncio.sleep(LOOK_SECONDS / 10)
        return True


def _tell_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _LOG.critical("the gateway stays with its spool; restart it", exc_info=task.exception())
