"""``/v1/health``."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from tradetape.infra.api import asking, contract, health
from tradetape.infra.api.forms import JSON
from tradetape.infra.api.reader import Reader
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.store import QueryRefused, StoreUnavailable

router = APIRouter(prefix="/v1")
_LOG = logging.getLogger("tradetape.api")


@router.get(
    "/health",
    responses=contract.health_answers(),
    openapi_extra={"security": [{}, {contract.TOKEN: []}]},
    summary="Whether the record can be read, and how far it is behind",
)
async def get_health(request: Request) -> Response:
    """Without a token the status alone; with one, rows of each table that may be seen, and how many records wait."""
    client = asking.known(request) if "authorization" in request.headers else None
    found = asking.service(request)
    if not await found.looks.answer(request, health.is_up):
        return _answer({"status": health.STORE_AWAY}, 503)
    if client is None:
        return _answer({"status": health.OK})
    rows = await found.looks.answer(request, health.counts, filters=client.scope.settings())
    behind = await found.looks.answer(request, lambda reader: _behind(reader, found.bootstrap_servers))
    return _answer(health.document(rows, behind))


def _answer(document: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(document), status, media_type=JSON)


def _behind(reader: Reader, bootstrap_servers: str) -> list[dict[str, int]] | None:
    """By partition, what Kafka has and the store has not; None where Kafka does not answer, or is not known."""
    if not bootstrap_servers:
        return None
    try:
        return health.lag(reader, bootstrap_servers)
    except (StoreUnavailable, QueryRefused):
        raise
    except TradetapeError as error:
        _LOG.warning("%s", error)
        return None
