"""Where requests meet the store: a few readers, each in a thread, and clients that may go away meanwhile.

A request takes a place, and gives it back when its answer is out or nobody waits for it. Starlette leaves a blocking
generator alone when the client goes, so the connection is watched here, and the statement stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tradetape.infra.api.reader import Abandoned, Reader
from tradetape.schemas.errors import TradetapeError

PLACES = 8
"""Requests that read at a time; the embedded engine runs 16 statements, the sink's among them."""

WAIT_SECONDS = 5.0
"""How long a request waits for a place."""

ANSWER_SECONDS, STREAM_SECONDS = 30.0, 600.0
"""How long an answer that is held together, and one that is streamed, may take."""

_LOG = logging.getLogger("tradetape.api")
T = TypeVar("T")


class Busy(Exception):
    """All places are taken."""


class Desk:
    """Reads for requests. ``connect`` makes a reader, of which there are at most ``places``."""

    def __init__(
        self, connect: Callable[[], Reader], *, places: int = PLACES, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._connect = connect
        self._wait_seconds = wait_seconds
        self._places = asyncio.Semaphore(places)
        self._idle: list[Reader] = []
        self._threads = ThreadPoolExecutor(places, thread_name_prefix="api")

    def close(self) -> None:
        """Let go of threads and connections; readers at work are abandoned by their requests."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for reader in self._idle:
            reader.close()

    async def answer(
        self,
        request: Request,
        work: Callable[[Reader], T],
        *,
        filters: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> T:
        """What ``work`` returns, done in a thread. Raises Busy, ClientDisconnect and what ``work`` raises."""
        place = await self._place(request.receive, seconds, filters)
        try:
            return await place.do(lambda: work(place.reader))
        finally:
            place.leave()

    async def stream(
        self,
        request: Request,
        work: Callable[[Reader], Iterator[bytes]],
        media_type: str,
        *,
        headers: Mapping[str, str] | None = None,
        filters: Mapping[str, str] | None = None,
        seconds: float = STREAM_SECONDS,
    ) -> Response:
        """The pieces that ``work`` yields, as an answer that is sent while they come.

        What fails before the first piece is raised as by ``answer``; later, the answer is cut off.
        """
        place = await self._place(request.receive, seconds, filters)
        pieces = work(place.reader)
        try:
            first = await place.do(lambda: next(pieces, b""))
        except BaseException:
            place.leave(pieces)
            raise
        return Streamed(place, first, pieces, media_type, headers=headers or {})

    async def _place(self, receive: Receive, seconds: float, filters: Mapping[str, str] | None) -> Place:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise Busy from None
        reader = self._idle.pop() if self._idle else self._connect()
        reader.begin(seconds, filters)
        return Place(reader, receive, self._threads, self._take_back, seconds=seconds)

    def _take_back(self, reader: Reader) -> None:
        self._idle.append(reader)
        self._places.release()


class Place:
    """A request's reader, while it has one. ``back`` takes it back once no thread is at work with it."""

    def __init__(
        self,
        reader: Reader,
        receive: Receive,
        threads: ThreadPoolExecutor,
        back: Callable[[Reader], None],
        *,
        seconds: float,
    ) -> None:
        self.reader = reader
        self.seconds = seconds
        self._threads = threads
        self._back = back
        self._work: asyncio.Future[Any] | None = None
        self._gone = asyncio.ensure_future(_gone(receive))

    async def do(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, done in a thread. Raises ClientDisconnect where the client goes meanwhile."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._work = future
        try:
            both: set[asyncio.Future[Any]] = {future, self._gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not future.done():
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self.reader.abandon))
        if not future.done() or self._gone.done():
            raise ClientDisconnect
        return future.result()

    def leave(self, pieces: Iterator[bytes] | None = None) -> None:
        """Give the place back, after what is at work, and after ``pieces`` have let go of their connection."""
        self._gone.cancel()
        loop = asyncio.get_running_loop()
        close = getattr(pieces, "close", None)

        def end(done: asyncio.Future[Any] | None) -> None:
            if done is not None and not done.cancelled():
                done.exception()  # It was told to whoever waited, or nobody waits.
            if close is None:
                self._back(self.reader)
            else:
                closing = loop.run_in_executor(self._threads, close)
                closing.add_done_callback(lambda _: self._back(self.reader))

        if self._work is None or self._work.done():
            end(self._work)
        else:
            self._work.add_done_callback(end)


class Streamed(Response):
    """A 200 that is sent while it is read: of it only a piece is held."""

    def __init__(
        self, place: Place, first: bytes, rest: Iterator[bytes], media_type: str, *, headers: Mapping[str, str]
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._place = place
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; where it cannot be ended well, its end is missing, which every client notices."""
        try:
            async with asyncio.timeout(self._place.seconds):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                piece: bytes | None = self._first
                while piece is not None:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    piece = await self._place.do(lambda: next(self._rest, None))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (ClientDisconnect, Abandoned, OSError):
            pass  # nobody reads it
        except (TradetapeError, TimeoutError) as error:
            _LOG.warning("an answer was cut off: %s", error or f"not read within {self._place.seconds:g} s")
        finally:
            self._place.leave(self._rest)


async def _gone(receive: Receive) -> None:
    """Ends when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
