"""The HTTP API as an ASGI app (S2-05, S1-08, S3-09)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from tradetape.infra.api import contract, errors, problems, state
from tradetape.infra.api.asking import Service
from tradetape.infra.api.clients import Clients
from tradetape.infra.api.desk import PLACES, Desk
from tradetape.infra.api.problems import Problem
from tradetape.infra.api.reader import Reader
from tradetape.infra.api.routes import healthy, past, questions, record
from tradetape.processors.reading import SchemaById
from tradetape.producers.serving import app as serving

LOOKS = 2
"""Requests for health at a time."""


def create_app(
    clients: Clients,
    connect: Callable[[], Reader],
    schema_by_id: SchemaById,
    bootstrap_servers: str = "",
    *,
    places: int = PLACES,
) -> FastAPI:
    """The app. ``connect`` makes a reader of the store, ``schema_by_id`` has the writer schemas of its bytes;
    ``bootstrap_servers`` are those of Kafka, by which health knows how far the store is behind. ``places`` are
    the requests that read at a time.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        desks = Desk(connect, places=places), Desk(connect, places=state.FOLDS), Desk(connect, places=LOOKS)
        app.state.service = Service(clients, *desks, schema_by_id, bootstrap_servers)
        yield
        for each in desks:
            each.close()

    app = serving.create(
        "Tradetape API",
        "The record of trading bots, read-only.",
        lifespan,
        complete=contract.complete,
        make=Problem,
        fault=problems.fault(),
    )
    for routes in (record, past, questions, healthy):
        app.include_router(routes.router)
    errors.answer(app)
    return app
