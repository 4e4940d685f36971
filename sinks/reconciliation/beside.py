"""A bot's own record against the other record it keeps: Hummingbot's database against its CSV or log (N-07). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from tradetape.schemas.numbers import WIDE
from tradetape.sinks.reconciliation.differences import Difference, Values, shown

ONLY_HERE, ONLY_BESIDE, TRUNCATED, ZERO, DIFFERS = "only_here", "only_beside", "truncated", "zero", "differs"
"""In the database alone · in the other record alone · the database cut digits off · it has 0 where the other has a
number · anything else."""

KEPT = Decimal("1e-6")
"""What Hummingbot's database keeps of a number. It cuts off a float: 2387.35 becomes 2387.349999 in it."""


class Said(NamedTuple):
    """What one record says of an execution (or an order, ``trade_id`` empty): ``at`` is microseconds."""

    order_id: str
    trade_id: str
    at: int
    side: str
    numbers: Mapping[str, Decimal | None]
    place: str


def compare(
    subject: str, here: Iterable[Said], beside: Iterable[Said], *, is_whole: bool = True
) -> tuple[int, list[Difference]]:
    """How many were compared, and what differs. Without ``is_whole`` the other record may begin later than this one."""
    others = {(said.order_id, said.trade_id): said for said in beside}
    first = 0 if is_whole else min((said.at for said in others.values()), default=0)
    kinds = {bool(said.trade_id) for said in others.values()} if not is_whole else {True}
    compared = 0
    found: list[Difference] = []
    for said in here:
        other = others.pop((said.order_id, said.trade_id), None)
        if other is not None:
            compared += 1
            found += _differences(subject, said, other)
        elif said.at >= first and bool(said.trade_id) in kinds:
            found.append(_difference(ONLY_HERE, subject, said, None, ()))
    found += [_difference(ONLY_BESIDE, subject, None, other, ()) for other in others.values()]
    return compared, sorted(found, key=lambda difference: (difference.kind, difference.item))


def _differences(subject: str, said: Said, other: Said) -> Iterator[Difference]:
    by_kind: dict[str, list[tuple[str, str | None, str | None]]] = {}
    for name in sorted(said.numbers.keys() & other.numbers.keys()):
        one, two = said.numbers[name], other.numbers[name]
        if one != two:
            by_kind.setdefault(_kind(one, two), []).append((name, shown(one), shown(two)))
    if said.side != other.side:
        by_kind.setdefault(DIFFERS, []).append(("side", said.side, other.side))
    for kind, values in by_kind.items():
        yield _difference(kind, subject, said, other, tuple(values))


def _kind(here: Decimal | None, beside: Decimal | None) -> str:
    if here is None or beside is None:
        return DIFFERS
    if abs(WIDE.subtract(here, beside)) > KEPT:
        return DIFFERS
    return TRUNCATED if here else ZERO


def _difference(kind: str, subject: str, said: Said | None, other: Said | None, values: Values) -> Difference:
    either = said or other
    assert either is not None
    return Difference(
        kind,
        subject,
        f"{either.order_id} {either.trade_id}".strip(),
        label="fill" if either.trade_id else "order",
        native_place=said.place if said else "",
        stored_place=other.place if other else "",
        values=values,
    )
