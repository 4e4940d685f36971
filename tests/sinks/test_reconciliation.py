"""The comparison of a source with the store: whatever is dropped, changed or added is told, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.sinks.reconciliation.compare import (
    CHANGED,
    MISSING,
    NOT_ACCEPTED,
    UNEXPECTED,
    Outcome,
    Ways,
    compare,
)
from tradetape.sinks.reconciliation.differences import Difference, acceptances, beyond, in_both
from tradetape.sinks.reconciliation.records import Record

pytestmark = pytest.mark.req("S3-11", "S3-09")

NO_WAYS = Ways()
TYPES = ("order_created", "order_filled", "signal_generated")


def record(
    number: int,
    *,
    event_id: str = "",
    position: int | None = -1,
    event_type: str = "order_filled",
    stream: str = "log",
    chain: str = "c",
    disposition: str = "",
    **fields: str,
) -> Record:
    place = number if position == -1 else position
    return Record(
        source_id="s",
        event_id=event_id or f"e{number}",
        stream=stream,
        position=place,
        event_type=event_type,
        native_type=event_type.upper(),
        chain=chain,
        disposition=disposition,
        place=f"{'0:' if disposition else ''}{number}",
        fields={"payload.price": str(number), **fields},
    )


def stored(records: Iterable[Record], disposition: str = "accepted") -> list[Record]:
    return [each._replace(disposition=disposition) for each in records]


def outcome_of(
    native: Sequence[Record],
    rows: Sequence[Record],
    ways: Ways = NO_WAYS,
    elsewhere: Iterable[str] = (),
) -> Outcome:
    return compare(lambda: native, lambda: rows, lambda _: set(elsewhere), ways)


def told(outcome: Outcome) -> set[tuple[str, str]]:
    return {(found.kind, found.item) for found in outcome.differences}


RECORDS = st.lists(st.tuples(st.sampled_from(TYPES), st.booleans(), st.sampled_from("ab")), max_size=12)


@given(made=RECORDS, data=st.data())
def test_any_dropped_changed_or_added_record_is_told_and_nothing_else(
    made: list[tuple[str, bool, str]], data: st.DataObject
) -> None:
    native = [
        record(number, event_type=event_type, position=number if placed else None, stream=stream)
        for number, (event_type, placed, stream) in enumerate(made)
    ]
    numbers = st.sets(st.sampled_from(range(len(native)))) if native else st.just(set())
    dropped, changed, twice = data.draw(numbers), data.draw(numbers), data.draw(numbers)
    added = data.draw(st.sets(st.integers(100, 105)))
    kept = stored(each for number, each in enumerate(native) if number not in dropped)
    rows = [
        each._replace(fields={**each.fields, "payload.price": "0.1"}) if int(each.event_id[1:]) in changed else each
        for each in kept
    ]
    rows = data.draw(st.permutations(rows)) if rows else rows
    rows += stored(record(number) for number in added)
    rows += stored((native[number] for number in twice - dropped), "duplicate")
    outcome = outcome_of(native, rows)
    assert told(outcome) == {
        *((MISSING, f"e{number}") for number in dropped),
        *((CHANGED, f"e{number}") for number in changed - dropped),
        *((UNEXPECTED, f"e{number}") for number in added),
    }
    assert outcome.repeats == len(twice - dropped)
    assert sum(tally.native for tally in outcome.by_native_type.values()) == len(native)
    assert sum(delta for _, _, delta in outcome.deltas().values()) == len(dropped) - len(added)


def test_a_change_is_told_with_both_values_and_places() -> None:
    native = [record(1, **{"payload.side": "buy"}), record(2)]
    rows = stored([record(1, **{"payload.price": "1.5"}), record(2)])
    (found,) = outcome_of(native, rows).differences
    assert found.values == (("payload.price", "1", "1.5"), ("payload.side", "buy", None))
    assert (found.native_place, found.stored_place, found.label) == ("1", "1", "order_filled")


def test_records_of_one_id_are_told_apart_by_position_and_by_what_they_say() -> None:
    twice = [record(1, event_id="same"), record(2, event_id="same"), record(3, event_id="same", position=None)]
    assert outcome_of(twice, stored(reversed(twice))).differences == []
    outcome = outcome_of(twice, stored(twice[:1]) + stored(twice[1:], "duplicate"))
    assert outcome.differences == []
    assert outcome.by_native_type["ORDER_FILLED"].duplicate == 2
    (found,) = outcome_of(twice, stored([twice[2], twice[0]])).differences
    assert (found.kind, found.native_place) == (MISSING, "2")


def test_a_row_that_a_source_updated_in_place_is_told() -> None:
    was, now = record(1), record(1, **{"payload.price": "9"})
    for rows in ([was, now], [now, was]):
        (found,) = outcome_of([now], stored(rows)).differences
        assert (found.kind, found.content) == (UNEXPECTED, was.digest.hex())


def test_what_is_stored_as_a_duplicate_alone_must_be_accepted_elsewhere() -> None:
    native = [record(1), record(2)]
    rows = stored(native, "duplicate")
    assert told(outcome_of(native, rows, elsewhere={"e2"})) == {(NOT_ACCEPTED, "e1")}
    assert told(outcome_of(native, rows, elsewhere={"e1", "e2"})) == set()


def test_what_is_stored_as_a_duplicate_alone_is_compared_too() -> None:
    (found,) = outcome_of(
        [record(1)], stored([record(1, **{"payload.price": "7"})], "duplicate"), elsewhere={"e1"}
    ).differences
    assert (found.kind, found.values) == (CHANGED, (("payload.price", "1", "7"),))


def test_a_refused_attempt_at_what_was_accepted_is_a_repeat() -> None:
    native = [record(1)]
    refused = record(1, position=None, **{"payload.error": "no price"})
    outcome = outcome_of(native, stored(native) + stored([refused], "rejected"))
    assert (outcome.differences, outcome.repeats) == ([], 1)
    assert told(outcome_of([record(2)], stored([record(2)]) + stored([refused], "rejected"))) == {(UNEXPECTED, "e1")}


@pytest.mark.parametrize(("native", "stored_chain", "differs"), [("c", "d", True), ("c", "c", False), ("", "d", False)])
def test_a_chain_that_the_source_names_is_compared_one_that_was_inferred_is_not(
    native: str, stored_chain: str, differs: bool
) -> None:
    outcome = outcome_of([record(1, chain=native)], stored([record(1, chain=stored_chain)]))
    assert [found.values for found in outcome.differences] == (
        [(("correlation_id", native, stored_chain),)] if differs else []
    )


def test_what_a_store_forgets_is_no_difference_but_a_hole_is() -> None:
    native = [record(3), record(5)]
    rows = stored(record(number) for number in range(1, 6)) + stored([record(9, stream="gone")])
    outcome = outcome_of(native, rows, Ways(forgets=True))
    assert told(outcome) == {(UNEXPECTED, "e4")}
    assert outcome.by_native_type["ORDER_FILLED"].expired == 3
    assert len(told(outcome_of(native, rows))) == 4


def test_the_unwritten_end_of_a_line_is_no_record() -> None:
    half = [record(1, position=None)]
    assert outcome_of(half, [], Ways(has_fragments=True)).differences == []
    assert outcome_of([], stored(half), Ways(has_fragments=True)).differences == []
    assert told(outcome_of(half, [])) == {(MISSING, "e1")}


def test_values_that_a_source_adds_later_are_none_and_values_that_it_changes_are() -> None:
    ways = Ways(fills_in=frozenset({"payload.exchange_order_id"}))
    native = [record(1, **{"payload.exchange_order_id": "x"})]
    outcome = outcome_of(native, stored([record(1)]), ways)
    assert (outcome.differences, outcome.filled_in) == ([], 1)
    assert told(outcome_of(native, stored([record(1, **{"payload.exchange_order_id": "y"})]), ways)) == {
        (CHANGED, "e1")
    }
    assert told(outcome_of([record(1)], stored(native), ways)) == {(CHANGED, "e1")}


def test_what_later_records_of_hummingbot_took_over_is_no_difference() -> None:
    native = [record(1, event_type="order_created", chain="o1"), record(2, event_id="fill", event_type="order_filled")]
    rows = stored(native) + stored(
        [
            record(7, event_type="order_snapshot", chain="o1", position=None, stream="Order"),
            record(2, event_id="status", event_type="order_status"),
        ]
    )
    assert outcome_of(native, rows, Ways(overtakes=True)).differences == []
    lost = stored(
        [record(8, event_type="order_snapshot", chain="o2", position=None), record(9, event_type="order_status")]
    )
    assert told(outcome_of(native, rows + lost, Ways(overtakes=True))) == {(UNEXPECTED, "e8"), (UNEXPECTED, "e9")}


def test_a_record_that_changes_while_it_is_compared_is_told_without_values() -> None:
    readings = iter(([record(1)], [record(1, **{"payload.price": "3"})]))
    outcome = compare(
        lambda: next(readings), lambda: stored([record(1, **{"payload.price": "2"})]), lambda _: set(), Ways()
    )
    assert [(found.kind, found.values) for found in outcome.differences] == [(CHANGED, ())]


@pytest.mark.req("N-03")
def test_an_accepted_difference_stays_accepted_until_it_moves_on() -> None:
    (found,) = outcome_of([record(1)], stored([record(1, **{"payload.price": "2"})])).differences
    (moved_on,) = outcome_of([record(1)], stored([record(1, **{"payload.price": "3"})])).differences
    rows = [
        {"event_id": "b1", "accepted_by": "ann", "reason": "typo", "ids": [found.id]},
        {"event_id": "b2", "accepted_by": "bob", "reason": "seen twice", "ids": [found.id]},
    ]
    accepted = acceptances(rows)
    assert accepted[found.id].by == "bob"
    assert beyond([found, moved_on], accepted) == [moved_on]
    assert found._replace(native_place="elsewhere", stored_place="0:7:0").id == found.id


def test_only_what_two_looks_agree_on_is_judged() -> None:
    lasting, gone, new = (Difference(MISSING, "s", item) for item in ("e1", "e2", "e3"))
    assert in_both([lasting, gone], [lasting, new]) == [lasting]
