"""Where a page of events ended: an opaque text that stays right while events are added (pure).

Events are listed by time and position in the log, which never change, so a place among them never moves.
"""

from __future__ import annotations

import base64
import struct
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, WithJsonSchema

from tradetape.schemas import times

_PLACE = struct.Struct(">qiqx")
_PREFIX = "e"
_LENGTH = 28

SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": f"^{_PREFIX}[A-Za-z0-9_-]{{{_LENGTH}}}$",
    "description": "Where the last page ended, as its `next` says.",
}


class Place(NamedTuple):
    """An event's place: its time (microseconds), raw partition and raw offset."""

    ts_utc: int
    raw_partition: int
    raw_offset: int


def write(place: Place) -> str:
    """``place`` as a cursor."""
    return _PREFIX + base64.urlsafe_b64encode(_PLACE.pack(*place)).decode()


def read(text: str) -> Place:
    """The place of a cursor. Raises ValueError."""
    try:
        if not text.startswith(_PREFIX):
            raise ValueError
        found = Place(*_PLACE.unpack(base64.b64decode(text[len(_PREFIX) :], b"-_", validate=True)))
    except (ValueError, struct.error):
        raise ValueError("is no cursor of this API; leave it out to begin with the newest") from None
    return found._replace(ts_utc=min(max(found.ts_utc, times.EARLIEST), times.LATEST))


def _checked(text: str) -> str:
    read(text)
    return text


# As text: FastAPI would take a Place for a parameter with several values.
Cursor = Annotated[str, AfterValidator(_checked), WithJsonSchema(SCHEMA)]
"""A parameter of that form."""
