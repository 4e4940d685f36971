"""Times in a request: a date, or a time with its offset, as microseconds since 1970."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from tradetape.schemas import times

SCHEMA: dict[str, Any] = {
    "type": "string",
    "anyOf": [{"format": "date-time"}, {"format": "date"}],
    "examples": ["2026-11-20T10:00:00Z", "2026-11-20"],
}
"""A moment as JSON Schema says it."""


def read(text: object) -> int:
    """The moment ``text``; a date is its beginning in UTC. What lies outside 2000 to 2100 is moved to that bound.

    Raises ValueError.
    """
    if not isinstance(text, str):
        raise ValueError("is no text")
    return min(max(times.to_micros(_moment(text)), times.EARLIEST), times.LATEST)


def _moment(text: str) -> datetime:
    try:
        if len(text) == len("2026-11-20"):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is no ISO-8601 date or time, such as 2026-11-20T10:00:00Z") from None
    if moment.utcoffset() is None:
        raise ValueError(f"{text[:80]!r} has no offset; write it with Z")
    return moment


Moment = Annotated[int, BeforeValidator(read), WithJsonSchema(SCHEMA)]
"""A parameter of that form."""
