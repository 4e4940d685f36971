"""What a member may commit, when a failed message comes again, and what a rebalance leaves of it (S4-05)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tradetape.producers.consumer.deliveries import RETRIES, Deliveries, Delivery, Place, Record

pytestmark = [pytest.mark.req("S4-05")]


def record(offset: int, partition: int = 0) -> Record:
    return Record("topic", partition, offset, b"key", b"value")


def held(*offsets: int, partition: int = 0, **options: object) -> Deliveries:
    deliveries = Deliveries(**options)  # type: ignore[arg-type]
    deliveries.assign({partition: None})
    for offset in offsets:
        assert deliveries.add(record(offset, partition))
    return deliveries


def claimed(deliveries: Deliveries, now: float = 0.0) -> Delivery:
    delivery = deliveries.claim(now)
    assert delivery is not None
    return delivery


def test_a_gap_in_the_acknowledgements_holds_the_commit_back() -> None:
    deliveries = held(5, 6, 7)
    first, second, third = (claimed(deliveries) for _ in range(3))
    assert deliveries.settle(third.token)
    assert deliveries.settle(first.token)
    assert deliveries.to_commit() == {0: Place(6, 0)}
    assert deliveries.settle(second.token)
    assert deliveries.to_commit() == {0: Place(8, 0)}


def test_what_kafka_has_is_not_committed_again() -> None:
    deliveries = held(0)
    deliveries.settle(claimed(deliveries).token)
    deliveries.committed({0: Place(1, 0)})
    assert deliveries.to_commit() == {}


def test_offsets_that_are_no_records_are_passed() -> None:
    deliveries = held(3, 9)
    deliveries.settle(claimed(deliveries).token)
    assert deliveries.to_commit() == {0: Place(9, 0)}


def test_where_nobody_committed_the_beginning_itself_is_committed() -> None:
    deliveries = held()
    assert deliveries.to_commit() == {}
    deliveries.begin(0, 40)
    assert deliveries.to_commit() == {0: Place(40, 0)}


@pytest.mark.req("S4-04")
def test_three_retries_after_100_500_and_2000_ms_then_a_dead_letter() -> None:
    deliveries = held(0)
    now, pauses = 100.0, []
    for attempt in (1, 2, 3, 4):
        delivery = claimed(deliveries, now)
        assert delivery.attempt == attempt
        assert deliveries.fail(delivery.token, f"reason {attempt}", now)
        due = deliveries.next_due()
        if due is not None:
            assert deliveries.claim(due - 0.001) is None
            assert deliveries.is_ready(due)
            pauses.append(round(due - now, 6))
            now = due
    assert pauses == [*RETRIES] == [0.1, 0.5, 2.0]
    (exhausted,) = deliveries.take_exhausted()
    assert (exhausted.record.offset, exhausted.attempts, exhausted.reason) == (0, 4, "reason 4")
    assert deliveries.claim(now + 1000) is None
    assert deliveries.take_exhausted() == []
    assert deliveries.retried == 3


@pytest.mark.req("S4-04")
def test_nothing_is_committed_past_a_message_whose_dead_letter_is_not_written() -> None:
    deliveries = held(0, 1, retries=())
    deliveries.fail(claimed(deliveries).token, "broken", 0.0)
    deliveries.settle(claimed(deliveries).token)
    assert deliveries.to_commit() == {0: Place(0, 1)}
    (exhausted,) = deliveries.take_exhausted()
    assert deliveries.settle(exhausted.token)
    assert deliveries.to_commit() == {0: Place(2, 0)}


def test_a_partition_waits_for_its_retry_and_the_others_go_on() -> None:
    deliveries = held(0, 1)
    deliveries.assign({1: None})
    deliveries.add(record(7, partition=1))
    failed = claimed(deliveries)
    assert failed.record == record(0)
    deliveries.fail(failed.token, "broken", 0.0)
    assert claimed(deliveries, 0.01).record == record(7, partition=1)
    assert deliveries.claim(0.01) is None
    assert [claimed(deliveries, 0.1).record.offset for _ in range(2)] == [0, 1]


def test_partitions_take_turns() -> None:
    deliveries = held(0, 1, 2)
    deliveries.assign({1: None})
    for offset in range(3):
        deliveries.add(record(offset, partition=1))
    assert [claimed(deliveries).record.partition for _ in range(6)] == [0, 1, 0, 1, 0, 1]


def test_a_delivery_that_timed_out_can_neither_be_acknowledged_nor_failed() -> None:
    deliveries = held(0, 1, processing_timeout=30.0)
    late = claimed(deliveries, 0.0)
    in_time = claimed(deliveries, 10.0)
    assert deliveries.expire(29.9) == []
    assert deliveries.expire(30.0) == [late]
    assert not deliveries.settle(late.token)
    assert not deliveries.fail(late.token, "again", 30.0)
    assert deliveries.settle(in_time.token)
    again = claimed(deliveries, 30.1)
    assert (again.record.offset, again.attempt) == (0, 2)
    assert deliveries.settle(again.token)
    assert deliveries.to_commit() == {0: Place(2, 0)}


def test_a_batch_gets_no_message_that_failed_before() -> None:
    deliveries = held(0, 1)
    deliveries.fail(claimed(deliveries).token, "broken", 0.0)
    assert deliveries.claim(5.0, first_attempts_only=True) is None
    assert claimed(deliveries, 5.0).attempt == 2
    following = deliveries.claim(5.0, first_attempts_only=True)
    assert following is not None
    assert following.record.offset == 1


def test_a_message_that_nobody_worked_on_comes_again_as_the_first_attempt() -> None:
    deliveries = held(0, 1)
    assert deliveries.release(claimed(deliveries).token)
    assert (claimed(deliveries).record.offset, claimed(deliveries).record.offset) == (0, 1)
    assert deliveries.to_commit() == {0: Place(0, 0)}


def test_a_revoked_partition_leaves_nothing_behind() -> None:
    deliveries = held(0, 1, 2, 3, retries=(1.0,))
    flying, failed, buried = (claimed(deliveries) for _ in range(3))
    deliveries.fail(buried.token, "hopeless", 0.0, final=True)
    deliveries.fail(failed.token, "broken", 0.0)
    deliveries.revoke([0])
    assert (deliveries.held, deliveries.bytes_held, deliveries.partitions) == (0, 0, frozenset())
    assert deliveries.take_exhausted() == []
    assert deliveries.claim(100.0) is None
    assert not deliveries.settle(flying.token)
    assert not deliveries.settle(buried.token)
    assert not deliveries.add(record(4))
    assert deliveries.to_commit() == {}


def test_an_acknowledgement_from_before_a_rebalance_does_not_count_after_it() -> None:
    deliveries = held(0)
    before = claimed(deliveries)
    deliveries.revoke([0])
    deliveries.assign({0: Place(0, 0)})
    deliveries.add(record(0))
    after = claimed(deliveries)
    assert not deliveries.settle(before.token)
    assert deliveries.to_commit() == {}
    assert deliveries.settle(after.token)
    assert deliveries.to_commit() == {0: Place(1, 0)}


def test_the_next_member_goes_on_counting_the_failures_of_the_first_message() -> None:
    first = held(4, 5)
    first.fail(claimed(first).token, "broken", 0.0)
    (place,) = first.to_commit().values()
    assert place == Place(4, 1)
    second = Deliveries()
    second.assign({0: place})
    for offset in (4, 5):
        second.add(record(offset))
    assert second.to_commit() == {}
    assert [(d.record.offset, d.attempt) for d in (claimed(second), claimed(second))] == [(4, 2), (5, 1)]


class Members(RuleBasedStateMachine):
    """Any order of fetching, handing out, acknowledging, failing, time and rebalances.

    The model knows which offsets were settled while the partition was held; a commit must never pass another one.
    """

    @initialize()
    def begin(self) -> None:
        self.deliveries = Deliveries(processing_timeout=5.0, retries=(1.0, 2.0))
        self.now = 0.0
        self.next_offset = {0: 0, 1: 0}
        self.settled: dict[int, set[int]] = {0: set(), 1: set()}
        self.kafka: dict[int, Place | None] = {0: None, 1: None}
        self.out: list[Delivery] = []
        self.deliveries.assign(dict(self.kafka))

    @rule(partition=st.sampled_from([0, 1]), gap=st.integers(0, 2))
    def fetch(self, partition: int, gap: int) -> None:
        offset = self.next_offset[partition] + gap
        self.settled[partition].update(range(self.next_offset[partition], offset))  # offsets that hold no record
        assert self.deliveries.add(record(offset, partition))
        self.next_offset[partition] = offset + 1

    @rule(first=st.booleans())
    def hand_out(self, first: bool) -> None:
        delivery = self.deliveries.claim(self.now, first_attempts_only=first)
        if delivery is not None:
            assert delivery.record.offset not in self.settled[delivery.record.partition]
            assert not first or delivery.attempt == 1
            self.out.append(delivery)

    @rule(index=st.integers(0, 20))
    def acknowledge(self, index: int) -> None:
        if index < len(self.out):
            delivery = self.out.pop(index)
            if self.deliveries.settle(delivery.token):
                self.settled[delivery.record.partition].add(delivery.record.offset)
            assert not self.deliveries.settle(delivery.token)

    @rule(index=st.integers(0, 20))
    def fail(self, index: int) -> None:
        if index < len(self.out):
            self.deliveries.fail(self.out[index].token, "broken", self.now)

    @rule()
    def bury(self) -> None:
        for item in self.deliveries.take_exhausted():
            assert item.attempts == 3
            assert self.deliveries.settle(item.token)
            self.settled[item.record.partition].add(item.record.offset)

    @rule(seconds=st.floats(0.0, 6.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.deliveries.expire(self.now)

    @rule()
    def commit(self) -> None:
        places = self.deliveries.to_commit()
        self.deliveries.committed(places)
        self.kafka |= places
        assert self.deliveries.to_commit() == {}

    @rule(partition=st.sampled_from([0, 1]))
    def rebalance(self, partition: int) -> None:
        self.deliveries.revoke([partition])
        place = self.kafka[partition]
        self.deliveries.assign({partition: place})
        self.next_offset[partition] = place.offset if place is not None else 0
        self.settled[partition] = {o for o in self.settled[partition] if o < self.next_offset[partition]}

    @invariant()
    def a_commit_never_passes_what_is_not_settled(self) -> None:
        for partition, place in self.deliveries.to_commit().items():
            assert set(range(place.offset)) <= self.settled[partition]
            assert place.offset <= self.next_offset[partition]

    def teardown(self) -> None:
        """Everything held can still be brought to its end: nothing is stuck, nothing is lost."""
        if not hasattr(self, "deliveries"):
            return
        while self.deliveries.held:
            self.now += 10.0
            self.deliveries.expire(self.now)
            self.bury()
            while (delivery := self.deliveries.claim(self.now)) is not None:
                assert self.deliveries.settle(delivery.token)
        assert self.deliveries.bytes_held == 0


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=150, stateful_step_count=40)


@given(st.permutations(range(12)))
def test_whatever_the_order_of_acknowledgements_the_commit_stops_at_the_first_that_is_missing(order: list[int]) -> None:
    deliveries = held(*range(12))
    tokens = [claimed(deliveries).token for _ in range(12)]
    done: set[int] = set()
    for offset in order:
        assert deliveries.settle(tokens[offset])
        done.add(offset)
        expected = next(offset for offset in range(13) if offset not in done)
        assert deliveries.to_commit()[0].offset == expected
