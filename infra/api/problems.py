"""The API's errors, each with a hint of what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tradetape.producers.serving import problems
from tradetape.producers.serving.problems import retry_after


class Problem(problems.Problem):
    """An answer that is not 200."""

    service: ClassVar[str] = "api"


def unauthorized() -> problems.Problem:
    return problems.unauthorized(Problem, "API")


def forbidden(client: str, what: str) -> Problem:
    return Problem(
        403,
        "forbidden",
        "The token may not see this",
        detail=f"client {client} is limited to bots by `instances`, and may not see {what}",
        hint="use another token, or change `instances` in the tokens file",
    )


def not_found(detail: str, hint: str) -> Problem:
    return Problem(404, "not-found", "Nothing of that name", detail=detail, hint=hint)


def not_acceptable(offered: Sequence[str]) -> Problem:
    return Problem(
        406,
        "not-acceptable",
        "No such form of the answer",
        detail="Accept names no media type that there is",
        hint=f"ask for {' or '.join(offered)}",
    )


def invalid(
    errors: Sequence[Mapping[str, str]], hint: str = "correct it: /openapi.json has every parameter"
) -> Problem:
    """``errors`` have ``parameter`` and ``message``."""
    detail = "; ".join(f"{error['parameter']}: {error['message']}" for error in errors)
    return Problem(422, "invalid", "A parameter is not what it should be", detail=detail, hint=hint, errors=errors)


def busy() -> Problem:
    return Problem(
        503,
        "busy",
        "Too many questions at a time",
        hint="ask again after Retry-After seconds",
        headers=retry_after(2),
    )


def too_heavy(detail: str) -> Problem:
    return Problem(
        503,
        "too-heavy",
        "The question takes too much time or memory",
        detail=detail,
        hint="narrow it, by instance or time; `tradetape query` and `tradetape state` have no such bounds",
        headers=retry_after(60),
    )


def unavailable() -> Problem:
    return Problem(
        503,
        "unavailable",
        "The store does not answer",
        hint="ask again after Retry-After seconds; the operator finds the cause with `tradetape status`",
        headers=retry_after(5),
    )


def not_ready() -> Problem:
    return Problem(
        503,
        "not-ready",
        "Nothing is stored yet",
        hint="ask again once the sink has run (`tradetape up`)",
        headers=retry_after(5),
    )


def unanswerable(detail: str, hint: str) -> Problem:
    """What is stored does not allow an answer: records are missing, or were changed."""
    return Problem(503, "unanswerable", "The record does not allow an answer", detail=detail, hint=hint)


def fault() -> Problem:
    return Problem(500, "fault", "A fault of the API", hint="ask again; the API's log has the cause")
