"""The HTTP API over a store of known rows, in process and behind a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from tests.folding import SCHEMAS
from tests.integration.clickhouse import Server, serve
from tests.integration.recorded import Recorded
from tests.sinks.rows import body
from tests.support import eventually

from tradetape.infra.api.app import create_app
from tradetape.infra.api.clients import Client, Clients
from tradetape.infra.api.desk import PLACES
from tradetape.infra.api.reader import Reader
from tradetape.infra.api.scope import Scope
from tradetape.producers.serving import server as serving
from tradetape.schemas.catalogue import output_schema
from tradetape.sinks import migrate
from tradetape.sinks.store import Store
from tradetape.sinks.tables import ALERTS, EVENTS, QUARANTINE, RISK, Table

TOKEN, LIMITED_TOKEN = "all-token-of-the-tests", "limited-token-of-the-tests"
ALL, LIMIT = Scope(), Scope(("turtle-*", "bot1"))
"""What the two tokens see."""

_tokens = count(1)


def clients() -> Clients:
    return Clients([(TOKEN, Client("all")), (LIMITED_TOKEN, Client("limited", LIMIT))])


def app(url: str, places: int = PLACES) -> FastAPI:
    """The app over the store at ``url``, with the schemas of folded events."""
    return create_app(clients(), lambda: Reader(url), SCHEMAS.get, places=places)


def land(store: Store, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        bodies = [body(table.record, row) for row in rows]
        store.insert(table, output_schema(table.record), bodies, f"api-{next(_tokens)}")


@contextmanager
def stored(folder: Path, record: Recorded, scope: Scope = ALL) -> Iterator[Server]:
    """A store with the rows of ``record`` that ``scope`` allows."""
    with serve(folder) as running:
        store = Store(running.url)
        migrate.migrate(store)
        verdicts = [row for row in record.audited if scope.allows(row["instance_name"])]
        land(store, EVENTS, [row for row in verdicts if row["disposition"] == "accepted"])
        land(store, QUARANTINE, [row for row in verdicts if row["disposition"] != "accepted"])
        land(store, RISK, [row for row in record.risk if scope.allows(row["instance_name"])])
        land(store, ALERTS, [row for row in record.alerts if scope.allows(row["instance_name"])])
        store.close()
        yield running


@contextmanager
def listening(served: FastAPI) -> Iterator[str]:
    """The address of ``served`` behind a real server."""
    with serving.listen("127.0.0.1", 0) as listener:
        running = uvicorn.Server(uvicorn.Config(served, log_config=None, access_log=False, lifespan="on"))
        thread = threading.Thread(target=lambda: running.run(sockets=[listener]))
        thread.start()
        try:
            eventually(lambda: running.started, 20, "it listens")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join(30)
