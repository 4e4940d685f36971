"""Statements of ClickHouse's HTTP protocol, rewritten for the engine in this process (pure).

Over HTTP the data of an INSERT follows its statement in the body. The engine in this process takes data from a file
instead: ``INSERT … FORMAT X`` becomes ``INSERT … FROM INFILE '<file>' FORMAT X``, and ``INSERT … SELECT … FROM
input('<structure>') … FORMAT X`` becomes a SELECT from ``file('<file>', 'X', '<structure>')``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"--[^\n]*|/\*.*?\*/|'(?:\\.|''|[^'\\])*'"
    rb"|`(?:\\.|[^`\\])*`|\"(?:\\.|[^\"\\])*\"|[A-Za-z_]\w*|\d\w*|\s+|.",
    re.DOTALL,
)
_DATA_START = re.compile(rb"[ \t]*(?:\r?\n)?")
_READS = frozenset({b"SELECT", b"WITH", b"FROM"})

# A result in these formats is the concatenation of its chunks; every other format is a document of its own a chunk.
STREAMABLE = frozenset(
    {"native", "jsoneachrow", "jsonlines", "ndjson", "jsoncompacteachrow", "tabseparated", "tsv", "tabseparatedraw"}
    | {"tsvraw", "csv", "rowbinary", "values"}
)


class BadStatement(ValueError):
    """The request is no statement that can be sent on; the text says why."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What to hand to the engine.

    ``sql`` contains the marker of ``data_file`` where the statement reads ``data``. ``stream`` says that the
    result may be sent in chunks. ``is_insert`` says that the statement is an INSERT.
    """

    sql: str
    data: bytes | None
    is_insert: bool
    stream: bool
    output_format: str

    def with_file(self, path: str) -> str:
        """``sql`` reading its data from ``path``."""
        return self.sql.replace(_FILE, path)


_FILE = "\x00data\x00"


@dataclass(frozen=True, slots=True)
class _Token:
    text: bytes
    word: bytes
    start: int
    depth: int


def _tokens(sql: bytes) -> Iterator[_Token]:
    """The words and parentheses of ``sql``, strings and comments left out."""
    depth = 0
    for match in _TOKEN.finditer(sql):
        text = match.group()
        first = text[:1]
        if first == b"(":
            depth += 1
        elif first == b")":
            depth -= 1
        elif not (first.isalpha() or first == b"_"):
            continue
        yield _Token(text, text.upper(), match.start(), depth)


def parse(query: bytes, body: bytes, default_format: str) -> Statement:
    """The statement of a request with ``query`` from the address and ``body``.

    Raises BadStatement where there is no statement, it is no UTF-8, or data follows a statement that takes none.
    """
    sql = query if query.strip() else body
    data = body if query.strip() else b""
    if not sql.strip():
        raise BadStatement("Empty query")
    first = next((token.word for token in _tokens(sql) if token.text not in b"()"), b"")
    if first == b"INSERT":
        return _insert(sql, data)
    if data:
        sql = sql + b"\n" + data
    return Statement(_text(sql), None, False, *_output(sql, first, default_format))


def _output(sql: bytes, first: bytes, default_format: str) -> tuple[bool, str]:
    """Whether the answer streams, and the format where the statement names none (one it names wins in the engine)."""
    tokens = list(_tokens(sql))
    name = default_format
    for at, token in enumerate(tokens[:-1]):
        last = at + 2 == len(tokens) or tokens[at + 2].word == b"SETTINGS"
        if token.depth == 0 and token.word == b"FORMAT" and last:
            name = tokens[at + 1].text.decode()
    return first in _READS and name.lower() in STREAMABLE, default_format


def _insert(sql: bytes, data: bytes) -> Statement:
    settings_at = format_at = input_at = -1
    name = b""
    reads_select = False
    previous = b""
    names_format = False
    end = len(sql)
    for token in _tokens(sql):
        if token.depth == 0 and token.word == b"VALUES" and not reads_select:
            return _plain(sql + b"\n" + data if data else sql)
        if token.depth == 0 and token.word in _READS:
            reads_select = reads_select or token.word != b"FROM"
        if token.depth == 0 and token.word == b"SETTINGS":
            settings_at = token.start
        if token.text == b"(" and previous == b"INPUT":
            input_at = token.start - len(b"input")
        if names_format and token.word[:1].isalpha():
            name = token.text
            if not reads_select or input_at >= 0:
                end = token.start + len(name)
                break
            format_at = -1
        names_format = token.depth == 0 and token.word == b"FORMAT"
        if names_format:
            format_at = token.start
        previous = token.word
    if not name or format_at < 0:
        return _plain(sql + b"\n" + data if data else sql)
    inline = sql[end:]
    matched = _DATA_START.match(inline)
    rest = inline[matched.end() :] if matched else inline
    payload = rest + data if rest.strip(b" ;\r\n") else data
    if input_at >= 0:
        opening = sql.index(b"(", input_at) + 1
        source = b"file('%b', '%b', " % (_FILE.encode(), name)
        return Statement(_text(sql[:input_at] + source + sql[opening:format_at]), payload, True, False, "Null")
    at = settings_at if 0 <= settings_at < format_at else format_at
    infile = b"FROM INFILE '%b' " % _FILE.encode()
    return Statement(_text(sql[:at] + infile + sql[at:end]), payload, True, False, "Null")


def _plain(sql: bytes) -> Statement:
    return Statement(_text(sql), None, True, False, "Null")


def _text(sql: bytes) -> str:
    try:
        return sql.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadStatement(f"the statement is not UTF-8: {error}") from None
