"""The API's process: tokens, addresses, server."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tradetape.infra.api.app import create_app
from tradetape.infra.api.clients import TOKENS
from tradetape.infra.api.reader import Reader
from tradetape.processors.reading import SchemaById, WriterSchema
from tradetape.producers.serving import server
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry
from tradetape.sinks import raw_log


@dataclass(frozen=True, slots=True)
class Options:
    """Where the API listens, whom it lets in, what it reads. ``port`` 0 takes any free one.

    A missing tokens file is made, unless the environment names clients. Without ``bootstrap_servers`` nothing is known
    of how far the store is behind.
    """

    tokens: Path
    clickhouse_url: str
    registry_url: str
    bootstrap_servers: str
    host: str
    port: int


def serve(options: Options, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: then requests in work are answered.

    The store need not be there. Raises TradetapeError for a port in use and for a tokens file that says nothing usable.
    """
    if TOKENS.generate(options.tokens, os.environ):
        say(f"a token was made: it is in {options.tokens}, readable for you only")
    clients = TOKENS.load(options.tokens, os.environ)
    with server.listen(options.host, options.port) as listener:
        app = create_app(
            clients,
            lambda: Reader(options.clickhouse_url),
            writer_schemas(options.registry_url),
            options.bootstrap_servers,
        )
        server.run(app, listener, len(clients), say)


def writer_schemas(registry_url: str) -> SchemaById:
    """Writer schemas by id, looked up in the registry when they are first needed; its address stays out of errors."""
    known = raw_log.writer_schemas(Registry(registry_url))

    def by_id(schema_id: int) -> WriterSchema | None:
        try:
            return known(schema_id)
        except TradetapeError as error:
            raise TradetapeError("the schema registry does not answer", hint="see `tradetape status`") from error

    return by_id
