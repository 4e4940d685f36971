"""The ASGI app of an HTTP service: its description, and errors as problems."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tradetape.producers.serving import problems
from tradetape.producers.serving.problems import Problem


def create(
    title: str,
    summary: str,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    *,
    complete: Callable[[dict[str, Any]], None],
    make: type[Problem],
    fault: Problem,
) -> FastAPI:
    """An app without routes. ``complete`` adds to its OpenAPI description what FastAPI cannot know; ``make`` and
    ``fault`` as in ``problems.answer``.
    """
    app = FastAPI(
        title=title,
        version=version("tradetape"),
        summary=summary,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            complete(described)
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
    problems.answer(app, make, fault=fault)
    return app
