"""Errors as problem details (RFC 9457), each with a hint of what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is no success. ``name`` ends its type URI; ``more`` are further members.

    A service has a subclass with its own name.
    """

    service: ClassVar[str]

    def __init__(
        self,
        status: int,
        name: str,
        title: str,
        *,
        detail: str = "",
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.headers = dict(headers or {})
        self.document = {
            "type": f"urn:tradetape:{self.service}:{name}",
            "title": title,
            "status": status,
            "detail": detail or title,
            "hint": hint,
            **more,
        }

    def response(self) -> Response:
        """It as an answer."""
        return Response(orjson.dumps(self.document), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def schema(**more: Any) -> dict[str, Any]:
    """A problem as JSON Schema; ``more`` are a service's further members."""
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status", "detail", "hint"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "hint": {"type": "string", "description": "What to do next."},
            **more,
        },
    }


def described(description: str) -> dict[str, Any]:
    """A problem as OpenAPI says that an operation answers with it."""
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def unauthorized(make: type[Problem], whose: str) -> Problem:
    return make(
        401,
        "unauthorized",
        "No known token",
        hint=f"send `Authorization: Bearer TOKEN` with a token of the {whose}'s tokens file",
        headers={"WWW-Authenticate": 'Bearer realm="tradetape"'},
    )


def retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def answer(app: FastAPI, make: type[Problem], *, fault: Problem) -> None:
    """Make ``app`` answer every error as a problem; ``fault`` is that of an error which nobody expected."""

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(HTTPException)
    async def other(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = str(error.detail)
        name = title.lower().replace(" ", "-")
        hint = "see /openapi.json for what there is"
        return make(error.status_code, name, title, hint=hint, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, _error: Exception) -> Response:
        return fault.response()
