"""What generating a decoder and an encoder have in common: the schema with its names known, and lines of Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fastavro

MAX_DEPTH = 20
"""Types inside types; a record inside itself ends here."""

MAX_DIGITS = 1_000
"""Of a decimal; the contract's have 38."""

MAX_LINES = 20_000
"""Of one function; the longest of the catalogue has a fifth."""


class Unsupported(Exception):
    """A schema that no code is generated for: fastavro reads and writes it."""


class Unusual(ValueError):
    """A value or bytes that generated code leaves to fastavro, which accepts them or says why not."""


class Source:
    """A function's lines, with names for its variables. Schema text gets into it through ``repr`` alone."""

    def __init__(self, head: str) -> None:
        self._lines = [head]
        self._indent = 1
        self._names = 0

    def name(self) -> str:
        """A variable that no other value of the function uses."""
        self._names += 1
        return f"a{self._names}"

    def add(self, *lines: str) -> None:
        """``lines`` at the present depth."""
        self._lines += ["    " * self._indent + line for line in lines]
        if len(self._lines) > MAX_LINES:
            raise Unsupported("too long")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """What is added inside stands below ``head``."""
        self.add(head)
        self._indent += 1
        yield
        self._indent -= 1

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


class Types:
    """The types of one schema: its root, parsed, and what the names in it stand for."""

    def __init__(self, schema: Any) -> None:
        self._named: dict[str, Any] = {}
        self.root = fastavro.parse_schema(schema, self._named)

    def resolve(self, avro_type: Any, depth: int) -> tuple[str, Mapping[str, Any]]:
        """The kind of ``avro_type`` and its attributes, a name replaced by what it names."""
        if depth > MAX_DEPTH:
            raise Unsupported("too deep")
        if isinstance(avro_type, str):
            avro_type = self._named.get(avro_type, {"type": avro_type})
        if isinstance(avro_type, list):
            return "union", {}
        return avro_type["type"], avro_type


def nullable(branches: list[Any]) -> tuple[Any, int]:
    """The branch of a union that is not null, and its index. Other unions than these two are Unsupported."""
    if len(branches) != 2 or branches.count("null") != 1:
        raise Unsupported("a union of more than null and one type")
    index = 1 - branches.index("null")
    return branches[index], index


def decimal_digits(attributes: Mapping[str, Any]) -> tuple[int, int]:
    """Precision and scale of a decimal. Raises Unsupported where they are none."""
    precision, scale = attributes.get("precision"), attributes.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int):
        raise Unsupported(f"decimal({precision}, {scale})")
    if not 0 < precision <= MAX_DIGITS or not 0 <= scale <= precision:
        raise Unsupported(f"decimal({precision}, {scale})")
    return precision, scale


def compiled(source: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """The globals of ``source`` after running it with ``names`` known. Raises Unsupported."""
    scope = dict(names)
    try:
        exec(compile(source, "<generated>", "exec"), scope)
    except SyntaxError:
        raise Unsupported("more blocks inside blocks than Python takes") from None
    return scope
