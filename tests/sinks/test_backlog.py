"""What is read and not landed: in which pieces it lands, and when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tradetape.sinks import backlog, intents
from tradetape.sinks.backlog import BEHIND_SECONDS, CATCH_UP_LINGER_SECONDS, LINGER_SECONDS, Backlog
from tradetape.sinks.batch import Record
from tradetape.sinks.intents import Intent, IntentBroken
from tradetape.sinks.ledger import Identity

READ = 1_000.0
"""When the records came, of both clocks."""


def record(offset: int, size: int = 1) -> Record:
    return Record(Identity(0, offset, 0), b"x" * size, int(READ * 1_000_000), offset)


def read(records: Sequence[Record], pending: Intent | None = None) -> Backlog:
    found = Backlog("tradetape.audited", 0, pending)
    for each in records:
        found.add(each, READ)
    return found


def pieces(found: Backlog) -> list[list[int]]:
    """The offsets of each batch until nothing is left."""
    cuts = []
    while (cut := found.cut()) is not None:
        records, intent = cut
        assert (intent.first, intent.end, intent.rows) == (records[0].offset, records[-1].offset + 1, len(records))
        cuts.append([each.offset for each in records])
        found.forget(len(records), READ)
    return cuts


@pytest.mark.req("P-03")
def test_a_batch_has_the_bounds_of_one_insert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_ROWS", 3)
    monkeypatch.setattr(backlog, "MAX_BYTES", 10)
    assert pieces(read([])) == []
    assert pieces(read([record(n) for n in range(7)])) == [[0, 1, 2], [3, 4, 5], [6]]
    assert pieces(read([record(0, 6), record(1, 4), record(2, 1), record(3, 50), record(4)])) == [[0, 1], [2], [3], [4]]


def test_what_is_full_or_has_waited_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_ROWS", 2)
    found = read([record(0)])
    assert not found.is_full
    assert not found.is_due(READ + LINGER_SECONDS / 2, READ)
    assert found.is_due(READ + LINGER_SECONDS, READ)
    # Late rows wait for more of them; a clock that was set back makes no row late.
    assert not found.is_due(READ + LINGER_SECONDS, READ + BEHIND_SECONDS + 1)
    assert found.is_due(READ + CATCH_UP_LINGER_SECONDS, READ + BEHIND_SECONDS + 1)
    assert found.is_due(READ + LINGER_SECONDS, READ - 3_600)
    found.add(record(1), READ)
    assert found.is_full
    found.forget(2, READ)
    assert not found.is_full
    assert not found.is_due(READ + 3_600, READ)


@pytest.mark.req("P-03", "P-06")
def test_what_another_sink_meant_to_land_is_landed_first_and_as_it_was() -> None:
    records = [record(n) for n in range(5)]
    pending = intents.of(records[:3])
    found = read(records[:2], pending)
    assert found.cut() is None
    for each in records[2:]:
        found.add(each, READ)
    cut = found.cut()
    assert cut is not None
    assert (list(cut[0]), cut[1]) == (records[:3], pending)
    assert pieces(found) == [[0, 1, 2], [3, 4]]
    assert found.pending is None


@pytest.mark.req("P-03")
@pytest.mark.parametrize(
    "others",
    [[record(0), record(1, 2), record(2)], [record(1), record(2)], [record(7), record(8)]],
    ids=["changed", "missing", "later"],
)
def test_other_records_than_were_meant_are_not_landed(others: Sequence[Record]) -> None:
    found = read(others, intents.of([record(n) for n in range(3)]))
    with pytest.raises(IntentBroken, match=r"tradetape.audited 0: offsets 0 to 2 were 3 records"):
        found.cut()
