"""A decoder generated from a writer schema: straight-line code that reads one record.

It reads what encoders write. On anything else (truncated bytes, negative sizes, longs of more than nine bytes, a branch
that is not there, text that is no UTF-8) it gives up, and fastavro judges them. Bytes that end too early are noticed by
an index past their end, or by the last value not ending where they do: a slice is never longer than what is there.
That what it does read is what fastavro reads is a property test over the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Context, Decimal
from typing import Any

from fastavro.read import LOGICAL_READERS

from tradetape.schemas.generated.source import Source, Types, Unsupported, Unusual, compiled, decimal_digits, nullable

GIVES_UP = (ValueError, IndexError, ArithmeticError)
"""What a generated decoder raises on bytes that it leaves to fastavro."""

Decode = Callable[[bytes, int], dict[str, Any]]


def decoder(schema: Any) -> Decode:
    """The record in bytes from a position to their end, as fastavro gives it. Raises Unsupported."""
    text, names = source(schema)
    decode: Decode = compiled(text, names)["decode"]
    return decode


def source(schema: Any) -> tuple[str, dict[str, Any]]:
    """The text of ``schema``'s decoder and the globals that it needs. Raises Unsupported."""
    generator = _Generator(schema)
    return generator.text(), generator.names


def read_long(value: bytes, at: int) -> tuple[int, int]:
    """The long at ``at``, and where the next value begins."""
    number = value[at]
    at += 1
    if number >= 0x80:
        number &= 0x7F
        shift = 7
        while (byte := value[at]) >= 0x80:
            number |= (byte & 0x7F) << shift
            at += 1
            shift += 7
            if shift == 63:
                raise Unusual("a long of more than nine bytes")
        number |= byte << shift
        at += 1
    return (number >> 1) ^ -(number & 1), at


def read_size(value: bytes, at: int) -> tuple[int, int]:
    """The length or count at ``at``, and where what it measures begins."""
    size, at = read_long(value, at)
    if size < 0:
        raise Unusual("a negative size")
    return size, at


class _Generator:
    """``v`` is the bytes, ``p`` the place of the next value, ``n`` a size or a byte that was just read."""

    def __init__(self, schema: Any) -> None:
        self._types = Types(schema)
        self._source = Source("def decode(v, p):")
        self.names: dict[str, Any] = {
            "read_long": read_long,
            "read_size": read_size,
            "Unusual": Unusual,
            "unscaled": int.from_bytes,
        }

    def text(self) -> str:
        kind, record = self._types.resolve(self._types.root, 0)
        if kind != "record":
            raise Unsupported("not a record")
        value = self._record(record, 0)
        with self._source.block("if p != len(v):"):
            self._source.add("raise Unusual")
        self._source.add(f"return {value}")
        return str(self._source)

    def _value(self, avro_type: Any, depth: int) -> str:
        """Add the reading of one value; returns the expression that has it."""
        kind, attributes = self._types.resolve(avro_type, depth)
        if kind == "union":
            return self._union(avro_type, depth)
        if kind == "record":
            return self._record(attributes, depth)
        name = self._source.name()
        logical = f"{kind}-{attributes.get('logicalType')}"
        if logical == "bytes-decimal":
            self._decimal(name, attributes)
        elif logical in LOGICAL_READERS:
            raise Unsupported(logical)
        elif kind in ("int", "long"):
            self._source.add(f"{name}, p = read_long(v, p)")
        elif kind == "boolean":
            self._source.add(f"{name} = v[p] != 0", "p += 1")
        elif kind == "string":
            self._size()
            self._source.add(f"{name} = v[p : (p := p + n)].decode()")
        elif kind == "bytes":
            self._size()
            self._source.add(f"{name} = v[p : (p := p + n)]")
        elif kind == "array":
            self._source.add(f"{name} = []")
            with self._items(name):
                self._source.add(f"{name}.append({self._value(attributes['items'], depth + 1)})")
        elif kind == "map":
            self._source.add(f"{name} = {{}}")
            with self._items(name):
                key = self._value("string", depth + 1)
                self._source.add(f"{name}[{key}] = {self._value(attributes['values'], depth + 1)}")
        else:
            raise Unsupported(kind)
        return name

    def _record(self, record: Any, depth: int) -> str:
        fields = [(field["name"], self._value(field["type"], depth + 1)) for field in record["fields"]]
        if not fields:
            raise Unsupported("a record without fields")
        return "{" + ", ".join(f"{name!r}: {value}" for name, value in fields) + "}"

    def _union(self, branches: Any, depth: int) -> str:
        branch, index = nullable(branches)
        name = self._source.name()
        self._source.add("n = v[p]", "p += 1")
        with self._source.block(f"if n == {2 - 2 * index}:"):
            self._source.add(f"{name} = None")
        with self._source.block(f"elif n == {2 * index}:"):
            self._source.add(f"{name} = {self._value(branch, depth + 1)}")
        with self._source.block("else:"):
            self._source.add("raise Unusual")
        return name

    def _decimal(self, name: str, attributes: Any) -> None:
        precision, scale = decimal_digits(attributes)
        self.names[f"scaled_{name}"] = Context(prec=precision).multiply
        self.names[f"unit_{name}"] = Decimal((0, (1,), -scale))
        self._size()
        unscaled = "unscaled(v[p : (p := p + n)], 'big', signed=True)"
        self._source.add(f"{name} = scaled_{name}({unscaled}, unit_{name})")

    def _size(self) -> None:
        """``n`` is the size at ``p``; nearly every size fits one byte."""
        with self._source.block("if (n := v[p]) & 0x81:"):
            self._source.add("n, p = read_size(v, p)")
        with self._source.block("else:"):
            self._source.add("n >>= 1", "p += 1")

    @contextmanager
    def _items(self, name: str) -> Iterator[None]:
        """Blocks of items up to an empty one; what is added inside reads one item."""
        count = f"count_{name}"
        self._source.add(f"{count}, p = read_size(v, p)")
        with self._source.block(f"while {count}:"):
            with self._source.block(f"for _ in range({count}):"):
                yield
            self._source.add(f"{count}, p = read_size(v, p)")
