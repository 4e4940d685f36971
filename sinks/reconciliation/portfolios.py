"""Portfolio figures against the sum of what their instances have: the aggregation done once more (S3-11). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tradetape.processors.control.limits import LimitSet
from tradetape.schemas.numbers import QUANTUM, WIDE, text
from tradetape.sinks.reconciliation.differences import Difference, Values

NOT_THE_SUM, NO_FIGURE, NO_MEMBERS = "not_the_sum", "no_figure", "no_members"

AMOUNTS = ("realised_quote", "fees_quote", "unrealised_quote", "exposure_gross", "exposure_net", "equity")
ZERO = Decimal(0)

Row = Mapping[str, Any]
Key = tuple[str, str, str]
"""Environment, portfolio, quote asset."""


@dataclass(slots=True)
class Sum:
    """What the members of a portfolio have together."""

    members: int = 0
    amounts: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(AMOUNTS, ZERO))


@dataclass(slots=True)
class Portfolios:
    """How many portfolios were compared, and what does not add up."""

    compared: int = 0
    differences: list[Difference] = field(default_factory=list)


class InForce:
    """The limits in force in a partition at an offset; ``changes`` are (partition, offset, rules) in any order."""

    def __init__(self, changes: Iterable[tuple[int, int, LimitSet]]) -> None:
        self._changes = sorted(changes, key=lambda change: change[:2])

    def at(self, partition: int, offset: int) -> LimitSet:
        """Those that the fold of the record at ``offset`` knew."""
        held = [rules for there, since, rules in self._changes if there == partition and since <= offset]
        return held[-1] if held else LimitSet()


def compare(parts: Sequence[Row], exposures: Iterable[Row], figures: Iterable[Row], in_force: InForce) -> Portfolios:
    """``parts``, ``exposures`` and ``figures`` are rows of the queries ``portfolio_parts``, ``…_exposures`` and
    ``…_figures``.
    """
    sums = _sums(parts, _by_instance(exposures), in_force)
    stored = {(row["environment"], row["portfolio"], row["quote_asset"]): row for row in figures}
    found = Portfolios()
    for key in sorted(sums.keys() | stored.keys()):
        total, figure = sums.get(key), stored.get(key)
        found.compared += 1
        if figure is None:
            if total is not None and any(total.amounts.values()):
                found.differences.append(_difference(NO_FIGURE, key, (("members", str(total.members), None),)))
        elif total is None:
            if int(figure["members"]):
                found.differences.append(_difference(NO_MEMBERS, key, (("members", "0", str(figure["members"])),)))
        elif values := tuple(_values(total, figure)):
            found.differences.append(_difference(NOT_THE_SUM, key, values))
    return found


def _by_instance(exposures: Iterable[Row]) -> dict[tuple[str, ...], Decimal]:
    found: dict[tuple[str, ...], Decimal] = defaultdict(lambda: ZERO)
    for row in exposures:
        if row["mark_price"] is not None:
            exposure = WIDE.multiply(Decimal(row["net_base"]), Decimal(row["mark_price"]))
            key = _instance(row)
            found[key] = WIDE.add(found[key], exposure.quantize(QUANTUM, context=WIDE))
    return found


def _sums(parts: Iterable[Row], exposures: Mapping[tuple[str, ...], Decimal], in_force: InForce) -> dict[Key, Sum]:
    sums: dict[Key, Sum] = defaultdict(Sum)
    for row in parts:
        rules = in_force.at(int(row["raw_partition"]), int(row["last_offset"]))
        for portfolio in rules.portfolios(row["environment"], row["account"], row["instance_name"]):
            total = sums[row["environment"], portfolio, row["quote_asset"]]
            total.members += 1
            for name, amount in _amounts(row, exposures.get(_instance(row), ZERO)).items():
                total.amounts[name] = WIDE.add(total.amounts[name], amount)
    return sums


def _amounts(row: Row, exposure: Decimal) -> dict[str, Decimal]:
    known = {name: _number(row[name]) for name in AMOUNTS if name in row}
    return known | {
        "fees_quote": WIDE.subtract(_number(row["fees"]), _number(row["funding"])),
        "exposure_net": exposure,
    }


def _number(value: str | None) -> Decimal:
    return ZERO if value is None else Decimal(value)


def _instance(row: Row) -> tuple[str, ...]:
    return row["environment"], row["account"], row["instance_name"], row["quote_asset"]


def _values(total: Sum, row: Row) -> Iterator[tuple[str, str | None, str | None]]:
    """What of ``row`` is not the sum. A figure that the contract cannot carry is null there, and is passed over."""
    if int(row["members"]) != total.members:
        yield "members", str(total.members), str(row["members"])
    for name in AMOUNTS:
        if row[name] is not None and Decimal(row[name]) != total.amounts[name]:
            yield name, text(total.amounts[name]), text(Decimal(row[name]))


def _difference(kind: str, key: Key, values: Values) -> Difference:
    subject = " ".join(part for part in key if part)
    return Difference(kind, f"portfolio {subject}", subject, label=subject, values=values)
