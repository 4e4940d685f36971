"""Numbers, times and ids of the contract."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.schemas import environments, identity, numbers, times

FINITE = st.decimals(allow_nan=False, allow_infinity=False)


@given(FINITE)
def test_fit_rounds_to_eighteen_places_or_says_why_not(number: Decimal) -> None:
    try:
        fitted, rounded = numbers.fit(number)
    except numbers.NumberError as error:
        assert error.code == "number_out_of_range"
        assert number.copy_abs() >= numbers.LIMIT
        return
    assert fitted == fitted.quantize(numbers.QUANTUM, context=numbers.WIDE)
    assert rounded == (fitted != number)
    assert numbers.WIDE.subtract(fitted, number).copy_abs() <= numbers.QUANTUM / 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0000000000000000005", Decimal(0)),
        ("0.0000000000000000015", Decimal("2E-18")),
        ("-0.0000000000000000025", Decimal("-2E-18")),
        ("169999999999999999999.999999999999999999", Decimal("169999999999999999999.999999999999999999")),
    ],
)
def test_halves_go_to_even(text: str, expected: Decimal) -> None:
    assert numbers.read(text)[0] == expected


@pytest.mark.parametrize("value", ["NaN", "Infinity", "sNaN", "", "1,5", "much", "1" * 500, None, True, 0.1, [], b"1"])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(numbers.NumberError) as raised:
        numbers.read(value)
    assert raised.value.code == "number_invalid"


@pytest.mark.parametrize("value", ["1.7e20", "-1.7e20", "1e400", 10**21, Decimal("9e99999")])
def test_what_is_out_of_range(value: object) -> None:
    with pytest.raises(numbers.NumberError) as raised:
        numbers.read(value)
    assert raised.value.code == "number_out_of_range"


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_an_expanded_float_reads_as_what_it_stood_for(value: float) -> None:
    expanded = format(Decimal(value), "f")
    found = numbers.from_float_text(expanded) if len(expanded) <= numbers.MAX_TEXT else Decimal(value)
    assert float(found) == value


def test_a_decimal_text_stays_as_it_stands() -> None:
    assert numbers.from_float_text("0.123456789012345678901234") == Decimal("0.123456789012345678901234")
    assert numbers.from_float_text("0.11129999999999999615862833479695837013423442840576171875") == Decimal("0.1113")


@given(FINITE.filter(lambda number: number == 0 or number.adjusted() < 60))
def test_text_of_a_number_reads_back(number: Decimal) -> None:
    text = numbers.text(number)
    assert "e" not in text.lower()
    assert Decimal(text) == number


@given(st.integers(times.EARLIEST, times.LATEST - 1))
def test_times_read_back(micros: int) -> None:
    assert times.parse(times.text(micros)) == micros


def test_bounds_of_times() -> None:
    assert times.to_micros(datetime(2000, 1, 1, tzinfo=UTC)) == times.EARLIEST
    for micros in (times.EARLIEST - 1, times.LATEST):
        with pytest.raises(times.TimeError) as raised:
            times.check(micros)
        assert raised.value.code == "ts_out_of_range"


PARTS = st.lists(st.text("ab\x1e\x1f", max_size=4), min_size=1, max_size=4)


@given(PARTS, PARTS)
def test_parts_of_an_id_do_not_run_into_one_another(one: list[str], other: list[str]) -> None:
    assert (identity.derive(*one) == identity.derive(*other)) == (one == other)


def test_a_separator_inside_a_part_is_no_separator() -> None:
    assert identity.derive("a\x1f", "b") != identity.derive("a", "\x1fb")


def test_ids_do_not_change() -> None:
    assert identity.derive("source", "Order", "o1") == "53bcbd53-37a9-531b-8103-905a1310acc0"
    assert identity.canonical("6BA7B8109DAD11D180B400C04FD430C8") == "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    assert identity.canonical("order-17") is None
    assert UUID(identity.derive("x")).version == 5


@pytest.mark.parametrize(
    ("connector", "environment"),
    [
        ("bitget", "live"),
        ("bitget_paper_trade", "paper"),
        ("binance_perpetual_testnet", "testnet"),
        ("Backtest", "backtest"),
        ("", "live"),
    ],
)
def test_environment_of_a_connector(connector: str, environment: str) -> None:
    assert environments.of_connector(connector) == environment
