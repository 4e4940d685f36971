"""``/v1/events``, ``/v1/chain/{id}`` and ``/v1/risk``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from tradetape.infra.api import asking, chains, cursor, events, figures, forms, problems
from tradetape.infra.api.asking import Reads
from tradetape.infra.api.contract import answers
from tradetape.infra.api.cursor import Place
from tradetape.infra.api.events import EventFilters
from tradetape.infra.api.filters import Filters
from tradetape.infra.api.forms import CSV, JSON, NDJSON
from tradetape.infra.api.reader import Reader

router = APIRouter(prefix="/v1")


@router.get("/events", responses=answers("Events", NDJSON), summary="Events, newest first")
async def get_events(request: Request, client: Reads, wanted: Annotated[EventFilters, Query()]) -> Response:
    """The last `tail` events (50) that match; `next`, also in `Link`, is the page of older ones.

    As NDJSON without `tail`: all that match, streamed by instance and time, oldest first.
    """
    form = asking.form(request, JSON, NDJSON)
    asking.check_named(client, wanted.instance)
    filters, desk = client.scope.settings(), asking.service(request).desk
    if form == NDJSON and wanted.tail is None and wanted.cursor is None:
        return await desk.stream(
            request, lambda reader: forms.lines(events.everything(reader, wanted)), form, filters=filters
        )
    page = await desk.answer(request, lambda reader: events.page(reader, wanted), filters=filters)
    following = None if page.next is None else _following(request, page.next)

    def work(reader: Reader) -> Iterator[bytes]:
        return asking.rows(form, "events", events.of_page(reader, wanted, page), next=following)

    headers = {} if following is None else {"Link": f'<{following}>; rel="next"'}
    return await desk.stream(request, work, form, headers=headers, filters=filters)


@router.get("/chain/{id:path}", responses=answers("Chain", NDJSON, refuses=(404,)), summary="One chain of events")
async def get_chain(
    request: Request,
    client: Reads,
    asked: Annotated[str, Path(alias="id", min_length=1, max_length=200)],
    view: Annotated[Literal["list", "tree"], Query()] = "list",
) -> Response:
    """The chain with the correlation id `id`, or that of the event `id`: in order, or as a tree, each event with its
    depth below the first one."""
    form = asking.form(request, JSON, NDJSON)
    filters, desk = client.scope.settings(), asking.service(request).desk
    chain = await desk.answer(request, lambda reader: chains.find(reader, asked), filters=filters)
    if chain is None:
        raise problems.not_found(
            f"no event and no chain {asked!r} is on record", "GET /v1/events has event_id and correlation_id"
        )

    def work(reader: Reader) -> Iterator[bytes]:
        found = chains.rows(reader, chain, chains.TREE if view == "tree" else chains.LIST)
        return asking.rows(form, "events", found, correlation_id=chain)

    return await desk.stream(request, work, form, filters=filters)


@router.get("/risk", responses=answers("Risk", NDJSON, CSV), summary="The latest figures of every position")
async def get_risk(request: Request, client: Reads, wanted: Annotated[Filters, Query()]) -> Response:
    """Position, account, equity and rates as of the last event that changed a figure of the position."""
    form = asking.form(request, JSON, NDJSON, CSV)
    asking.check_named(client, wanted.instance)

    def work(reader: Reader) -> Iterator[bytes]:
        return asking.shaped(form, "positions", figures.pieces(reader, wanted, forms.FORMATS[form]))

    return await asking.service(request).desk.stream(request, work, form, filters=client.scope.settings())


def _following(request: Request, place: Place) -> str:
    """Where the page after ``place`` is: the same question, with a cursor."""
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    query = urlencode([*asked, ("cursor", cursor.write(place))])
    return f"{request.scope.get('root_path', '')}/v1/events?{query}"
