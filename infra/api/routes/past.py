"""``/v1/state/…``: the record as of any time."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from tradetape.infra.api import asking, problems, state
from tradetape.infra.api.asking import Name, Reads
from tradetape.infra.api.contract import answers
from tradetape.infra.api.forms import JSON
from tradetape.infra.api.state import InstanceAt, PortfolioAt, PositionAt, StateAt, TimelineAt

router = APIRouter(prefix="/v1/state")


@router.get("/instance/{name:path}", responses=answers("State", refuses=(403, 404)), summary="An instance at any time")
async def get_instance(request: Request, client: Reads, name: Name, wanted: Annotated[InstanceAt, Query()]) -> Response:
    """Figures, open orders, own state, limits and kills, as `tradetape state instance` tells them."""
    asking.check_named(client, [name])
    return await _fold(request, state.instance(name, wanted))


@router.get("/position/{name:path}", responses=answers("State", refuses=(403, 404)), summary="Positions at any time")
async def get_position(request: Request, client: Reads, name: Name, wanted: Annotated[PositionAt, Query()]) -> Response:
    """Cost, FIFO lots, mark and P&L of the bot's positions, as `tradetape state position` tells them."""
    asking.check_named(client, [name])
    return await _fold(request, state.position(name, wanted))


@router.get("/timeline/{name:path}", responses=answers("Timeline", refuses=(403, 404)), summary="P&L of a position")
async def get_timeline(request: Request, client: Reads, name: Name, wanted: Annotated[TimelineAt, Query()]) -> Response:
    """After every event that changed a figure of it, as `tradetape state position --timeline` tells them."""
    asking.check_named(client, [name])
    return await _fold(request, state.timeline(name, wanted))


@router.get("/order/{order_id:path}", responses=answers("State", refuses=(404,)), summary="An order at any time")
async def get_order(request: Request, client: Reads, order_id: Name, wanted: Annotated[StateAt, Query()]) -> Response:
    """The orders with that client order id, as `tradetape state order` tells them."""
    return await _fold(request, state.order(order_id, wanted, client.scope))


@router.get("/portfolio/{name:path}", responses=answers("State", refuses=(403, 404)), summary="A portfolio at any time")
async def get_portfolio(
    request: Request, client: Reads, name: Name, wanted: Annotated[PortfolioAt, Query()]
) -> Response:
    """Figures by environment and quote asset, as `tradetape state portfolio` tells them; `all` has every bot."""
    if client.scope.is_limited:
        raise problems.forbidden(client.name, "portfolios, which have all bots in them")
    return await _fold(request, state.portfolio(name, wanted))


async def _fold(request: Request, work: state.Work) -> Response:
    asking.form(request, JSON)
    found = asking.service(request)
    document = await found.folds.answer(
        request, lambda reader: work(reader, found.schema_by_id), seconds=state.FOLD_SECONDS
    )
    return Response(json.dumps(document), media_type=JSON)
