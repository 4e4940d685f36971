"""A POST's body → the exact bytes of its events, in order. Pure; any bytes are split, or it is said why not (P-08)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

MIB = 1024 * 1024
LARGEST_BODY = 32 * MIB
"""Bytes of one POST, inflated."""

LARGEST_EVENT = 10 * MIB
"""Bytes of one event: 10 MB and its envelope (P-08)."""

MOST_EVENTS = 10_000
"""Events of one POST."""

UNREAD = object()
"""In place of a document: read the bytes."""

_BOM = "\ufeff"
_SPACE = re.compile(r"[ \t\r\n]*")
_LINES = re.compile(rb"[^\n]+")
_EXACT = json.JSONDecoder(parse_float=Decimal, parse_constant=Decimal)
_SPANS = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)
"""Finds the end of a value with numbers that Python does not read."""


class Item(NamedTuple):
    """One event as sent: its bytes, and their JSON value where splitting had to read it, else UNREAD."""

    native: bytes
    document: Any = UNREAD


class Malformed(ValueError):
    """The body as a whole is not JSON: no event can be told from another."""


class TooMuch(ValueError):
    """An event is too large, or the events are too many."""


def split(body: bytes, *, largest: int = LARGEST_EVENT, most: int = MOST_EVENTS) -> Iterator[Item]:
    """The elements of a JSON array, or the one value that the body is.

    Numbers are Decimal or int, never float. Raises Malformed, also after some items, and TooMuch.
    """
    if not body.strip(b" \t\r\n"):
        raise Malformed("the body is empty")
    try:
        # As json.loads does: what comes out is encoded back to the very same bytes.
        text = body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise Malformed(f"byte {error.start} is not UTF-8") from None
    start = _skip(text, len(_BOM) if text.startswith(_BOM) else 0)
    if not text.startswith("[", start):
        item, end = _value(text, start, largest, 1)
        _expect_end(text, end)
        yield item
        return
    at = _skip(text, start + 1)
    count = 0
    if text.startswith("]", at):
        _expect_end(text, at + 1)
        return
    while True:
        count += 1
        if count > most:
            raise TooMuch(f"more than {most} events")
        item, end = _value(text, at, largest, count)
        yield item
        at = _skip(text, end)
        if text.startswith(",", at):
            at = _skip(text, at + 1)
        elif text.startswith("]", at):
            _expect_end(text, at + 1)
            return
        else:
            raise Malformed(f"expected , or ] after event {count}, at character {at}")


def split_lines(body: bytes, *, largest: int = LARGEST_EVENT, most: int = MOST_EVENTS) -> Iterator[Item]:
    """The lines of a body that are not blank; a line is not read here. Raises Malformed for an empty body, TooMuch."""
    if not body.strip(b" \t\r\n"):
        raise Malformed("the body is empty")
    start = len(_BOM.encode()) if body.startswith(_BOM.encode()) else 0
    for count, found in enumerate(_LINES.finditer(body, start), 1):
        if count > most:
            raise TooMuch(f"more than {most} lines")
        native = found.group().removesuffix(b"\r")
        if native.strip(b" \t\r"):
            _check_size(len(native), largest, count)
            yield Item(native)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _value(text: str, start: int, largest: int, number: int) -> tuple[Item, int]:
    document: Any
    try:
        document, end = _EXACT.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise Malformed(f"{error.msg} in event {number}, at character {error.pos}") from None
    except RecursionError:
        raise Malformed(f"event {number} is nested too deep") from None
    except (ValueError, InvalidOperation):
        document, end = UNREAD, _end(text, start, number)
    native = text[start:end].encode("utf-8", "surrogatepass")
    _check_size(len(native), largest, number)
    return Item(native, document), end


def _end(text: str, start: int, number: int) -> int:
    try:
        return _SPANS.raw_decode(text, start)[1]
    except json.JSONDecodeError as error:
        raise Malformed(f"{error.msg} in event {number}, at character {error.pos}") from None
    except RecursionError:
        raise Malformed(f"event {number} is nested too deep") from None


def _check_size(size: int, largest: int, number: int) -> None:
    if size > largest:
        raise TooMuch(f"event {number} has {size} bytes, more than {largest}")


def _expect_end(text: str, at: int) -> None:
    end = _skip(text, at)
    if end < len(text):
        raise Malformed(f"more after the end of the JSON, at character {end}")
