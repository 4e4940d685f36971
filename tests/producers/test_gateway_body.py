"""Splitting a POST's body into the exact bytes of its events."""

from __future__ import annotations

import gzip
import json
import random
from decimal import Decimal
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers.gateway import body
from tradetape.producers.gateway.body import Item, Malformed, TooMuch, split, split_lines
from tradetape.producers.gateway.inflate import FED, MEMBERS, STEP, NotGzip, TooLarge, inflate

SPACE = st.text(" \t\r\n", max_size=3)
NUMBERS = st.one_of(
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False, places=30),
    st.sampled_from([Decimal("1E+400"), Decimal("1E-400"), Decimal("0.1")]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


def written(value: Any) -> str:
    """JSON text of ``value``; decimals as bare numbers, exactly."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return "[" + " ,".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)} :{written(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.req("S3-01")
@given(st.lists(st.tuples(SPACE, VALUES, SPACE), max_size=8), SPACE, st.booleans())
def test_an_array_gives_each_element_exactly_as_sent(
    parts: list[tuple[str, Any, str]], around: str, with_bom: bool
) -> None:
    elements = [written(value).encode("utf-8", "surrogatepass") for _, value, _ in parts]
    inner = b",".join(
        before.encode() + element + after.encode() for (before, _, after), element in zip(parts, elements, strict=True)
    )
    sent = (b"\xef\xbb\xbf" if with_bom else b"") + around.encode() + b"[" + inner + b"]" + around.encode()
    items = list(split(sent))
    assert [item.native for item in items] == elements
    assert [item.document for item in items] == [value for _, value, _ in parts]


@pytest.mark.req("S3-01")
@given(st.dictionaries(st.text(), VALUES, max_size=5), SPACE)
def test_an_object_is_one_event(value: dict[str, Any], around: str) -> None:
    sent = written(value).encode("utf-8", "surrogatepass")
    assert list(split(around.encode() + sent + around.encode())) == [Item(sent, value)]


@pytest.mark.req("S3-01")
def test_numbers_stay_as_sent() -> None:
    sent = b'[{"a": 0.1000, "b": 1e-18, "c": 123456789012345678901234567890.123456789012345678901234567890}]'
    (item,) = split(sent)
    assert item.native == sent[1:-1]
    assert [str(value) for value in item.document.values()] == [
        "0.1000",
        "1E-18",
        "123456789012345678901234567890.123456789012345678901234567890",
    ]


@pytest.mark.req("P-08")
@given(st.one_of(st.binary(max_size=300), st.text('[]{}",:\\ \n1eE.-+antruefls\x00', max_size=60).map(str.encode)))
def test_any_bytes_are_split_or_refused(sent: bytes) -> None:
    try:
        items = list(split(sent))
    except Malformed as error:
        assert str(error)
    else:
        assert all(item.native in sent for item in items)
        json.loads(sent.decode("utf-8-sig", "surrogatepass"), parse_int=str, parse_float=str)
    try:
        lines = list(split_lines(sent))
    except Malformed:
        assert not sent.strip(b" \t\r\n")
    else:
        whole = (line.removesuffix(b"\r") for line in sent.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
        assert [line.native for line in lines] == [line for line in whole if line.strip(b" \t\r")]


@pytest.mark.req("P-08")
@pytest.mark.parametrize("number", ["9" * 5000, "1e99999999999999999999", "-" + "7" * 100_000])
def test_a_number_that_cannot_be_read_spoils_its_own_event_only(number: str) -> None:
    bad = f'{{"a": [{number}, "]"]}}'.encode()
    before, middle, after = split(b'[{"b": 1}, ' + bad + b', {"c": 2}]')
    assert (before.document, after.document) == ({"b": 1}, {"c": 2})
    assert middle == Item(bad, body.UNREAD)


@pytest.mark.req("P-08")
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b"[["])
def test_deep_nesting_is_refused_as_a_whole(opening: bytes) -> None:
    with pytest.raises(Malformed, match="nested too deep"):
        list(split(b"[" + opening * 100_000))


def test_the_last_of_two_equal_keys_counts_and_the_bytes_have_both() -> None:
    (item,) = split(b'{"a": 1, "a": 2}')
    assert item == Item(b'{"a": 1, "a": 2}', {"a": 2})


@pytest.mark.req("P-08")
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "empty"),
        (b" \n\t\r", "empty"),
        (b'{"a": 1} {"a": 2}', "more after the end"),
        (b'[{"a": 1}] x', "more after the end"),
        (b"[] []", "more after the end"),
        (b'[{"a": 1}', "expected , or ]"),
        (b'[{"a": 1} {"a": 2}]', "expected , or ]"),
        (b'[{"a": 1},]', "event 2"),
        (b'[{"a": 1}, {"a": }]', "event 2"),
        (b'[{"n": ' + b"9" * 5000 + b'}, {"n": ' + b"9" * 5000 + b"]", "event 2"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_body_that_is_not_json_is_refused_with_the_place(sent: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        list(split(sent))


def test_an_empty_array_holds_no_event() -> None:
    assert list(split(b" [ ] ")) == []


@pytest.mark.req("S3-01")
def test_lines_are_taken_as_they_are_and_blank_ones_left_out() -> None:
    sent = b'\xef\xbb\xbf{"a": 1}\r\n\n   \n{broken\n  {"b": 0.10}'
    assert list(split_lines(sent)) == [Item(b'{"a": 1}'), Item(b"{broken"), Item(b'  {"b": 0.10}')]


@pytest.mark.req("P-08")
@pytest.mark.parametrize("splitter", [split, split_lines])
def test_size_and_number_are_bounded(splitter: Any) -> None:
    ten = b"[" + b",".join([b'"1234"'] * 10) + b"]" if splitter is split else b'"1234"\n' * 10
    assert len(list(splitter(ten, largest=6, most=10))) == 10
    with pytest.raises(TooMuch, match="more than 9"):
        list(splitter(ten, most=9))
    with pytest.raises(TooMuch, match="event 1 has 6 bytes, more than 5"):
        list(splitter(ten, largest=5))


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_what_was_compressed_comes_out_again(parts: list[bytes]) -> None:
    sent = b"".join(gzip.compress(part) for part in parts)
    assert b"".join(inflate(sent, largest=20_000)) == b"".join(parts)


@pytest.mark.req("P-08")
def test_a_bomb_stops_at_the_bound() -> None:
    bomb = gzip.compress(bytes(64 * STEP))
    assert len(bomb) < STEP
    seen = 0
    with pytest.raises(TooLarge, match=f"more than {4 * STEP}"):
        for piece in inflate(bomb, largest=4 * STEP):
            assert len(piece) <= STEP
            seen += len(piece)
    assert seen <= 4 * STEP
    assert sum(map(len, inflate(gzip.compress(bytes(4 * STEP)), largest=4 * STEP))) == 4 * STEP


@pytest.mark.req("P-08")
@given(st.one_of(st.binary(max_size=200), st.integers(0, 30).map(lambda cut: gzip.compress(b"events" * 9)[:cut])))
def test_what_is_not_gzip_is_refused(sent: bytes) -> None:
    with pytest.raises((NotGzip, TooLarge)):
        list(inflate(sent, largest=10))


@pytest.mark.req("P-08")
def test_members_are_bounded_and_cost_what_they_hold() -> None:
    empty = gzip.compress(b"")
    assert b"".join(inflate(empty * MEMBERS, largest=10)) == b""
    before = process_time()
    with pytest.raises(TooLarge, match=f"more than {MEMBERS} gzip members"):
        list(inflate(empty * (8 * 2**20 // len(empty)), largest=32 * 2**20))
    # Copying the rest of such a body for each of its members would take seconds.
    assert process_time() - before < 0.5


@pytest.mark.req("P-08")
@pytest.mark.parametrize("size", [FED - 1, FED, FED + 1, 3 * FED])
def test_members_of_any_size_come_out_whole_wherever_they_are_cut(size: int) -> None:
    parts = [random.Random(number).randbytes(size) for number in range(3)]
    sent = b"".join(gzip.compress(part, compresslevel=0) for part in parts)
    assert b"".join(inflate(sent, largest=3 * size)) == b"".join(parts)
    with pytest.raises(NotGzip, match="ends too early"):
        list(inflate(sent[:-1], largest=3 * size))
