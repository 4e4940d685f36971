"""What an event changes in the portfolios of its instance: the difference to what the instance gave before (P-02)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from tradetape.processors.money import ZERO, compact, fits, multiply, rounded, subtract
from tradetape.processors.risk import rates
from tradetape.processors.risk.accounts import Open
from tradetape.processors.state import SEPARATOR, PartitionState, Record

AMOUNTS = ("realised_quote", "fees_quote", "unrealised_quote", "exposure_gross", "equity")


class Given(Record):
    """What an instance has given to its portfolios in one quote asset. A figure that is not known gives nothing, nor
    does one whose change the contract cannot carry: it stays what was given. ``has_equity`` stays where equity was
    known and a mark is missing now.
    """

    KEY: ClassVar[str] = "v"

    realised_quote: Decimal = ZERO
    fees_quote: Decimal = ZERO
    unrealised_quote: Decimal = ZERO
    exposure_gross: Decimal = ZERO
    equity: Decimal = ZERO
    has_equity: bool = False
    portfolios: list[str] = []


_NOTHING = Given()


class GivenExposure(Record):
    """The signed exposure that an instance has given in one connector and pair; none where it is 0. Its position is
    open.
    """

    KEY: ClassVar[str] = "z"

    exposure: Decimal = ZERO


class GivenOrders(Record):
    """How many open orders an instance has given to its portfolios in one quote asset."""

    KEY: ClassVar[str] = "y"

    open_orders: int = 0


def of(
    event: Mapping[str, Any], figure: Mapping[str, Any], opened: int, portfolios: Sequence[str], state: PartitionState
) -> list[dict[str, Any]]:
    """The deltas after ``event`` left its instance with the risk ``figure`` and ``opened`` more orders open; their
    portfolio is one of ``portfolios``.

    An instance that joins a portfolio gives it everything it has, one that leaves takes everything back. Each has the
    fields of portfolio_delta.avsc that are not its identity.
    """
    key = (figure["environment"], figure["account"], figure["instance_name"], figure["quote_asset"])
    before, orders = state.get(Given, *key), state.get(GivenOrders, *key)
    after, given = _given(figure, before, list(portfolios)), orders.open_orders
    if after != before:
        state.touch(after, *key)
    if opened:
        orders.open_orders += opened
        state.touch(orders, *key)
    place = _place(figure)
    exposed, exposes = _expose(figure, (*key, place), state)
    counts = {name: int(event["event_type"] == kind) for kind, name in zip(rates.KINDS, rates.NAMES, strict=True)}
    found: list[dict[str, Any]] = []
    for portfolio in before.portfolios:
        if portfolio not in after.portfolios:
            taken = {place: exposed.copy_negate()}
            taken |= {other: amount.copy_negate() for other, amount in _elsewhere(place, key, state)}
            none_sent = dict.fromkeys(counts, 0)
            found += _between(portfolio, before, _NOTHING, taken, {"open_orders": -given, **none_sent})
    for portfolio in after.portfolios:
        if portfolio in before.portfolios:
            changed = {place: subtract(exposes, exposed)}
            found += _between(portfolio, before, after, changed, {"open_orders": opened, **counts})
        else:
            brought = {place: exposes, **dict(_elsewhere(place, key, state))}
            found += _between(portfolio, _NOTHING, after, brought, {"open_orders": given + opened, **counts})
    return [delta for delta in found if _is_change(delta)]


def _given(figure: Mapping[str, Any], before: Given, portfolios: list[str]) -> Given:
    equity = figure["equity"] if figure["equity_asset"] == figure["quote_asset"] else None
    fees = subtract(_known(figure["account_fees"], before.fees_quote), _known(figure["account_funding"], ZERO))
    return Given(
        _carried(_known(figure["account_realised"], before.realised_quote), before.realised_quote),
        _carried(fees, before.fees_quote),
        _carried(figure["account_unrealised"] or ZERO, before.unrealised_quote),
        _carried(figure["exposure_gross"] or ZERO, before.exposure_gross),
        _carried(_known(equity, before.equity), before.equity),
        before.has_equity or equity is not None,
        portfolios,
    )


def _expose(figure: Mapping[str, Any], key: tuple[str, ...], state: PartitionState) -> tuple[Decimal, Decimal]:
    """The exposure at ``key`` that was given before, and the one that is given now."""
    net, mark = figure["net_base"], figure["mark_price"]
    before = state.get(GivenExposure, *key).exposure
    after = _carried(compact(rounded(multiply(net, mark))), before) if net and mark is not None else ZERO
    if after and after != before:
        state.touch(GivenExposure(after), *key)
    elif before and not after:
        state.forget(GivenExposure, *key)
    return before, after


def _elsewhere(place: str, key: tuple[str, ...], state: PartitionState) -> Iterator[tuple[str, Decimal]]:
    """The exposures that were given at other places than ``place``."""
    for other in state.get(Open, *key).names:
        given = state.find(GivenExposure, *key, other)
        if other != place and given is not None:
            yield other, given.exposure


def _place(figure: Mapping[str, Any]) -> str:
    """Connector and pair: what a position is kept by."""
    return SEPARATOR.join((figure["connector_name"], figure["trading_pair"]))


def _known(value: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if value is None else value


def _carried(value: Decimal, before: Decimal) -> Decimal:
    """``value`` where a delta can carry it, and its difference to ``before``; else ``before``."""
    return value if fits(value) and fits(subtract(value, before)) else before


def _between(
    portfolio: str, before: Given, after: Given, exposures: Mapping[str, Decimal], counts: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """From ``before`` to ``after``: one delta, and one more for each other place; ``exposures`` are by how much each
    place changes, that of the event first.
    """
    whole: dict[str, Any] = {
        "members": bool(after.portfolios) - bool(before.portfolios),
        **{name: subtract(getattr(after, name), getattr(before, name)) for name in AMOUNTS},
        "has_equity": before.has_equity or after.has_equity,
        **counts,
    }
    for place, exposure in exposures.items():
        trading_pair = place.partition(SEPARATOR)[2]
        yield {"portfolio": portfolio, "trading_pair": trading_pair, **whole, "exposure_net": exposure}
        whole = {name: type(value)(0) for name, value in whole.items()}


_ABOUT = frozenset({"portfolio", "trading_pair", "has_equity"})
"""Fields that say what a delta is about, not what changes."""


def _is_change(delta: Mapping[str, Any]) -> bool:
    return any(value for name, value in delta.items() if name not in _ABOUT)
