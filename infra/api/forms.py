"""The forms of an answer: which one a request asks for, and how rows become it, piece by piece (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"

FORMATS = {JSON: "JSONEachRow", NDJSON: "JSONEachRow", CSV: "CSVWithNames"}
"""Media type → the format in which ClickHouse is asked."""


def choose(accept: str, offered: Sequence[str]) -> str | None:
    """Which of the media types ``offered`` an ``Accept`` header asks for; the first of equals; None: none of them."""
    wanted = [_range(part) for part in accept.split(",")] if accept.strip() else [("*/*", 1.0)]
    best = max(offered, key=lambda media_type: _quality(media_type, wanted))
    return best if _quality(best, wanted) > 0 else None


def lines(rows: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
    """Rows as NDJSON."""
    for batch in rows:
        yield b"\n".join([*batch, b""])


def document(name: str, rows: Iterable[Sequence[bytes]], **others: object) -> Iterator[bytes]:
    """Rows as the array ``name`` of a JSON object that has ``others`` too."""
    before = b"".join(b"%b:%b," % (orjson.dumps(key), orjson.dumps(value)) for key, value in others.items())
    head = b"{%b%b:[" % (before, orjson.dumps(name))
    for batch in rows:
        yield head + b",".join(batch)
        head = b","
    yield (head if head != b"," else b"") + b"]}"


def with_payloads(batches: Iterable[Sequence[bytes]]) -> Iterator[list[bytes]]:
    """Rows of JSON whose payload is JSON text, with the payload as the object that it says, to the digit."""
    for batch in batches:
        yield [_with_payload(row) for row in batch]


def _with_payload(line: bytes) -> bytes:
    row = orjson.loads(line)
    row["payload"] = orjson.Fragment(row["payload"] or "{}")
    return orjson.dumps(row)


def _range(text: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    try:
        return media_range, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return media_range, 0.0


def _quality(media_type: str, wanted: Sequence[tuple[str, float]]) -> float:
    """What the most specific range that ``media_type`` is in says."""
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        found = [quality for name, quality in wanted if name == media_range]
        if found:
            return max(found)
    return 0.0
