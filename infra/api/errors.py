"""Which problem each error becomes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from tradetape.infra.api import problems
from tradetape.infra.api.desk import Busy
from tradetape.infra.api.problems import Problem
from tradetape.infra.api.reader import TooHeavy
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.store import UNKNOWN_TABLES, QueryRefused, StoreUnavailable
from tradetape.sinks.travel import NothingOnRecord

_LOG = logging.getLogger("tradetape.api")


def answer(app: FastAPI) -> None:
    """Make ``app`` answer what its questions raise as problems, each with its own."""
    for kind, make in _PROBLEMS.items():
        app.add_exception_handler(kind, _handler(make))


def _handler(make: Callable[[Any], Problem]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_request: Request, error: Exception) -> Response:
        return make(error).response()

    return handle


def _invalid(error: RequestValidationError) -> Problem:
    return problems.invalid(
        [
            {"parameter": ".".join(map(str, each["loc"][1:])), "message": each["msg"].removeprefix("Value error, ")}
            for each in error.errors()
        ]
    )


def _away(error: StoreUnavailable) -> Problem:
    # Not in the answer: it names the store's address.
    _LOG.warning("%s", error)
    return problems.unavailable()


def _refused(error: QueryRefused) -> Problem:
    if error.code in UNKNOWN_TABLES:
        return problems.not_ready()
    _LOG.error("ClickHouse refuses a statement: %s", error)
    return problems.fault()


_PROBLEMS: Mapping[type[Exception], Callable[[Any], Problem]] = {
    RequestValidationError: _invalid,
    Busy: lambda _: problems.busy(),
    TooHeavy: lambda error: problems.too_heavy(error.message),
    NothingOnRecord: lambda error: problems.not_found(error.message, "GET /v1/queries/counts has the instances"),
    TradetapeError: lambda error: problems.unanswerable(error.message, error.hint),
    QueryRefused: _refused,
    StoreUnavailable: _away,
}
