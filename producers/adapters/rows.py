"""Rows of a native database as the bytes that are kept of them."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from typing import Any


def native_json(rows: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Native rows by table as compact JSON. Bytes become {"base64": …}; text that is not UTF-8 keeps its bytes as
    \\udcXX.
    """
    return json.dumps(
        {table: {name: _jsonable(value) for name, value in row.items()} for table, row in rows.items()},
        separators=(",", ":"),
    ).encode()


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
