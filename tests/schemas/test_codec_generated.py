"""Generated code against fastavro: the same bytes, the same values, nothing accepted that fastavro refuses."""

from __future__ import annotations

import copy
import io
import json
import random
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradetape.schemas import codec, generated, numbers
from tradetape.schemas.catalogue import OUTPUTS, event_types, output_schema
from tradetape.schemas.generated.source import MAX_DEPTH, Unsupported
from tradetape.schemas.named import expand

SCHEMAS = {name: event_type.schema for name, event_type in event_types().items()}
SCHEMAS |= {name: output_schema(name) for name in OUTPUTS}
EXPANDED = {name: expand(schema) for name, schema in SCHEMAS.items()}
NESTED = ["order_filled", "signal_generated", "risk", "audited"]
"""Schemas that have, taken together, every type that the catalogue uses."""

HEADER = b"\x00\x00\x00\x00\x07"
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
SEEDS = st.integers(0, 1 << 32)
"""Values of a whole event are drawn from a seed: a hundred draws an example take hypothesis a minute a schema."""


def record(**fields: Any) -> dict[str, Any]:
    fields_ = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": "R", "namespace": "n", "fields": fields_}


def written(schema: Any, value: dict[str, Any]) -> bytes:
    """``value`` as fastavro writes it, behind a header."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, value)
    return HEADER + body.getvalue()


def read(schema: Any, value: bytes) -> Any:
    """What fastavro reads behind the header, times being longs in ``schema``. Any exception is a refusal."""
    body = io.BytesIO(value[len(HEADER) :])
    found = fastavro.schemaless_reader(body, schema)
    if body.read():
        raise ValueError("left over")
    return found


def outcome(function: Callable[..., Any], *arguments: Any) -> str:
    """The value, to the last digit and type, or that there was none."""
    try:
        return repr(function(*arguments))
    except Exception:
        return "refused"


def value_of(avro_type: Any, rng: random.Random) -> Any:
    """A value of an expanded type. Longs take at most nine bytes: generated code leaves longer ones to fastavro."""
    if isinstance(avro_type, list):
        branch = next(branch for branch in avro_type if branch != "null")
        return value_of(branch, rng) if rng.random() < 0.5 else None
    kind = avro_type if isinstance(avro_type, str) else avro_type["type"]
    some = range(rng.choice([0, 0, 1, 2, 70]))
    match kind:
        case "record":
            present = [field for field in avro_type["fields"] if "default" not in field or rng.random() < 0.8]
            return {field["name"]: value_of(field["type"], rng) for field in present}
        case "array":
            return [value_of(avro_type["items"], rng) for _ in some[:3]]
        case "map":
            return {value_of("string", rng): value_of(avro_type["values"], rng) for _ in some[:3]}
        case "string":
            return rng.choice(["", "x", "ü", "日本", "x" * 63, "x" * 64, "€" * 5_000, str(rng.random())])
        case "boolean":
            return rng.random() < 0.5
        case "int":
            return rng.choice([rng.randrange(-70, 70), -(1 << 31), (1 << 31) - 1])
        case "long":
            return rng.randrange(-1, 1) + rng.choice([1, -1]) * rng.randrange(1 << rng.randrange(1, 63))
        case "bytes" if isinstance(avro_type, dict) and avro_type.get("logicalType") == "decimal":
            number = rng.choice([1, -1]) * rng.randrange(10 ** rng.randrange(39))
            return Decimal(number).scaleb(rng.randrange(-18, 1), context=numbers.WIDE)
    return bytes(len(some))


def evolved(schema: Any, rng: random.Random) -> Any:
    """An older or newer version of an expanded record: some optional fields gone, others new, also inside it."""
    fields = [
        {**field, "type": evolved(field["type"], rng)} if "fields" in field["type"] else field
        for field in schema["fields"]
        if "default" not in field or rng.random() < 0.9
    ]
    new = [
        {"type": ["null", "string"], "default": None},
        {"type": ["string", "null"], "default": 'it\'s \\ "new"\n'},
        {"type": {"type": "map", "values": DECIMAL}, "default": {}},
        {"type": {"type": "array", "items": ["null", "long"]}, "default": [1]},
        {"type": "boolean", "default": True},
        {"type": "int", "default": -5},
    ]
    added = [{**field, "name": f"new{number}"} for number, field in enumerate(new) if rng.random() < 0.5]
    return {**schema, "fields": fields + added}


def once_named(schema: Any) -> Any:
    """An expanded schema in which every record has a name of its own, as Avro wants it."""
    names = iter(range(10_000))

    def rename(part: Any) -> Any:
        if isinstance(part, list):
            return [rename(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        name = {"name": f"R{next(names)}"} if part.get("type") == "record" else {}
        return {key: part[key] if key in ("default", "name") else rename(part[key]) for key in part} | name

    return rename(schema)


def same(schema: Any, value: dict[str, Any]) -> None:
    """Generated code alone writes ``value`` and reads it again as fastavro does."""
    expected = written(schema, value)
    assert generated.encoder(json.dumps(schema))(value, HEADER) == expected
    plain = codec.strip_times(schema)
    assert repr(generated.decoder(json.dumps(plain))(expected, len(HEADER))) == repr(read(plain, expected))


@pytest.mark.req("P-01")
@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=10)
@given(seed=SEEDS)
def test_every_schema_is_read_and_written_as_by_fastavro(name: str, seed: int) -> None:
    same(SCHEMAS[name], value_of(EXPANDED[name], random.Random(seed)))


@pytest.mark.req("P-05")
@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=3)
@given(seed=SEEDS)
def test_so_is_every_version_of_it(name: str, seed: int) -> None:
    rng = random.Random(seed)
    schema = once_named(evolved(EXPANDED[name], rng))
    same(schema, value_of(schema, rng))


READERS = {
    name: (fastavro.parse_schema(codec.strip_times(SCHEMAS[name])), codec.Decoder(SCHEMAS[name])) for name in NESTED
}


def spoilt(valid: bytes) -> st.SearchStrategy[bytes]:
    """Bytes like ``valid``: cut, with bytes changed, put in or taken out, and such as have nothing to do with it."""
    place = st.integers(0, len(valid))
    telling = st.sampled_from([0, 1, 2, 3, 4, 0x7F, 0x80, 0x81, 0xFE, 0xFF]) | st.integers(0, 255)
    return st.one_of(
        st.builds(lambda at: valid[:at], place),
        st.builds(lambda at, byte: valid[:at] + bytes([byte]) + valid[at + 1 :], place, telling),
        st.builds(lambda at, put: valid[:at] + bytes(put) + valid[at:], place, st.lists(telling, max_size=12)),
        st.builds(lambda at, gone: valid[:at] + valid[at + gone :], place, st.integers(1, 4)),
        st.binary(max_size=60),
    )


@pytest.mark.req("P-08")
@pytest.mark.parametrize("name", NESTED)
@settings(max_examples=100)
@given(data=st.data())
def test_spoilt_bytes_are_judged_as_by_fastavro(name: str, data: st.DataObject) -> None:
    plain, decoder = READERS[name]
    valid = written(plain, value_of(EXPANDED[name], random.Random(data.draw(SEEDS))))[len(HEADER) :]
    value = HEADER + data.draw(spoilt(valid))
    expected = outcome(read, plain, value)
    assert outcome(decoder.decode, value) == expected
    assert outcome(generated.decoder(json.dumps(plain)), value, len(HEADER)) in (expected, "refused")


SMALL = record(
    number="long",
    text="string",
    maybe=["null", "bytes"],
    flag="boolean",
    many={"type": "array", "items": "string"},
    named={"type": "map", "values": "long"},
    amount=DECIMAL,
)
BODY = [b"\x02", b"\x02x", b"\x00", b"\x01", b"\x02\x02a\x00", b"\x02\x02k\x04\x00", b"\x02\x01"]
"""One value of each field of ``SMALL``."""

HUGE = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"
ODD = {
    "nothing": (0, b""),
    "more bytes than needed": (0, b"\x82\x80\x80\x00"),
    "nine bytes": (0, b"\x82\x80\x80\x80\x80\x80\x80\x80\x00"),
    "ten bytes": (0, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    "eleven bytes": (0, b"\x82\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
    "a long without end": (0, b"\xff" * 40),
    "negative length": (1, b"\x01"),
    "negative length in two bytes": (1, b"\x81\x01"),
    "huge length": (1, HUGE),
    "length beyond the end": (1, b"\x40x"),
    "no UTF-8": (1, b"\x02\xff"),
    "surrogate": (1, b"\x06\xed\xa0\x80"),
    "last branch from behind": (2, b"\x01\x02y"),
    "first branch from behind": (2, b"\x03"),
    "branch that is not there": (2, b"\x04"),
    "branch in two bytes": (2, b"\x82\x00\x02y"),
    "neither true nor false": (3, b"\x02"),
    "negative number of items, with their size": (4, b"\x01\x04\x02a\x00"),
    "two blocks": (4, b"\x02\x02a\x02\x02b\x00"),
    "huge number of items": (4, HUGE + b"\x02a"),
    "key twice": (5, b"\x04\x02k\x04\x02k\x06\x00"),
    "negative number of entries": (5, b"\x01\x06\x02k\x04\x00"),
    "no digits": (6, b"\x00"),
    "more digits than its precision": (6, b"\x28" + b"\x7f" * 20),
    "thousands of digits": (6, b"\x80\x20" + b"\x7f" * 2048),
    "huge decimal": (6, HUGE),
    "bytes left over": (6, b"\x02\x01\x00"),
}


@pytest.mark.req("P-08")
@pytest.mark.parametrize("why", ODD)
def test_odd_bytes_are_judged_as_by_fastavro(why: str) -> None:
    place, odd = ODD[why]
    value = HEADER + b"".join([*BODY[:place], odd, *BODY[place + 1 :]])
    tracemalloc.start()
    try:
        found = outcome(codec.Decoder(SMALL).decode, value)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert found == outcome(read, SMALL, value)
    assert outcome(generated.decode.decoder(SMALL), value, len(HEADER)) in (found, "refused")


def test_what_generated_code_gives_up_is_refused_in_fastavros_words() -> None:
    with pytest.raises(codec.Undecodable, match="EOFError: Expected 32 bytes, read"):
        codec.Decoder(SMALL).decode(HEADER + BODY[0] + b"\x40x")


class Text(str):
    """A str that is none of ours."""


VALUE = {
    "number": 1,
    "text": "x",
    "maybe": b"",
    "flag": True,
    "many": ["a"],
    "named": {"k": 2},
    "amount": Decimal("1.5"),
}
UNFIT = [
    *[("number", odd) for odd in (True, 1.0, 1 << 63, -(1 << 63) - 1, Decimal(1), "1", None)],
    *[("text", odd) for odd in (b"x", 1, None, "\ud800", Text("x"))],
    *[("maybe", odd) for odd in ("x", bytearray(b"x"), memoryview(b"x"), 1, ("bytes", b"x"))],
    *[("flag", odd) for odd in (0, 1, "", None)],
    *[("many", odd) for odd in ("ab", ("a",), {"a": 1}, [1], None, [None])],
    *[("named", odd) for odd in ({1: 1}, {"k": "x"}, {"k": None}, [("k", 1)], None)],
    *[
        ("amount", Decimal(odd))
        for odd in ("NaN", "sNaN", "Infinity", "-0", "0E-18", "0E-19", "0E+9", "1E-19", "1E+30")
    ],
    *[("amount", Decimal(odd)) for odd in ("1.0000000000000000000", "9" * 38, "9" * 39, "1E-1000000", "-0.5")],
    *[("amount", odd) for odd in (1, "1", 1.5, b"\x01", None)],
]


@pytest.mark.req("P-08")
@pytest.mark.parametrize(("field", "odd"), UNFIT, ids=[f"{field}-{number}" for number, (field, _) in enumerate(UNFIT)])
@pytest.mark.parametrize("optional", [False, True])
def test_unfit_values_are_written_or_refused_as_by_fastavro(field: str, odd: Any, optional: bool) -> None:
    schema = copy.deepcopy(SMALL)
    for declared in schema["fields"]:
        if optional and declared["name"] != "maybe":
            declared["type"] = ["null", declared["type"]]
    value = {**VALUE, field: odd}
    assert outcome(codec.Encoder(schema, 7).encode, value) == outcome(written, schema, value)


@given(st.decimals())
def test_decimals_are_written_as_by_fastavro(number: Decimal) -> None:
    if number.is_finite() and number.adjusted() > 1_000:
        number = number.scaleb(-number.adjusted())
    value = {**VALUE, "amount": number}
    assert outcome(codec.Encoder(SMALL, 7).encode, value) == outcome(written, SMALL, value)


def test_a_record_in_a_union_is_checked_as_by_fastavro() -> None:
    schema = {**record(inner=["null", record(a="long")]), "name": "Outer"}
    encode = generated.encode.encoder(schema)
    assert encode({"inner": {"a": 1, "more": 2}}, HEADER) == written(schema, {"inner": {"a": 1, "more": 2}})
    for unfit in ({"a": True}, {}, {"a": 1, "-type": "other"}, ("n.R", {"a": 1}), [1]):
        with pytest.raises(generated.encode.GIVES_UP):
            encode({"inner": unfit}, HEADER)


def recursive() -> dict[str, Any]:
    return record(next=["null", "n.R"])


def deep() -> dict[str, Any]:
    inner: Any = "long"
    for _ in range(MAX_DEPTH + 1):
        inner = {"type": "array", "items": inner}
    return record(deep=inner)


def blocks() -> dict[str, Any]:
    inner: Any = "long"
    for _ in range(15):
        inner = {"type": "array", "items": inner}
    return record(deep=inner)


UNKNOWN = {
    "recursive": (recursive(), {"next": {"next": None}}),
    "three branches": (record(a=["null", "string", "long"]), {"a": 5}),
    "enum": (record(a={"type": "enum", "name": "E", "symbols": ["x", "y"]}), {"a": "y"}),
    "fixed": (record(a={"type": "fixed", "name": "F", "size": 2}), {"a": b"ab"}),
    "double": (record(a="double"), {"a": 0.5}),
    "null": (record(a="null"), {"a": None}),
    "no fields": (record(a={"type": "array", "items": {**record(), "name": "Empty"}}), {"a": [{}, {}]}),
    "too deep": (deep(), {"deep": []}),
    "more blocks than Python takes": (blocks(), {"deep": []}),
}


@pytest.mark.parametrize("why", UNKNOWN)
def test_schemas_that_no_code_is_generated_for_are_fastavros(why: str) -> None:
    schema, value = UNKNOWN[why]
    with pytest.raises(Unsupported):
        generated.decode.decoder(schema)
    encoded = codec.Encoder(schema, 7).encode(value)
    assert encoded == written(schema, value)
    assert codec.Decoder(schema).decode(encoded) == value


def test_decimals_of_other_digits_and_logical_types_that_are_read_otherwise() -> None:
    cents = record(a={"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, b=DECIMAL)
    same(cents, {"a": Decimal("99.99"), "b": Decimal("1.000000000000000001")})
    assert outcome(codec.Encoder(cents, 7).encode, {"a": Decimal("100.001"), "b": Decimal(1)}) == "refused"
    with pytest.raises(Unsupported):
        generated.decode.decoder(record(a={"type": "string", "logicalType": "uuid"}))
