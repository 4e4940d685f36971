"""State of another layout is dropped and folded again from the log; what was sent is not sent again (design, State)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.processors.state import Change, PartitionState, Progress, Record, anew, apply
from tradetape.processors.stream.steps import GivenWay, Keyed, MissingRecords, Place, Steps
from tradetape.processors.version import STATE_VERSION

pytestmark = pytest.mark.req("P-06", "P-11")

PARTITION = 0


class Total(Record):
    """What was counted; its layout before had no fields."""

    KEY: ClassVar[str] = "Z"

    amount: int = 0


class Raw(NamedTuple):
    offset: int
    value: int


class Table:
    """A table that survives its worker."""

    def __init__(self, store: dict[bytes, bytes]) -> None:
        self.store = store
        self._state: PartitionState | None = None

    def state(self, partition: int) -> PartitionState:
        if self._state is None:
            self._state = PartitionState(partition, self.store)
        return self._state

    def discard(self, partition: int) -> None:
        self._state = None

    async def begin_anew(self, partition: int, applied: int) -> None:
        apply(self.store, list(anew(partition, self.store, applied)))

    async def commit(self, partition: int, changes: Sequence[Change]) -> None:
        apply(self.store, changes)
        self.state(partition).committed()


class Log:
    """Gives way after ``patience`` reads."""

    def __init__(self, records: Sequence[Raw], patience: int) -> None:
        self.records = records
        self.patience = patience

    async def start(self, _: int) -> int:
        return self.records[0].offset

    async def read(self, _: int, first: int, end: int) -> AsyncIterator[Sequence[Any]]:
        found = [record for record in self.records if first <= record.offset < end]
        for start in range(0, len(found), 3):
            if not self.patience:
                raise GivenWay
            self.patience -= 1
            yield found[start : start + 3]


class Adding(Steps):
    """Sends the total after every record."""

    TOPIC: ClassVar[str] = "numbers"

    async def prepare(self, records: Sequence[Any]) -> None:
        pass

    def fold(self, partition: int, records: Sequence[Any], state: PartitionState) -> Mapping[Place, Sequence[Keyed]]:
        sent = []
        total = state.get(Total, "all")
        for record in records:
            total.amount += record.value
            sent.append((b"", str(total.amount).encode()))
        state.touch(total, "all")
        return {("totals", partition): sent}


class Worker:
    """A worker of the partition: made anew it has only ``store`` and ``sent``."""

    def __init__(self, records: Sequence[Raw], store: dict[bytes, bytes], sent: list[int], patience: int = 99) -> None:
        async def send(_topic: str, _partition: int, keyed: Sequence[Keyed]) -> None:
            sent.extend(int(value) for _, value in keyed)

        self._steps = Adding(table=Table(store), send=send, log=Log(records, patience))  # type: ignore[arg-type]

    def take(self, records: Sequence[Raw]) -> int:
        return asyncio.run(self._steps.handle(PARTITION, records))


def before(records: Sequence[Raw], applied: int) -> dict[bytes, bytes]:
    """State after ``applied`` as an older layout had it."""
    state = PartitionState(PARTITION, {})
    old = {state.key(Total, "all"): b"\x90", state.key(Total, "gone"): b"\x90"}
    return {**old, state.key(Progress): msgspec.msgpack.encode([applied, 0, STATE_VERSION - 1])}


@given(
    numbers=st.lists(st.integers(1, 9), min_size=2, max_size=30),
    first=st.integers(0, 3),
    data=st.data(),
    patience=st.integers(0, 8),
)
def test_the_state_is_that_of_the_whole_log_and_nothing_is_sent_again(
    numbers: list[int], first: int, data: st.DataObject, patience: int
) -> None:
    records = [Raw(first + place, number) for place, number in enumerate(numbers)]
    known = data.draw(st.integers(1, len(records) - 1))
    store, sent = before(records, records[known - 1].offset), list[int]()
    committed = data.draw(st.integers(0, known))
    cut_short = 0
    try:
        Worker(records, store, sent, patience).take(records[committed:])
    except GivenWay:
        cut_short = 1
        Worker(records, store, sent).take(records[committed:])
    undisturbed: dict[bytes, bytes] = {}
    Worker(records, undisturbed, totals := []).take(records)
    assert sent == totals[known:]
    assert store == undisturbed
    assert cut_short <= (patience < 10)


def test_what_the_log_no_longer_has_is_not_passed_over() -> None:
    records = [Raw(offset, 1) for offset in range(10)]
    store = before(records, 5)
    without = [record for record in records if record.offset != 3]
    with pytest.raises(MissingRecords, match="offset 4 follows 2"):
        Worker(without, store, []).take(records[6:])


def test_a_rebuild_that_was_killed_while_it_dropped_the_old_state_begins_again() -> None:
    records = [Raw(offset, offset) for offset in range(10)]
    store, sent = before(records, 5), list[int]()
    changes = list(anew(PARTITION, store, 5))
    apply(store, changes[:1])
    Worker(records, store, sent).take(records[6:])
    assert sent == [21, 28, 36, 45]
