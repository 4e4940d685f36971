"""Hummingbot's own CSV of its trades (``data/trades_<config>.csv``), beside its database (N-07).

Prices and amounts stand in it in full: expansions of floats are read back as the numbers they stood for.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from tradetape.producers.adapters import hummingbot_values as values
from tradetape.schemas import numbers
from tradetape.schemas.errors import TradetapeError

NEEDED = ("order_id", "exchange_trade_id", "timestamp", "trade_type", "price", "amount")


class Trade(NamedTuple):
    """One line. ``at`` is microseconds UTC, ``price`` in quote per base, ``amount`` in base, ``line`` counts from 1."""

    order_id: str
    trade_id: str
    at: int
    side: str
    price: Decimal
    amount: Decimal
    line: int


def beside(database: Path) -> Path | None:
    """The CSV that lies beside ``database`` under Hummingbot's own name for it, None where there is none."""
    found = database.with_name(f"trades_{database.stem}.csv")
    return found if found.is_file() else None


def read(path: Path) -> Iterator[Trade]:
    """The trades of the file at ``path``. Raises TradetapeError for what cannot be read, with the line."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file, restval="")
            missing = [name for name in NEEDED if name not in (lines.fieldnames or ())]
            if missing:
                raise TradetapeError(
                    f"{path} is no list of Hummingbot's trades: {', '.join(missing)} missing",
                    hint="give a file that Hummingbot wrote (data/trades_….csv)",
                )
            for row in lines:
                yield _trade(path, lines.line_num, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TradetapeError(f"{path} cannot be read ({error})", hint="check the file and its rights") from error


def _trade(path: Path, line: int, row: dict[str, str]) -> Trade:
    try:
        return Trade(
            order_id=row["order_id"],
            trade_id=row["exchange_trade_id"],
            at=values.micros(row, "timestamp"),
            side=row["trade_type"].lower(),
            price=_number(row["price"]),
            amount=_number(row["amount"]),
            line=line,
        )
    except (values.Unmappable, numbers.NumberError) as error:
        raise TradetapeError(f"{path}:{line}: {error}", hint="the line is cut or was edited; put it right") from error


def _number(text: str) -> Decimal:
    return numbers.fit(numbers.from_float_text(text))[0]
