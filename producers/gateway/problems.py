"""The gateway's errors, each with a hint of what to do next."""

from __future__ import annotations

from typing import ClassVar

from tradetape.producers.serving import problems
from tradetape.producers.serving.problems import retry_after


class Problem(problems.Problem):
    """An answer that is not 202."""

    service: ClassVar[str] = "gateway"


def unauthorized() -> problems.Problem:
    return problems.unauthorized(Problem, "gateway")


def forbidden(client: str, instance: str, number: int) -> Problem:
    return Problem(
        403,
        "forbidden",
        "The token may not write for this bot",
        detail=f"event {number}: client {client} may not write for instance_name {instance[:80]!r}; nothing was taken",
        hint="use this bot's token, or add the name to `instances` in the tokens file",
    )


def malformed(detail: str, evidence: str | None) -> Problem:
    kept = f"its bytes are kept as evidence under event_id {evidence}; " if evidence else ""
    return Problem(
        400,
        "malformed",
        "The body is not readable",
        detail=f"{detail}; {kept}no event was taken from it",
        hint="send one JSON object, a JSON array of them, or NDJSON as application/x-ndjson, in UTF-8",
        evidence=evidence,
    )


def too_large(detail: str, *, limits: str) -> Problem:
    return Problem(
        413, "too-large", "Too large", detail=f"{detail}; nothing was taken", hint=f"split it up: {limits} at most"
    )


def unsupported(detail: str) -> Problem:
    return Problem(
        415,
        "unsupported",
        "Unsupported form of the body",
        detail=detail,
        hint="send Content-Type application/json or application/x-ndjson, plain or with Content-Encoding gzip",
        headers={"Accept": "application/json, application/x-ndjson", "Accept-Encoding": "gzip, identity"},
    )


def too_slow(seconds: float) -> Problem:
    return Problem(
        408,
        "too-slow",
        "The body did not arrive in time",
        detail=f"not complete after {seconds:g} s; nothing was taken",
        hint="send smaller batches, or check the network",
        headers={"Connection": "close"},
    )


def too_many(client: str, wait: float) -> Problem:
    return Problem(
        429,
        "rate-limited",
        "Too many events or bytes",
        detail=f"client {client} used up its allowance; nothing was taken",
        hint="wait for Retry-After seconds and send the same again, or raise its limits in the tokens file",
        headers=retry_after(wait),
    )


def busy() -> Problem:
    return Problem(
        503,
        "busy",
        "Too many bodies at a time",
        hint="send the same again after Retry-After seconds: nothing was taken",
        headers=retry_after(1),
    )


def unavailable(detail: str) -> Problem:
    return Problem(
        503,
        "unavailable",
        "Neither Kafka nor the spool takes events",
        detail=detail,
        hint="send the same again, with the same event_ids, after Retry-After seconds: what was taken is not doubled",
        headers=retry_after(5),
    )


def fault() -> Problem:
    return Problem(500, "fault", "A fault of the gateway", hint="send the same again; the gateway's log has the cause")
