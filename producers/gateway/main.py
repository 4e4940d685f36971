"""The gateway's process: tokens, spool, server (P-07)."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from tradetape.producers.gateway import auth, reading
from tradetape.producers.gateway.app import create_app
from tradetape.producers.gateway.direct import DirectEmitter
from tradetape.producers.gateway.outlet import Outlet
from tradetape.producers.spool import PatientEmitter, Spool
from tradetape.schemas.errors import TradetapeError

HOST, PORT = "127.0.0.1", 8620
STOP_SECONDS = 30
"""How long requests in work may take after SIGTERM."""

BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Options:
    """Where the gateway listens, whom it lets in, where it spools and sends to. ``port`` 0 takes any free one.

    A missing tokens file is made, unless the environment names clients.
    """

    tokens: Path
    spool: Path
    bootstrap_servers: str
    registry_url: str
    host: str = HOST
    port: int = PORT


def serve(options: Options, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: then requests in work are answered, and the spool drains.

    Kafka and the registry need not be there. Raises TradetapeError for a port or a spool in use and for a tokens file
    that says nothing usable.
    """
    if not os.environ.get(auth.TOKENS_VARIABLE) and auth.generate(options.tokens):
        say(f"a token was made: it is in {options.tokens}, readable for you only")
    clients = auth.load(options.tokens, os.environ)
    with _listen(options.host, options.port) as listener:
        spool = Spool(options.spool, name="tradetape.gateway", max_wait=1.0, to_event=reading.from_record)
        addresses = (options.bootstrap_servers, options.registry_url)
        spool.start(lambda: PatientEmitter(*addresses, client_id="tradetape-gateway-spool"))
        app = create_app(clients, lambda: Outlet(spool, lambda: DirectEmitter(*addresses)), spool.health)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        say(f"listening on http://{shown}:{port} for {len(clients)} client{'s' if len(clients) > 1 else ''}")
        for number in (signal.SIGTERM, signal.SIGINT):
            # The server handles both, and raises them again when it has stopped: that shall be an orderly end.
            signal.signal(number, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listener])
    say("stopped")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TradetapeError(
            f"cannot listen on {host}:{port} ({reason})", hint="choose another with --host and --port"
        ) from error
    # Connections inherit it. asyncio would set it on sockets that name their protocol only: 40 ms for each answer.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
