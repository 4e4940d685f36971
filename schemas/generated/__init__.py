"""Avro read and written by Python code generated from a schema, at about half of fastavro's cost (decision 0008).

Generated code does the usual and gives up on the rest: fastavro is asked then, so that what is acceptable, and how a
refusal is worded, is fastavro's alone.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NoReturn

from tradetape.schemas.generated import decode, encode
from tradetape.schemas.generated.source import Unsupported, Unusual

CACHED = 512
"""Schemas whose code is kept: generating it takes as long as writing a thousand records."""


@lru_cache(maxsize=CACHED)
def decoder(schema: str) -> decode.Decode:
    """The decoder of a record's schema in JSON; one that always gives up where no code is generated for it."""
    try:
        return decode.decoder(json.loads(schema))
    except Unsupported:
        return _give_up


@lru_cache(maxsize=CACHED)
def encoder(schema: str) -> encode.Encode:
    """The encoder of a record's schema in JSON; one that always gives up where no code is generated for it."""
    try:
        return encode.encoder(json.loads(schema))
    except Unsupported:
        return _give_up


def _give_up(*_: Any) -> NoReturn:
    raise Unusual("no code is generated for this schema")
