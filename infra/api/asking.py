"""Who asks, in which form, and what answers: what every route needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer

from tradetape.infra.api import contract, forms, problems
from tradetape.infra.api.clients import Client, Clients
from tradetape.infra.api.desk import Desk
from tradetape.processors.reading import SchemaById
from tradetape.sinks import results

_BEARER = HTTPBearer(scheme_name=contract.TOKEN, auto_error=False, description="A token of the API's tokens file.")


class Service(NamedTuple):
    """What an app answers from: ``desk`` reads, ``folds`` folds, ``looks`` is for health alone."""

    clients: Clients
    desk: Desk
    folds: Desk
    looks: Desk
    schema_by_id: SchemaById
    bootstrap_servers: str


def service(request: Request) -> Service:
    """The service of the app that has the request."""
    found: Service = request.app.state.service
    return found


def known(request: Request) -> Client:
    """The client whose token came along. Raises Problem 401."""
    client = service(request).clients.authenticate(request.headers.get("authorization", ""))
    if client is None:
        raise problems.unauthorized()
    return client


async def _reads(request: Request, _shown: Annotated[Any, Security(_BEARER)]) -> Client:
    return known(request)


Reads = Annotated[Client, Depends(_reads)]
"""The client, in a route that needs a token."""

Name = Annotated[str, Path(min_length=1, max_length=200)]


def form(request: Request, *offered: str) -> str:
    """The media type of the answer. Raises Problem 406."""
    found = forms.choose(request.headers.get("accept", ""), offered)
    if found is None:
        raise problems.not_acceptable(offered)
    return found


def check_named(client: Client, instances: Iterable[str]) -> None:
    """Raise Problem 403 where a bot is named that the client may not see."""
    for name in instances:
        if not client.scope.allows(name):
            raise problems.forbidden(client.name, f"the bot {name[:80]!r}")


def shaped(media_type: str, name: str, pieces: Iterator[bytes], **others: object) -> Iterator[bytes]:
    """An answer of ClickHouse in its form: in JSON its rows are the array ``name``."""
    return forms.document(name, results.batches(pieces), **others) if media_type == forms.JSON else pieces


def rows(media_type: str, name: str, found: Iterator[Sequence[bytes]], **others: object) -> Iterator[bytes]:
    """Rows of JSON in their form: in JSON they are the array ``name``."""
    return forms.lines(found) if media_type == forms.NDJSON else forms.document(name, found, **others)
