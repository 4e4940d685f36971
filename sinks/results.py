"""Answers of ClickHouse: read as rows, or for people and programs as JSON lines, CSV or an aligned table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import orjson

FORMATS: Mapping[str, str] = {"json": "JSONEachRow", "csv": "CSVWithNames", "table": "JSONCompactEachRowWithNames"}
"""Output → ClickHouse format in which to ask for it. JSON is one object a line, decimals as strings (issue 1)."""

SETTINGS: Mapping[str, Any] = {
    "output_format_json_quote_decimals": 1,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_escape_forward_slashes": 0,
    "output_format_json_quote_denormals": 1,
    "date_time_output_format": "iso",
}
"""Decimals as strings, integers as numbers, times as ISO-8601 with Z."""

MAX_CELL = 80


def rows(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The rows of an answer that came as JSONEachRow."""
    return map(orjson.loads, _lines(pieces))


def render(pieces: Iterable[bytes], output: str) -> Iterator[str]:
    """The lines of an answer that came in ``FORMATS[output]``; a table reads the answer to its end first."""
    if output == "table":
        yield from table(json.loads(line) for line in _lines(pieces))
    else:
        for line in _lines(pieces):
            yield line.decode("utf-8", "replace")


def batches(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The lines of an answer, those that came together in one list."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if whole:
            yield whole
    if rest:
        yield [rest]


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    return chain.from_iterable(batches(pieces))


def table(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Aligned lines of ``rows``, the first of which has the names; numbers to the right, long cells cut."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return
    if len(cells) == 1:
        yield "no rows"
        return
    head, *body = cells
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    right = [all(_is_number(row[at]) for row in body) for at in range(len(head))]
    for number, row in enumerate(cells):
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        yield "  ".join(padded).rstrip()
        if number == 0:
            yield "  ".join("─" * width for width in widths)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def printable(text: str) -> str:
    """``text`` without control characters: recorded ones must not reach a terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _is_number(text: str) -> bool:
    return not text or text.lstrip("-").replace(".", "", 1).isdigit()
