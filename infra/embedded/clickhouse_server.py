"""The ClickHouse engine of this process, served on localhost over ClickHouse's HTTP protocol.

Run as ``python -m tradetape.infra.embedded.clickhouse_server --path P --host 127.0.0.1 --port N``. Unmodified
clickhouse-connect and curl work with it: statement in the body or in ``?query=``, ``database``, ``param_*``, settings
as parameters, ``GET /ping``, compressed bodies. There are no users: it listens on the loopback interface, and refuses
another one unless told otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import os
import secrets
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lz4.frame
from aiohttp import web

from tradetape.infra.embedded.clickhouse_engine import Engine, EngineError, Request, Result, Summary
from tradetape.infra.embedded.clickhouse_statement import BadStatement, parse
from tradetape.schemas.errors import TradetapeError

log = logging.getLogger("tradetape.clickhouse")

MAX_BODY_BYTES = 1024 * 1024 * 1024
MAX_URL_BYTES = 1024 * 1024
PARALLEL_REQUESTS = 16
SHUTDOWN_SECONDS = 15.0
SYNTAX_ERROR = 62

# Parameters of the protocol that are no settings of the engine, and what clients set about HTTP itself.
_NOT_SETTINGS = frozenset(
    {"query", "database", "default_format", "user", "password", "quota_key", "query_id", "role", "stacktrace"}
    | {"readonly", "compress", "decompress", "buffer_size", "wait_end_of_query", "client_protocol_version"}
    | {"enable_http_compression", "send_progress_in_http_headers", "cancel_http_readonly_queries_on_client_close"}
    | {"session_id", "session_timeout", "session_check", "session_timezone", "http_make_head_request"}
)
_NOT_SETTING_PREFIXES = ("param_", "http_")

# Code → status as the server answers; everything else is 500.
_STATUS = {
    **dict.fromkeys((62, 6, 20, 26, 27, 32, 33, 36, 41, 42, 43, 44, 46, 47, 50, 53, 69, 72, 73, 115, 117, 130), 400),
    **dict.fromkeys((321, 349, 386, 395, 456, 457, 636), 400),
    **dict.fromkeys((60, 81), 404),
    **dict.fromkeys((164, 497), 403),
}


def application(engine: Engine, pool: ThreadPoolExecutor) -> web.Application:
    """The HTTP application over ``engine``; ``pool`` runs its statements."""
    server = _Server(engine, pool)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/ping", _ping)
    app.router.add_route("*", "/", server.handle)
    return app


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


class _Server:
    def __init__(self, engine: Engine, pool: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._pool = pool

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Answer one statement."""
        query_id = http.query.get("query_id") or str(uuid.uuid4())
        headers = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self._engine.timezone,
            "X-ClickHouse-Server-Display-Name": "tradetape",
        }
        try:
            parameters, body = await _read(http)
            if http.method == "GET" and not parameters.get("query"):
                return web.Response(text="Ok.\n")
            request = _request(http, parameters, body)
        except BadStatement as error:
            return _refusal(SYNTAX_ERROR, f"Code: {SYNTAX_ERROR}. DB::Exception: {error}. (SYNTAX_ERROR)", headers)
        headers["X-ClickHouse-Format"] = request.statement.output_format
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._pool, self._engine.execute, request)
        except EngineError as error:
            return _refusal(error.code, error.message, headers)
        if request.statement.stream:
            return await self._stream(http, result, headers)
        chunks = await loop.run_in_executor(self._pool, list, result.chunks)
        headers["X-ClickHouse-Summary"] = _summary(result.summary)
        return web.Response(body=b"".join(chunks), headers=headers)

    async def _stream(self, http: web.Request, result: Result, headers: dict[str, str]) -> web.StreamResponse:
        tag = secrets.token_hex(8)
        headers["X-ClickHouse-Exception-Tag"] = tag
        headers["X-ClickHouse-Summary"] = _summary(result.summary)
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(http)
        loop = asyncio.get_running_loop()
        try:
            while (chunk := await loop.run_in_executor(self._pool, _next, result.chunks)) is not None:
                if chunk:
                    await response.write(chunk)
        except EngineError as error:
            # Headers are out: the message goes between the tags that clients look for, and the answer stays cut off.
            text = error.message
            marker = f"__exception__\r\n{tag}\r\n{text}\r\n{len(text)} {tag}\r\n__exception__\r\n"
            await response.write(marker.encode())
            if http.transport is not None:
                http.transport.close()
            return response
        finally:
            await loop.run_in_executor(self._pool, _close, result.chunks)
        await response.write_eof()
        return response


def _next(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)


def _close(chunks: Iterator[bytes]) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


async def _read(http: web.Request) -> tuple[dict[str, str], bytes]:
    """Parameters and body; a multipart form's fields are parameters."""
    parameters = dict(http.query)
    if http.content_type == "multipart/form-data":
        fields = await http.post()
        if not all(isinstance(value, str) for value in fields.values()):
            raise BadStatement("external tables are not served here")
        return {**parameters, **{key: str(value) for key, value in fields.items()}}, b""
    body = await http.read()
    if parameters.get("decompress") == "1":
        raise BadStatement("decompress=1 is not served here: use Content-Encoding")
    if http.headers.get("Content-Encoding", "").lower() == "lz4":
        try:
            body = _unpack_lz4(body)
        except RuntimeError as error:
            raise BadStatement(f"the body is no lz4 frame: {error}") from None
    return parameters, body


def _unpack_lz4(body: bytes) -> bytes:
    """All frames of ``body``: clickhouse-connect writes one per block. Raises RuntimeError on anything else."""
    unpacked = []
    while body:
        frame = lz4.frame.LZ4FrameDecompressor()
        unpacked.append(frame.decompress(body))
        if not frame.eof:
            raise RuntimeError("it ends within a frame")
        body = frame.unused_data or b""
    return b"".join(unpacked)


def _request(http: web.Request, parameters: Mapping[str, str], body: bytes) -> Request:
    default = parameters.get("default_format") or http.headers.get("X-ClickHouse-Format") or "TabSeparated"
    readonly = parameters.get("readonly", "0")
    if readonly not in ("0", "1", "2"):
        raise BadStatement(f"readonly is {readonly!r}, not 0, 1 or 2")
    settings = {
        key: value
        for key, value in parameters.items()
        if key not in _NOT_SETTINGS and not key.startswith(_NOT_SETTING_PREFIXES)
    }
    # GET changes nothing, as in ClickHouse.
    return Request(
        statement=parse(parameters.get("query", "").encode(), body, default),
        database=parameters.get("database") or http.headers.get("X-ClickHouse-Database") or "",
        settings=settings,
        params={key[6:]: value for key, value in parameters.items() if key.startswith("param_")},
        readonly=int(readonly) or (2 if http.method == "GET" else 0),
    )


def _refusal(code: int, message: str, headers: Mapping[str, str]) -> web.Response:
    status = _STATUS.get(code, 500)
    return web.Response(
        status=status, text=message + "\n", headers={**headers, "X-ClickHouse-Exception-Code": str(code)}
    )


def _summary(summary: Summary) -> str:
    return json.dumps(
        {
            "read_rows": str(summary.read_rows),
            "read_bytes": str(summary.read_bytes),
            "written_rows": str(summary.written_rows),
            "result_rows": str(summary.result_rows),
        }
    )


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="clickhouse_server", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--path", type=Path, required=True, help="folder of the data")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--allow-remote", action="store_true", help="listen beyond the loopback interface: no users!")
    return parser.parse_args(argv)


def _check_host(host: str, allow_remote: bool) -> None:
    loopback = host == "localhost"
    if not loopback:
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
    if not loopback and not allow_remote:
        raise TradetapeError(
            f"{host} is not the loopback interface and this server knows no users", hint="use --host 127.0.0.1"
        )


async def _serve(engine: Engine, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="clickhouse") as pool:
        runner = web.AppRunner(
            application(engine, pool), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, max_line_size=MAX_URL_BYTES
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise TradetapeError(f"cannot listen on {host}:{port}: {reason}", hint="choose another port") from error
        log.info("ClickHouse engine %s listens on %s:%d", engine.version, host, port)
        await stop.wait()
        await runner.cleanup()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; running statements finish first. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    arguments = _arguments(argv)
    try:
        _check_host(arguments.host, arguments.allow_remote)
        engine = Engine(arguments.path)
        try:
            asyncio.run(_serve(engine, arguments.host, arguments.port))
        finally:
            engine.close()
    except TradetapeError as error:
        log.error("%s", error)
        return error.exit_code
    log.info("ClickHouse engine closed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
