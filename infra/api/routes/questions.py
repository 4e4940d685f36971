"""``/v1/queries`` and ``/v1/queries/{name}``: the named queries."""

from __future__ import annotations

import json
from collections.abc import Iterator

from fastapi import APIRouter, Request
from starlette.responses import Response

from tradetape.infra.api import asking, forms, named, problems
from tradetape.infra.api.asking import Reads
from tradetape.infra.api.contract import answers
from tradetape.infra.api.forms import CSV, JSON, NDJSON
from tradetape.infra.api.reader import Reader
from tradetape.sinks import queries

router = APIRouter(prefix="/v1")


@router.get("/queries", responses=answers("Queries", refuses=()), summary="The named queries")
async def get_queries(request: Request, _client: Reads) -> Response:
    """Every named query with what it takes."""
    asking.form(request, JSON)
    return Response(json.dumps({"queries": named.listing()}), media_type=JSON)


# Described query by query (contract).
@router.get("/queries/{name:path}", include_in_schema=False)
async def get_query(request: Request, client: Reads, name: str) -> Response:
    """The answer of one."""
    query = named.find(name)
    form = asking.form(request, JSON, NDJSON, CSV)
    given, archived = named.bind(query, request.query_params.multi_items())
    if not client.scope.may_ask(query):
        raise problems.forbidden(client.name, f"the query {query.name}, which is about the whole fleet")
    asking.check_named(client, filter(None, [given.get("instance_name", "")]))

    def work(reader: Reader) -> Iterator[bytes]:
        pieces = queries.run(reader, query.name, given, forms.FORMATS[form], archived=archived)
        return asking.shaped(form, "rows", pieces, query=query.name)

    return await asking.service(request).desk.stream(request, work, form, filters=client.scope.settings())
