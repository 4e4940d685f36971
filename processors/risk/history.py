"""Executions in the order of their time, whenever they come in (P-02).

A position keeps its last executions, a small record each, and its figures before them. An execution that comes in late
is put in its place, by (ts_utc, arrival), and those after it are folded again: the figures are those of all executions
in time order. One that is older than all that are kept is folded in before them (finding ``late_fill``).

When TAIL executions are kept, the CUT oldest go into the figures before them, so that this is written once per CUT.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar, NamedTuple

from tradetape.processors.money import ZERO, FigureOutOfRange, add, fits, subtract
from tradetape.processors.risk import lots, positions
from tradetape.processors.risk.lots import Lot, Lots
from tradetape.processors.risk.positions import Assets, Cost, Execution
from tradetape.processors.state import PartitionState, Record

TAIL, CUT = 64, 32

Place = tuple[int, int]
"""Time and number of an execution."""


class Position(Record):
    """A position after its last execution.

    ``trip_start`` is what was realised, less fees in quote, when the position was last flat or turned over;
    ``first_lot`` and ``lot_count`` say which slots hold its lots; ``kept`` has a bit set for each slot that holds an
    execution; ``number`` is the position's own in its account; ``base_place`` is the last execution of its Base.
    """

    KEY: ClassVar[str] = "p"

    cost: Cost = Cost()
    realised_fifo: Decimal = ZERO
    trip_start: Decimal = ZERO
    last_ts: int = 0
    first_lot: int = 0
    lot_count: int = 0
    kept: int = 0
    number: int = 0
    base_place: Place = (0, -1)


class Base(Record):
    """The figures of a position before the executions that it keeps."""

    KEY: ClassVar[str] = "xb"

    cost: Cost = Cost()
    realised_fifo: Decimal = ZERO
    trip_start: Decimal = ZERO
    lots: list[Lot] = []


class Trip(NamedTuple):
    """A round trip: where it ended, and whether at a loss."""

    place: Place
    is_loss: bool


class Folded(NamedTuple):
    """A position after an execution and the round trips that ended after ``since``.

    ``is_refolded`` where it came in late, ``is_late`` where it was too late to be placed.
    """

    position: Position
    trips: list[Trip]
    since: Place
    is_refolded: bool = False
    is_late: bool = False


class _Standing:
    """A position during a fold, with its lots."""

    def __init__(self, record: Position | Base, held: Lots, assets: Assets) -> None:
        self.cost, self.realised_fifo, self.trip_start = record.cost, record.realised_fifo, record.trip_start
        self.lots = held
        self._assets = assets
        self.trips: list[Trip] = []

    def take(self, execution: Execution) -> None:
        before = self.cost.net_base
        after = positions.fold(self.cost, execution, self._assets)
        self.realised_fifo = add(
            self.realised_fifo, lots.fold(self.lots, execution, is_long=before > 0, assets=self._assets)
        )
        if not fits(self.realised_fifo):
            raise FigureOutOfRange
        self.cost = after
        if before and (not after.net_base or (after.net_base > 0) != (before > 0)):
            kept = subtract(after.realised_quote, after.fees.get(self._assets.quote, ZERO))
            self.trips.append(Trip(execution.place, kept < self.trip_start))
            self.trip_start = kept


def fold(execution: Execution, key: tuple[str, ...], assets: Assets, state: PartitionState) -> Folded:
    """Take ``execution`` into the position at ``key`` and write what changed. Its ``number`` is set here.

    Raises FigureOutOfRange; nothing has changed then.
    """
    position = state.get(Position, *key)
    execution.number = position.cost.fills
    if execution.ts_utc >= position.last_ts:
        held = Lots(position.first_lot, position.lot_count, lambda slot: state.get(Lot, *key, str(slot)))
        standing = _Standing(position, held, assets)
        standing.take(execution)
        folded = Folded(position, standing.trips, execution.place)
    else:
        folded, standing = _fold_late(execution, position, key, assets, state)
    _write(position, standing, execution, key, state, keep=not folded.is_late)
    if position.kept.bit_count() == TAIL:
        _cut(position, key, assets, state)
    state.touch(position, *key)
    return folded


def _write(
    position: Position,
    standing: _Standing,
    execution: Execution,
    key: tuple[str, ...],
    state: PartitionState,
    *,
    keep: bool,
) -> None:
    position.cost, position.realised_fifo, position.trip_start = (
        standing.cost,
        standing.realised_fifo,
        standing.trip_start,
    )
    held = standing.lots
    position.first_lot, position.lot_count = held.first, held.count
    live = {held.slot(index) for index in range(held.count)} if held.changed else set()
    for slot, lot in held.changed.items():
        if slot in live:
            state.touch(lot, *key, str(slot))
    if keep:
        position.last_ts = max(position.last_ts, execution.ts_utc)
        slot = (~position.kept & (position.kept + 1)).bit_length() - 1
        position.kept |= 1 << slot
        state.touch(execution, *key, str(slot))


def _fold_late(
    execution: Execution, position: Position, key: tuple[str, ...], assets: Assets, state: PartitionState
) -> tuple[Folded, _Standing]:
    """Fold again from the figures before the kept executions."""
    tail = [kept for _, kept in _tail(position, key, state)]
    base = state.get(Base, *key)
    is_late = execution.ts_utc < position.base_place[0]
    standing = _from(base, assets)
    if is_late:
        execution.ts_utc, execution.number = position.base_place
        standing.take(execution)
        before = _base(standing)
    else:
        tail = sorted([*tail, execution], key=lambda each: each.place)
    for each in tail:
        standing.take(each)
    if is_late:
        state.touch(before, *key)
    # All lots are written anew, from slot 0.
    standing.lots = _all_lots(standing.lots)
    return Folded(position, standing.trips, position.base_place, is_refolded=True, is_late=is_late), standing


def _cut(position: Position, key: tuple[str, ...], assets: Assets, state: PartitionState) -> None:
    """The oldest executions go into the figures before the kept ones."""
    standing = _from(state.get(Base, *key), assets)
    for slot, execution in _tail(position, key, state)[:CUT]:
        standing.take(execution)
        position.kept &= ~(1 << slot)
        position.base_place = execution.place
    state.touch(_base(standing), *key)


def _tail(position: Position, key: tuple[str, ...], state: PartitionState) -> list[tuple[int, Execution]]:
    """The kept executions in their order, each with its slot."""
    kept = [(slot, state.get(Execution, *key, str(slot))) for slot in range(TAIL) if position.kept >> slot & 1]
    return sorted(kept, key=lambda each: each[1].place)


def _from(base: Base, assets: Assets) -> _Standing:
    return _Standing(base, Lots(0, len(base.lots), base.lots.__getitem__), assets)


def _base(standing: _Standing) -> Base:
    return Base(standing.cost, standing.realised_fifo, standing.trip_start, list(standing.lots))


def _all_lots(held: Lots) -> Lots:
    anew = Lots(0, 0, held.__getitem__)
    for lot in held:
        anew.append(lot)
    return anew
