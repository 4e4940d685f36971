"""The HTTP interface: ``POST /v1/events``, ``GET /v1/health``, ``GET /openapi.json`` (S3-01, S3-05, P-07, P-08)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from tradetape.producers.gateway import body, contract, problems, reading
from tradetape.producers.gateway.auth import Client, Clients
from tradetape.producers.gateway.inflate import NotGzip, TooLarge, inflate
from tradetape.producers.gateway.limits import Allowance, Busy, Room
from tradetape.producers.gateway.outlet import TURN_EVENTS, Outlet, Unavailable
from tradetape.producers.gateway.problems import Problem
from tradetape.producers.gateway.reading import Taken
from tradetape.producers.serving import app as serving
from tradetape.producers.spool import Health
from tradetape.schemas import crashpoints

READ_SECONDS = 60.0
"""How long a body may take to arrive."""

LIMITS = (
    f"{body.MOST_EVENTS:,} events and {body.LARGEST_BODY // body.MIB} MiB a POST, "
    f"{body.LARGEST_EVENT // body.MIB} MiB an event (inflated)"
)

_JSON = "application/json"
_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii"})
_LOG = logging.getLogger("tradetape.gateway")


def create_app(
    clients: Clients,
    outlet: Callable[[], Outlet],
    health: Callable[[], Health],
    *,
    clock: Callable[[], float] = time.monotonic,
    read_seconds: float = READ_SECONDS,
) -> FastAPI:
    """The ASGI app.

    ``outlet`` is called on the app's event loop when it starts, and closed when it ends; ``health`` tells the spool's.
    ``clock`` (seconds, never going back) is that of the rate limits. A body must arrive within ``read_seconds``.
    """
    found: dict[str, Outlet] = {}

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        found["outlet"] = outlet()
        found["outlet"].start()
        yield
        left = await found["outlet"].close()
        if left:
            _LOG.warning("%d bytes stay in the spool, and are sent after the next start", left)

    app = serving.create(
        "Tradetape gateway",
        "Puts canonical events of trading bots on the record.",
        lifespan,
        complete=contract.complete,
        make=Problem,
        fault=problems.fault(),
    )
    desk = Desk(clients, lambda: found["outlet"], clock, read_seconds)

    @app.post("/v1/events", openapi_extra=contract.post_operation(), status_code=202, summary="Record events")
    async def post_events(request: Request) -> Response:
        """Takes one event, a JSON array of events, or NDJSON, and answers when Kafka or the disk spool has all of them.

        Repeating a POST is safe: events are known again by their event_id.
        """
        return await desk.post(request)

    @app.get("/v1/health", openapi_extra=contract.health_operation(), summary="Whether events are taken")
    async def get_health() -> Response:
        """Needs no token."""
        return await _health(found["outlet"], health())

    return app


class Form(NamedTuple):
    """How a body is written."""

    is_lines: bool
    is_gzip: bool


Account = Callable[[int], None]
"""Told the bytes of a body as they come; raises Busy."""


class Desk:
    """Takes the POSTs of ``clients`` in: from a request to an answer."""

    def __init__(
        self, clients: Clients, outlet: Callable[[], Outlet], clock: Callable[[], float], read_seconds: float
    ) -> None:
        self._clients = clients
        self._outlet = outlet
        self._clock = clock
        self._read_seconds = read_seconds
        self._allowances: dict[str, Allowance] = {}
        self._room = Room()

    async def post(self, request: Request) -> Response:
        """The answer to a POST of events. Raises Problem."""
        client = self._clients.authenticate(request.headers.get("authorization", ""))
        if client is None:
            raise problems.unauthorized()
        allowance = self._allowance(client)
        wait = allowance.wait()
        if wait:
            raise problems.too_many(client.name, wait)
        form = _form(request)
        try:
            with self._room.share() as take_room:

                def account(size: int) -> None:
                    take_room(size)
                    allowance.bytes.charge(size)

                return await self._take(request, client, form, account)
        except Busy:
            raise problems.busy() from None
        except Unavailable as error:
            raise problems.unavailable(error.message) from error

    async def _take(
        self,
        request: Request,
        client: Client,
        form: Form,
        account: Account,
    ) -> Response:
        sent = await self._receive(request, account)
        try:
            content = await _inflated(sent, account) if form.is_gzip else sent
        except NotGzip as error:
            raise await self._malformed(client, sent, f"not gzip: {error}") from None
        taken: list[Taken] = []
        try:
            for item in body.split_lines(content) if form.is_lines else body.split(content):
                taken.append(reading.read(client.origin, item))
                if len(taken) % TURN_EVENTS == 0:
                    await asyncio.sleep(0)
        except body.TooMuch as error:
            raise problems.too_large(str(error), limits=LIMITS) from None
        except body.Malformed as error:
            raise await self._malformed(client, content, str(error)) from None
        _check_instances(client, taken)
        self._allowance(client).events.charge(len(taken))
        kept = await self._outlet().take(taken)
        crashpoints.reach("gateway.before_answer")
        results = [one.result for one in kept]
        evidence = sum(bool(one.reasons) for one in kept)
        answer = {"accepted": len(kept) - evidence, "evidence": evidence, "results": results}
        return Response(orjson.dumps(answer), 202, media_type=_JSON)

    async def _receive(self, request: Request, account: Account) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > body.LARGEST_BODY:
            raise problems.too_large(f"a body of {declared} bytes", limits=LIMITS)
        received = bytearray()
        try:
            async with asyncio.timeout(self._read_seconds):
                async for chunk in request.stream():
                    if len(received) + len(chunk) > body.LARGEST_BODY:
                        raise problems.too_large("the body is larger than allowed", limits=LIMITS)
                    account(len(chunk))
                    received += chunk
        except TimeoutError:
            raise problems.too_slow(self._read_seconds) from None
        return bytes(received)

    async def _malformed(self, client: Client, content: bytes, error: str) -> Problem:
        """The problem of a body that cannot be read; its bytes are kept as evidence first."""
        if not content:
            return problems.malformed(error, None)
        self._allowance(client).events.charge(1)
        kept = await self._outlet().take([reading.unread(client.origin, content, error)])
        return problems.malformed(error, kept[0].event["event_id"])

    def _allowance(self, client: Client) -> Allowance:
        found = self._allowances.get(client.name)
        if found is None:
            found = Allowance(client.events_per_second, client.bytes_per_second, self._clock)
            self._allowances[client.name] = found
        return found


def _form(request: Request) -> Form:
    """The form that the headers declare. Raises Problem 415."""
    media_type, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    if media_type not in (contract.JSON, contract.NDJSON):
        raise problems.unsupported(f"Content-Type is {media_type[:80] or 'missing'}")
    charset = next((p.removeprefix("charset=").strip('"') for p in parameters if p.startswith("charset=")), "")
    if charset not in _UTF_8:
        raise problems.unsupported(f"charset is {charset[:80]}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("gzip", "identity"):
        raise problems.unsupported(f"Content-Encoding is {encoding[:80]}")
    return Form(media_type == contract.NDJSON, encoding == "gzip")


async def _inflated(sent: bytes, account: Account) -> bytes:
    content = bytearray()
    try:
        for piece in inflate(sent, largest=body.LARGEST_BODY):
            account(len(piece))
            content += piece
            await asyncio.sleep(0)
    except TooLarge as error:
        raise problems.too_large(str(error), limits=LIMITS) from None
    return bytes(content)


def _check_instances(client: Client, taken: list[Taken]) -> None:
    """Evidence that names no bot is the client's own; everything else needs the right. Raises Problem 403."""
    for number, one in enumerate(taken, 1):
        instance = one.event["instance_name"]
        if (instance or not one.reasons) and not client.may_write(instance):
            raise problems.forbidden(client.name, instance, number)


async def _health(outlet: Outlet, spool: Health) -> Response:
    reachable = await outlet.kafka_answers()
    status = "refusing" if outlet.refusing else "ok" if outlet.is_direct and reachable else "spooling"
    document = {
        "status": status,
        "kafka": {"reachable": reachable},
        "spool": {
            "waiting_bytes": spool.waiting_bytes,
            "accepted": spool.accepted,
            "acknowledged": spool.acknowledged,
            "refused": spool.refused,
        },
    }
    return Response(orjson.dumps(document), 503 if status == "refusing" else 200, media_type=_JSON)
