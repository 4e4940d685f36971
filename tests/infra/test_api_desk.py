"""Requests that read: how many at a time, what happens when a client goes, and when the store fails half way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.testclient import TestClient

from tradetape.infra.api.app import create_app
from tradetape.infra.api.clients import Client as Known
from tradetape.infra.api.clients import Clients
from tradetape.infra.api.desk import Busy, Desk
from tradetape.infra.api.reader import Abandoned, Reader, TooHeavy
from tradetape.sinks.store import QueryRefused, StoreUnavailable


class Shelf(Reader):
    """Stands in for a reader: says what was done with it."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.stopped = threading.Event()
        self.closed = threading.Event()

    def abandon(self) -> None:
        self.stopped.set()

    def wait(self) -> str:
        """A statement that takes as long as somebody waits for it."""
        if self.stopped.wait(20):
            raise Abandoned
        return "nobody stopped it"

    def pieces(self, *pieces: bytes | Exception) -> Iterator[bytes]:
        try:
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed.set()

    def endless(self) -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            self.closed.set()


class Client:
    """Stands in for a connection: what was sent to it, and whether it is still there."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self.leave_after = 0

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) == self.leave_after:
            self.gone.set()
        await asyncio.sleep(0)

    @property
    def request(self) -> Request:
        return Request({"type": "http", "method": "GET", "path": "/", "headers": []}, self.receive)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def is_whole(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def run(test: Callable[[Desk, Shelf], Awaitable[None]], places: int = 1) -> None:
    """Run ``test`` with a desk whose readers are one shelf."""
    shelf = Shelf()

    async def go() -> None:
        desk = Desk(lambda: shelf, places=places, wait_seconds=0.05)
        async with asyncio.timeout(30):
            await test(desk, shelf)
        desk.close()

    asyncio.run(go())


async def soon(happened: threading.Event) -> None:
    assert await asyncio.to_thread(happened.wait, 20)


async def is_free(desk: Desk) -> bool:
    """Whether a place is taken back, at once or soon."""
    for _ in range(200):
        try:
            return await desk.answer(Client().request, lambda _: True)
        except Busy:
            continue
    return False


def test_an_answer_and_its_place_taken_back() -> None:
    async def test(desk: Desk, shelf: Shelf) -> None:
        for number in range(3):
            assert await desk.answer(Client().request, lambda _, number=number: number) == number
        with pytest.raises(TooHeavy):
            await desk.answer(Client().request, lambda _: _raise(TooHeavy("no")))
        assert await is_free(desk)
        assert not shelf.stopped.is_set()

    run(test)


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.req("S2-05")
def test_one_more_than_places_is_told_to_come_again() -> None:
    async def test(desk: Desk, shelf: Shelf) -> None:
        slow = asyncio.ensure_future(desk.answer(Client().request, lambda _: shelf.wait()))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await desk.answer(Client().request, lambda _: None)
        slow.cancel()
        assert await is_free(desk)

    run(test)


def test_a_client_that_goes_stops_its_statement() -> None:
    async def test(desk: Desk, shelf: Shelf) -> None:
        client = Client()
        asked = asyncio.ensure_future(desk.answer(client.request, lambda _: shelf.wait()))
        await asyncio.sleep(0)
        client.gone.set()
        with pytest.raises(ClientDisconnect):
            await asked
        await soon(shelf.stopped)
        assert await is_free(desk)

    run(test)


def test_a_stream_is_sent_piece_by_piece() -> None:
    async def test(desk: Desk, shelf: Shelf) -> None:
        client = Client()
        answer = await desk.stream(client.request, lambda _: shelf.pieces(b"a", b"b", b"c"), "text/csv")
        await answer(client.request.scope, client.receive, client.send)
        assert client.body == b"abc"
        assert client.is_whole
        assert [message.get("body") for message in client.sent] == [None, b"a", b"b", b"c", b""]
        assert await is_free(desk)

    run(test)


@pytest.mark.req("S2-05")
def test_a_client_that_goes_ends_its_stream() -> None:
    async def test(desk: Desk, shelf: Shelf) -> None:
        client = Client()
        client.leave_after = 5
        answer = await desk.stream(client.request, lambda _: shelf.endless(), "text/csv")
        await answer(client.request.scope, client.receive, client.send)
        await soon(shelf.closed)
        assert not client.is_whole
        assert await is_free(desk)

    run(test)


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), TooHeavy("slow")])
def test_what_fails_half_way_has_no_end(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def test(desk: Desk, shelf: Shelf) -> None:
        client = Client()
        answer = await desk.stream(client.request, lambda _: shelf.pieces(b"a", error), "text/csv")
        await answer(client.request.scope, client.receive, client.send)
        assert client.body == b"a"
        assert not client.is_whole
        assert await is_free(desk)

    run(test)
    assert "cut off" in caplog.text


def test_what_fails_before_the_first_piece_is_raised() -> None:
    async def test(desk: Desk, shelf: Shelf) -> None:
        with pytest.raises(StoreUnavailable):
            await desk.stream(Client().request, lambda _: shelf.pieces(StoreUnavailable("gone")), "text/csv")
        assert await is_free(desk)

    run(test)


def test_nothing_is_an_answer_too() -> None:
    async def test(desk: Desk, shelf: Shelf) -> None:
        client = Client()
        answer = await desk.stream(client.request, lambda _: shelf.pieces(), "text/csv")
        await answer(client.request.scope, client.receive, client.send)
        assert client.body == b""
        assert client.is_whole

    run(test)


def test_a_reader_keeps_to_its_time() -> None:
    now = 0.0
    reader = Reader("http://127.0.0.1:1", clock=lambda: now)
    reader.begin(10)
    now = 10.5
    with pytest.raises(TooHeavy, match="10 s"):
        reader.query("SELECT 1")
    with pytest.raises(TooHeavy):
        next(reader.raw("SELECT 1"))
    reader.begin(10)
    with pytest.raises(StoreUnavailable):
        reader.query("SELECT 1")
    reader.abandon()
    with pytest.raises(Abandoned):
        reader.query("SELECT 1")


class Failing(Reader):
    """Every read fails with ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__("http://127.0.0.1:1")
        self._error = error

    def query(self, *_args: Any, **_kwargs: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (TooHeavy("not answered within 30 s"), 503, "too-heavy"),
        (StoreUnavailable("ClickHouse at http://10.0.0.7:8123 does not answer"), 503, "unavailable"),
        (QueryRefused(60, "no such table"), 503, "not-ready"),
        (QueryRefused(62, "syntax error near SECRET"), 500, "fault"),
        (Busy(), 503, "busy"),
        (ValueError("SECRET"), 500, "fault"),
    ],
)
def test_every_failure_is_a_problem_with_what_to_do(error: Exception, status: int, name: str) -> None:
    token = "a-token-of-sixteen-or-more"
    app = create_app(Clients([(token, Known("all"))]), lambda: Failing(error), lambda _: None)
    with TestClient(app, headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False) as http:
        answer = http.get("/v1/events")
    found = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, found["type"]) == (status, f"urn:tradetape:api:{name}")
    assert found["hint"]
    assert ("retry-after" in answer.headers) is (status == 503)
    assert "SECRET" not in answer.text
    assert "10.0.0.7" not in answer.text
