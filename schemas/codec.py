"""Avro with the registry's framing: a zero byte, the schema id as four bytes, the Avro body."""

from __future__ import annotations

import io
import json
import re
import struct
from functools import cached_property
from typing import Any

import fastavro

from tradetape.schemas import generated
from tradetape.schemas.catalogue import Schema
from tradetape.schemas.completion import completion

MAGIC = 0
HEADER = struct.Struct(">bI")


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Undecodable(ValueError):
    """The bytes are no Avro record of the schema they name."""


def _said(error: BaseException) -> str:
    """The same text in every process: a verdict must replay to the digit."""
    return _ADDRESS.sub("", str(error))[:200]


def schema_id_of(value: bytes) -> int:
    """The registry id in ``value``; raises Undecodable where there is no framing."""
    if len(value) < HEADER.size or value[0] != MAGIC:
        raise Undecodable("no schema id: the bytes do not start with the registry's framing")
    return int(HEADER.unpack_from(value)[1])


class Encoder:
    """Writes records of one schema. The id comes from a registry look-up, never from registering."""

    def __init__(self, schema: Schema, schema_id: int) -> None:
        self._json = json.dumps(schema)
        self._schema = fastavro.parse_schema(schema)
        self._header = HEADER.pack(MAGIC, schema_id)

    def encode(self, record: dict[str, Any]) -> bytes:
        """``record`` framed for Kafka. Times are ints in microseconds, decimals are Decimal.

        Raises ValueError or TypeError where a value does not fit the schema.
        """
        try:
            return self._generated(record, self._header)
        except generated.encode.GIVES_UP:
            return self._by_fastavro(record)

    @cached_property
    def _generated(self) -> generated.encode.Encode:
        return generated.encoder(self._json)

    def _by_fastavro(self, record: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        buffer.write(self._header)
        fastavro.schemaless_writer(buffer, self._schema, record)
        return buffer.getvalue()


def strip_times(schema: Any) -> Any:
    """``schema`` with timestamp-micros read as plain longs: microseconds are what the core computes with."""
    if isinstance(schema, list):
        return [strip_times(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("logicalType") == "timestamp-micros":
        return schema["type"]
    return {key: strip_times(value) if key in _NESTED else value for key, value in schema.items()}


_NESTED = frozenset({"type", "items", "values", "fields"})


class Decoder:
    """Reads records of one writer schema; with ``known``, to which ``compatibility.misreading`` says no, what that
    schema has and the writer's does not gets its default, in nested records too.
    """

    def __init__(self, schema: Schema, known: Schema | None = None) -> None:
        self._complete = None if known is None else completion(schema, known)
        self.record: str = f"{schema.get('namespace', '')}.{schema['name']}".lstrip(".")
        plain = strip_times(schema)
        self._json = json.dumps(plain)
        self._schema = fastavro.parse_schema(plain)

    def decode(self, value: bytes) -> dict[str, Any]:
        """The record in a framed ``value``. Raises Undecodable, also where bytes are left over."""
        try:
            record = self._generated(value, HEADER.size)
        except generated.decode.GIVES_UP:
            record = self._by_fastavro(value)
        if self._complete is not None:
            self._complete(record)
        return record

    @cached_property
    def _generated(self) -> generated.decode.Decode:
        return generated.decoder(self._json)

    def _by_fastavro(self, value: bytes) -> dict[str, Any]:
        buffer = io.BytesIO(value)
        buffer.seek(HEADER.size)
        try:
            record = fastavro.schemaless_reader(buffer, self._schema)
        except (
            ValueError,
            EOFError,
            IndexError,
            KeyError,
            TypeError,
            OverflowError,
            MemoryError,
            ArithmeticError,
        ) as error:
            raise Undecodable(f"{type(error).__name__}: {_said(error)}") from None
        if buffer.tell() != len(value):
            raise Undecodable(f"{len(value) - buffer.tell()} bytes left over")
        if not isinstance(record, dict):
            raise Undecodable("not a record")
        return record
