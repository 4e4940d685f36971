"""An encoder generated from a schema: code that joins the parts of one record, to the bytes that fastavro writes.

It writes values of exactly the types that a decoder gives (str, int, bool, bytes, Decimal, list, dict, None) and tuples
for arrays. On any other it gives up, and fastavro writes the record or says why not. That what it does write is what
fastavro writes is a property test over the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded
from typing import Any

from tradetape.schemas.generated.source import Source, Types, Unsupported, Unusual, compiled, decimal_digits, nullable

GIVES_UP = (ValueError, KeyError, TypeError, ArithmeticError)
"""What a generated encoder raises on a record that it leaves to fastavro."""

Encode = Callable[[dict[str, Any], bytes], bytes]

CHUNK = 14
"""Bits of a long that are looked up at once: those of two bytes."""

MASK = (1 << CHUNK) - 1

MORE = tuple(bytes((bits & 0x7F | 0x80, bits >> 7 | 0x80)) for bits in range(MASK + 1))
"""Bits of a long that others follow."""

LAST = tuple(bytes((bits,)) if bits < 0x80 else bytes((bits & 0x7F | 0x80, bits >> 7)) for bits in range(MASK + 1))
"""The last bits of a long, in one byte where they fit."""

SIZES = LAST[::2]
"""The sizes that nearly every text, array and map has, by number."""

ZERO = LAST[0]


def encoder(schema: Any) -> Encode:
    """Bytes that begin with given ones and go on with a record, as fastavro writes it. Raises Unsupported."""
    text, names = source(schema)
    encode: Encode = compiled(text, names)["encode"]
    return encode


def source(schema: Any) -> tuple[str, dict[str, Any]]:
    """The text of ``schema``'s encoder and the globals that it needs. Raises Unsupported."""
    generator = _Generator(schema)
    return generator.text(), generator.names


def write_long(value: Any) -> bytes:
    """``value`` as a long. Raises Unusual where it is none."""
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise Unusual("not a long")
    bits: int = (value << 1) ^ (value >> 63)
    if bits <= MASK:
        return LAST[bits]
    written = b""
    while bits > MASK:
        written += MORE[bits & MASK]
        bits >>= CHUNK
    return written + LAST[bits]


def decimal_writer(precision: int, scale: int) -> Callable[[Any], bytes]:
    """A function that writes the unscaled number of a Decimal; it raises ArithmeticError where that is not exact."""
    context = Context(prec=precision, traps=[Inexact, Rounded, InvalidOperation, Overflow])
    shifted, whole = context.scaleb, context.to_integral_exact

    def unscaled(value: Any) -> bytes:
        if type(value) is not Decimal:
            raise Unusual("not a Decimal")
        if not value:
            if value.adjusted() < -scale:
                raise Unusual("a zero of more decimals")  # which fastavro refuses
            return ZERO
        number = int(whole(shifted(value, scale)))
        return number.to_bytes((number.bit_length() + 8) >> 3, "big", signed=True)

    return unscaled


class _Generator:
    """``n`` is a size; every value has a variable, which is the value first, then the bytes that stand for it."""

    def __init__(self, schema: Any) -> None:
        self._types = Types(schema)
        self._source = Source("def encode(record, header):")
        self.names: dict[str, Any] = {
            "utf8": str.encode,
            "join": b"".join,
            "sizes": SIZES,
            "booleans": (b"\0", b"\1"),
            "write_long": write_long,
            "Unusual": Unusual,
        }

    def text(self) -> str:
        kind, record = self._types.resolve(self._types.root, 0)
        if kind != "record":
            raise Unsupported("not a record")
        parts = self._record("record", record, 0)
        self._source.add(f"return {_joined(['header', *parts])}")
        return str(self._source)

    def _value(self, name: str, avro_type: Any, depth: int) -> list[str]:
        """Add what ``name`` needs to be written; returns the expressions of its bytes."""
        kind, attributes = self._types.resolve(avro_type, depth)
        if kind == "union":
            return self._union(name, avro_type, depth)
        if kind == "record":
            return self._record(name, attributes, depth)
        if kind == "string":
            self._source.add(f"{name} = utf8({name})")  # refuses what is no str
        elif kind == "bytes" and attributes.get("logicalType") == "decimal":
            self.names[f"unscaled_{name}"] = decimal_writer(*decimal_digits(attributes))
            self._source.add(f"{name} = unscaled_{name}({name})")
        elif kind == "bytes":
            self._refuse_unless(f"type({name}) is bytes")
        elif kind == "long":
            return [f"write_long({name})"]
        elif kind == "int":
            self._refuse_unless(f"-0x80000000 <= {name} <= 0x7fffffff")
            return [f"write_long({name})"]
        elif kind == "boolean":
            self._refuse_unless(f"{name} is True or {name} is False")
            return [f"booleans[{name}]"]
        elif kind == "array":
            self._refuse_unless(f"type({name}) is list or type({name}) is tuple")
            item = self._source.name()
            return self._items(
                name, f"for {item} in {name}:", lambda: self._value(item, attributes["items"], depth + 1)
            )
        elif kind == "map":
            self._refuse_unless(f"type({name}) is dict")
            key, item = self._source.name(), self._source.name()
            return self._items(
                name,
                f"for {key}, {item} in {name}.items():",
                lambda: [*self._value(key, "string", depth), *self._value(item, attributes["values"], depth + 1)],
            )
        else:
            raise Unsupported(kind)
        return [_size(name), name]

    def _record(self, name: str, record: Any, depth: int) -> list[str]:
        self._refuse_unless(f"type({name}) is dict")
        parts: list[str] = []
        for field in record["fields"]:
            value = self._source.name()
            self._source.add(f"{value} = {_field(name, field)}")
            parts += self._value(value, field["type"], depth + 1)
        return parts

    def _union(self, name: str, branches: Any, depth: int) -> list[str]:
        branch, index = nullable(branches)
        kind, _ = self._types.resolve(branch, depth + 1)
        with self._source.block(f"if {name} is None:"):
            self._source.add(f"{name} = {bytes((2 - 2 * index,))!r}")
        with self._source.block("else:"):
            if kind == "record":
                self._refuse_unless(f"type({name}) is dict and '-type' not in {name}")
            elif kind == "array":
                self._refuse_unless(f"type({name}) is list")
            parts = self._value(name, branch, depth + 1)
            self._source.add(f"{name} = {_joined([repr(bytes((2 * index,))), *parts])}")
        return [name]

    def _items(self, name: str, loop: str, write: Callable[[], list[str]]) -> list[str]:
        with self._source.block(f"if {name}:"):
            self._source.add(f"parts_{name} = [write_long(len({name}))]")
            with self._source.block(loop):
                self._source.add(f"parts_{name} += ({', '.join(write())},)")
            self._source.add(f"parts_{name}.append({ZERO!r})", f"{name} = join(parts_{name})")
        with self._source.block("else:"):
            self._source.add(f"{name} = {ZERO!r}")
        return [name]

    def _refuse_unless(self, condition: str) -> None:
        with self._source.block(f"if not ({condition}):"):
            self._source.add("raise Unusual")


def _field(record: str, field: Any) -> str:
    """The value of ``field``, as fastavro fills in what a record does not have."""
    if "default" in field:
        return f"{record}.get({field['name']!r}, {field['default']!r})"
    if isinstance(field["type"], list) and "null" in field["type"]:
        return f"{record}.get({field['name']!r})"
    return f"{record}[{field['name']!r}]"


def _size(name: str) -> str:
    return f"(sizes[n] if (n := len({name})) < {len(SIZES)} else write_long(n))"


def _joined(parts: Sequence[str]) -> str:
    """Two or three are added up faster than joined."""
    return " + ".join(parts) if len(parts) < 4 else f"join(({', '.join(parts)}))"
