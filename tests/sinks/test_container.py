"""Containers built from undecoded bodies read back as what was encoded."""

from __future__ import annotations

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sinks.rows import audited, body

from tradetape.schemas.catalogue import output_schema
from tradetape.sinks.container import Container, zigzag

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}, {"name": "b", "type": "bytes"}]}


def encoded(row: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(SCHEMA), row)
    return buffer.getvalue()


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300)), max_size=60))
def test_what_fastavro_reads_is_what_was_packed(values: list[tuple[int, bytes]]) -> None:
    rows = [{"n": number, "b": text} for number, text in values]
    packed = Container(SCHEMA).pack([encoded(row) for row in rows])
    assert list(fastavro.reader(io.BytesIO(packed))) == rows


@given(st.integers(0, 2**62 - 1))
def test_zigzag_is_an_avro_long(number: int) -> None:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, "long", number)
    assert zigzag(number) == buffer.getvalue()


@pytest.mark.req("P-03")
def test_audited_records_in_a_container() -> None:
    rows = [audited(offset, reasons=["x"], raw=bytes([offset])) for offset in range(5)]
    packed = Container(output_schema("audited")).pack([body("audited", row) for row in rows])
    read = list(fastavro.reader(io.BytesIO(packed)))
    assert [row["raw"] for row in read] == [row["raw"] for row in rows]
    assert [row["event_id"] for row in read] == [row["event_id"] for row in rows]


def test_the_same_bodies_give_the_same_bytes() -> None:
    bodies = [encoded({"n": 1, "b": b"x"})]
    assert Container(SCHEMA).pack(bodies) == Container(dict(SCHEMA)).pack(bodies)
