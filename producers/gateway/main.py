"""The gateway's process: tokens, spool, server (P-07)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tradetape.producers.gateway import reading
from tradetape.producers.gateway.app import create_app
from tradetape.producers.gateway.auth import TOKENS
from tradetape.producers.gateway.direct import DirectEmitter
from tradetape.producers.gateway.outlet import Outlet
from tradetape.producers.serving import server
from tradetape.producers.spool import PatientEmitter, Spool


@dataclass(frozen=True, slots=True)
class Options:
    """Where the gateway listens, whom it lets in, where it spools and sends to. ``port`` 0 takes any free one.

    A missing tokens file is made, unless the environment names clients.
    """

    tokens: Path
    spool: Path
    bootstrap_servers: str
    registry_url: str
    host: str
    port: int


def serve(options: Options, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: then requests in work are answered, and the spool drains.

    Kafka and the registry need not be there. Raises TradetapeError for a port or a spool in use and for a tokens file
    that says nothing usable.
    """
    if TOKENS.generate(options.tokens, os.environ):
        say(f"a token was made: it is in {options.tokens}, readable for you only")
    clients = TOKENS.load(options.tokens, os.environ)
    with server.listen(options.host, options.port) as listener:
        spool = Spool(options.spool, name="tradetape.gateway", max_wait=1.0, to_event=reading.from_record)
        addresses = (options.bootstrap_servers, options.registry_url)
        spool.start(lambda: PatientEmitter(*addresses, client_id="tradetape-gateway-spool"))
        app = create_app(clients, lambda: Outlet(spool, lambda: DirectEmitter(*addresses)), spool.health)
        server.run(app, listener, len(clients), say)
