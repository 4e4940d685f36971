"""Values of a Hummingbot database as contract values: scaled integers, times, fees (see ``hummingbot``).

Which columns hold integers scaled by 10^6 depends on the version that made the database and shows in the declared
column type: BIGINT or INTEGER are scaled, FLOAT, REAL and NUMERIC (older versions) hold the number itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from tradetape.schemas import numbers, times

Row = Mapping[str, Any]

SCALE = 6
SECONDS_BELOW = 10**11
"""Times are milliseconds; smaller numbers are seconds (10^11 ms is 1973, 10^11 s is far beyond 2100)."""


class Unmappable(ValueError):
    """A native value that the contract has no place for."""


class Fee(NamedTuple):
    """An amount of ``asset``; negative is a rebate."""

    asset: str
    amount: Decimal


class Fees(NamedTuple):
    """What one fill cost. ``kind`` is Hummingbot's fee_type; ``rounded`` says that digits past 18 were cut."""

    components: tuple[Fee, ...]
    kind: str | None
    rounded: bool


def text(row: Row, column: str) -> str:
    """The text in ``column``, empty where there is none. Raises Unmappable."""
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, bytes | float):
        raise Unmappable(f"{column} is a {type(value).__name__}, not text")
    found = str(value)
    try:
        found.encode()
    except UnicodeEncodeError:
        raise Unmappable(f"{column} is not UTF-8") from None
    return found


def some_text(row: Row, column: str) -> str | None:
    """The text in ``column``, or None where it is missing or empty."""
    return text(row, column) or None


def number(row: Row, column: str, scaled: bool) -> Decimal | None:
    """The number in ``column``, exact, or None for NULL; scaled integers become what they stand for."""
    value = row.get(column)
    if value is None:
        return None
    try:
        found = _as_decimal(value)
    except numbers.NumberError as error:
        raise Unmappable(f"{column}: {error}") from None
    return found.scaleb(-SCALE) if scaled and not isinstance(value, str) else found


def _as_decimal(value: object) -> Decimal:
    if isinstance(value, float):
        value = repr(value)
    if isinstance(value, str):
        if len(value) > numbers.MAX_TEXT:
            raise numbers.NumberError("number_invalid", f"{len(value)} characters are not a number")
        try:
            found = Decimal(value)
        except InvalidOperation:
            raise numbers.NumberError("number_invalid", f"{value[:80]!r} is not a number") from None
    elif isinstance(value, int):
        found = Decimal(value)
    else:
        raise numbers.NumberError("number_invalid", f"{type(value).__name__} is not a number")
    if not found.is_finite():
        raise numbers.NumberError("number_invalid", f"{found} is not finite")
    if abs(found.adjusted()) > numbers.MAX_TEXT:
        raise numbers.NumberError("number_out_of_range", f"{found:.6E} is outside ±1.7e20")
    return found


def fit(value: Decimal, name: str) -> tuple[Decimal, bool]:
    """``value`` as a contract decimal, and whether it was rounded. Raises Unmappable."""
    try:
        return numbers.fit(value)
    except numbers.NumberError as error:
        raise Unmappable(f"{name}: {error}") from None


def micros(row: Row, column: str) -> int:
    """The time in ``column`` (ms, or seconds in old versions) in microseconds. Raises Unmappable."""
    value = row.get(column)
    if value is None:
        raise Unmappable(f"{column} is NULL")
    try:
        found = _as_decimal(value)
        return times.check(int(found * (1_000_000 if abs(found) < SECONDS_BELOW else 1000)))
    except (numbers.NumberError, times.TimeError) as error:
        raise Unmappable(f"{column}: {error}") from None


def fees(row: Row, *, base: str, quote: str, buys: bool, price: Decimal, amount: Decimal) -> Fees:
    """The components of ``trade_fee``: flat fees as listed, then the percent fee in the asset it is paid in.

    AddedToCost is percent × price × amount in percent_token or quote; DeductedFromReturns is percent × amount in
    base for buys, percent × price × amount in quote for sells. Raises Unmappable.
    """
    document = _fee_document(row.get("trade_fee"))
    kind = document.get("fee_type")
    if kind is not None and not isinstance(kind, str):
        raise Unmappable("trade_fee: fee_type is not text")
    listed = [_flat(entry) for entry in _as_list(document.get("flat_fees"))]
    percent = _fee_number(document.get("percent") or "0", "percent")
    if percent:
        token = document.get("percent_token")
        if kind == "DeductedFromReturns" and buys:
            listed.append(Fee(base, numbers.WIDE.multiply(percent, amount)))
        else:
            asset = token if isinstance(token, str) and token and kind != "DeductedFromReturns" else quote
            listed.append(Fee(asset, numbers.WIDE.multiply(numbers.WIDE.multiply(percent, price), amount)))
    components: list[Fee] = []
    any_rounded = False
    for fee in listed:
        if not fee.amount:
            continue
        if not fee.asset:
            raise Unmappable("trade_fee: a fee without an asset")
        fitted, rounded = fit(fee.amount, "trade_fee")
        any_rounded |= rounded
        components.append(Fee(fee.asset, fitted))
    return Fees(tuple(components), kind, any_rounded)


def _fee_document(value: object) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError):
            raise Unmappable("trade_fee is not JSON") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unmappable("trade_fee is not a JSON object")
    return value


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unmappable("trade_fee: flat_fees is not a list")
    return value


def _flat(entry: object) -> Fee:
    if isinstance(entry, dict):
        token, amount = entry.get("token") or entry.get("asset"), entry.get("amount")
    elif isinstance(entry, list) and len(entry) == 2:
        token, amount = entry
    else:
        raise Unmappable("trade_fee: a flat fee is neither {token, amount} nor [token, amount]")
    if not isinstance(token, str):
        raise Unmappable("trade_fee: a flat fee without a token")
    try:
        token.encode()
    except UnicodeEncodeError:
        raise Unmappable("trade_fee is not UTF-8") from None
    return Fee(token, _fee_number(amount, "flat_fees"))


def _fee_number(value: object, name: str) -> Decimal:
    if not isinstance(value, str):
        raise Unmappable(f"trade_fee: {name} is no number")
    try:
        found = numbers.from_float_text(value)
    except numbers.NumberError as error:
        raise Unmappable(f"trade_fee: {name}: {error}") from None
    if abs(found.adjusted()) > numbers.MAX_TEXT:
        raise Unmappable(f"trade_fee: {name} is out of range")
    return found
