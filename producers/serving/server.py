"""The process of an HTTP service: where it listens, and its orderly end (P-07)."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from tradetape.schemas.errors import TradetapeError

STOP_SECONDS = 30
"""How long requests in work may take after SIGTERM."""

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; ``port`` 0 takes any free one. Raises TradetapeError where it cannot."""
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


def run(app: ASGIApp, listener: socket.socket, clients: int, say: Callable[[str], None]) -> None:
    """Serve ``app`` until SIGTERM or SIGINT, and then answer the requests in work."""
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
    say(f"listening on http://{shown}:{port} for {clients} client{'s' if clients > 1 else ''}")
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server handles both, and raises them again when it has stopped: that shall be an orderly end.
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
    say("stopped")
