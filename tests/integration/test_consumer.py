"""Consumer groups on the real broker (S4-04, S4-05)."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Tradetape
from tests.support import eventually

from tradetape.infra import settings
from tradetape.producers.consumer import Consumer, DeadLetter, Message, dead_letters, redrive
from tradetape.producers.emitter import Emitter
from tradetape.producers.recorder import Recorder
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError

pytestmark = [pytest.mark.integration, pytest.mark.req("S4-05")]

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "consume-events.md"
SOON = (0.02, 0.02, 0.02)

_numbers = itertools.count(1)


class Fleet:
    """Bots of one test, and consumers that see nothing but them."""

    def __init__(self, where: dict[str, Any], emitter: Emitter) -> None:
        self.where = where
        self.emitter = emitter
        self.prefix = f"consumed-{uuid.uuid4().hex[:8]}-"
        self.group = f"group-{uuid.uuid4().hex[:8]}"

    def orders(self, count: int, note: str = "") -> list[str]:
        """Record ``count`` orders of one bot, and return their event_ids when Kafka has the verdicts."""
        ids = self.record(count, note=note)
        self.wait_judged(ids)
        return ids

    def record(self, count: int, bots: int = 1, note: str = "") -> list[str]:
        """Record ``count`` orders of each of ``bots`` bots that carry ``note``; Kafka has them, not the verdicts."""
        ids = []
        for bot in range(bots):
            with self.recorder(str(bot)) as recorder:
                ids += [
                    recorder.order_created(
                        client_order_id=f"o-{next(_numbers)}",
                        side="buy",
                        order_type="limit",
                        price="1.5",
                        amount_base="2",
                        is_live=True,
                        note=note,
                    ).event_id
                    for _ in range(count)
                ]
        return ids

    def recorder(self, bot: str = "1") -> Recorder:
        return Recorder(
            instance_name=self.prefix + bot,
            producer="test",
            connector_name="kucoin",
            trading_pair="A-B",
            emitter=self.emitter,
        )

    def wait_judged(self, ids: list[str]) -> None:
        missing = set(ids)
        with self.consumer(f"witness-{uuid.uuid4().hex[:8]}") as witness:
            while missing:
                message = witness.take(30)
                assert message is not None, f"{len(missing)} of {len(ids)} not judged"
                missing.discard(message.event_id)

    def consumer(self, group: str = "", **options: Any) -> Consumer:
        wanted = options.pop("filter", lambda message: True)
        return Consumer(
            group or self.group,
            **self.where,
            filter=lambda m: m.instance_name.startswith(self.prefix) and wanted(m),
            **options,
        )

    def rest(self, group: str = "", **options: Any) -> list[str]:
        """What a member that starts now would still be handed."""
        with self.consumer(group, until_end=True, **options) as consumer:
            return [message.event_id for message in consumer if message.ack()]

    def letters(self) -> list[DeadLetter]:
        return list(dead_letters(self.where["bootstrap_servers"], group=self.group))


@pytest.fixture(scope="module")
def where(stack: Tradetape) -> dict[str, Any]:
    found = settings.load(stack.home)
    return {"bootstrap_servers": found.bootstrap_servers, "registry_url": found.registry_url}


@pytest.fixture(scope="module")
def emitter(where: dict[str, Any]) -> Iterator[Emitter]:
    with Emitter(**where) as emitter:
        yield emitter


@pytest.fixture
def fleet(where: dict[str, Any], emitter: Emitter) -> Fleet:
    return Fleet(where, emitter)


def taken(consumer: Consumer) -> Message:
    message = consumer.take(20)
    assert message is not None
    return message


def test_a_restart_resumes_behind_the_acknowledged_ones(fleet: Fleet) -> None:
    ids = fleet.orders(5)
    with fleet.consumer() as consumer:
        messages = [taken(consumer) for _ in range(5)]
        assert [message.event_id for message in messages] == ids
        assert all(messages[n].ack() for n in (0, 1, 3))
    assert not messages[2].ack(), "the member left its group"
    assert fleet.rest() == ids[2:]
    assert fleet.rest() == []


def test_a_message_is_typed_and_says_where_it_stands(fleet: Fleet) -> None:
    (event_id,) = fleet.orders(1)
    with fleet.consumer("audited") as audited, fleet.consumer("events", topic=topics.EVENTS) as events:
        verdict, event = taken(audited), taken(events)
    assert verdict.payload == event.payload
    assert str(verdict.payload["price"]) == "1.5"
    assert (verdict.event_id, event.event_id) == (event_id, event_id)
    assert (verdict.disposition, verdict.link, event.disposition) == ("accepted", "root", "")
    assert (verdict.topic, event.topic) == (topics.AUDITED, topics.EVENTS)
    assert verdict.key == f"{event.partition}:{event.offset}:0".encode()


def test_a_filter_takes_approved_decisions_and_the_others_count_as_acknowledged(fleet: Fleet) -> None:
    decisions = ["approved", "rejected", "modified", "approved", "rejected"]
    with fleet.recorder() as recorder:
        ids = [recorder.record("risk_evaluated", {"decision": decision}).event_id for decision in decisions]
    fleet.wait_judged(ids)
    approved = fleet.rest(filter=lambda message: message.payload["decision"] == "approved")
    assert approved == [ids[0], ids[3]]
    assert fleet.rest() == []


def test_broadcast_gives_each_member_everything_and_a_group_shares(fleet: Fleet) -> None:
    ids = fleet.orders(6)
    for name in ("a", "b"):
        assert fleet.rest(broadcast=True, member=name) == ids
    assert fleet.rest(broadcast=True, member="a") == [], "a member goes on where it was"
    assert fleet.rest() == ids
    assert fleet.rest() == []


def test_who_starts_at_the_latest_gets_what_comes_from_then_on(fleet: Fleet) -> None:
    fleet.orders(2)
    with fleet.consumer(start="latest") as consumer:
        assert consumer.take(1.0) is None
    # It died before it was handed anything: what came meanwhile is not lost.
    ids = fleet.orders(2)
    with fleet.consumer(start="latest") as consumer:
        assert [taken(consumer).event_id for _ in range(2)] == ids


def test_batches_keep_their_size_and_do_not_wait_for_more(fleet: Fleet) -> None:
    ids = fleet.orders(25)
    sizes: list[int] = []
    seen: list[str] = []

    def handle(batch: list[Message]) -> None:
        sizes.append(len(batch))
        seen.extend(message.event_id for message in batch)
        if len(seen) == len(ids):
            consumer.stop()

    with fleet.consumer(batch_size=10, batch_timeout=0.1) as consumer:
        consumer.run_batches(handle)
        assert consumer.acknowledged == 25
    assert sizes == [10, 10, 5], "the last one is handed out though nothing else comes"
    assert seen == ids


def test_a_bad_message_of_a_batch_comes_again_alone(fleet: Fleet) -> None:
    ids = fleet.orders(4)
    batches: list[list[tuple[str, int]]] = []

    def handle(batch: list[Message]) -> None:
        batches.append([(message.event_id, message.attempt) for message in batch])
        if ids[1] in [message.event_id for message in batch]:
            raise ValueError("bad")

    with fleet.consumer(until_end=True, retries=SOON) as consumer:
        consumer.run_batches(handle)
    whole, *alone = batches
    assert [event_id for event_id, _ in whole] == ids
    assert all(len(batch) == 1 for batch in alone)
    assert [batch[0] for batch in alone if batch[0][0] == ids[1]] == [(ids[1], 2), (ids[1], 3), (ids[1], 4)]
    assert [letter.attempts for letter in fleet.letters()] == [4]


@pytest.mark.req("S4-04")
def test_a_slow_handler_is_retried_becomes_a_dead_letter_and_is_re_driven(fleet: Fleet) -> None:
    ids = fleet.orders(3)
    attempts = []
    with fleet.consumer(processing_timeout=0.3, retries=SOON) as consumer:
        for failures in range(1, 5):
            slow = taken(consumer)
            attempts.append((slow.event_id, slow.attempt))
            eventually(lambda n=failures: consumer.retried + consumer.dead_lettered == n, 5, "the timeout is over")
            assert not slow.ack(), "too late"
        following = [taken(consumer) for _ in range(2)]
        assert all(message.ack() for message in following)
    assert attempts == [(ids[0], attempt) for attempt in (1, 2, 3, 4)]
    assert [message.event_id for message in following] == ids[1:], "the partition goes on"
    assert fleet.rest() == []

    (letter,) = fleet.letters()
    assert (letter.group, letter.attempts) == (fleet.group, 4)
    assert letter.reason == "not acknowledged within 0.3 s"
    place = (letter.record.topic, letter.record.partition, letter.record.offset)
    assert place == (slow.topic, slow.partition, slow.offset)
    assert letter.record.key == slow.key

    def broken(message: Message) -> None:
        raise LookupError("still broken")

    mended: list[Message] = []
    assert redrive(broken, group=fleet.group, retries=(), **fleet.where) == (0, 1)
    assert redrive(mended.append, group=fleet.group, **fleet.where) == (1, 0)
    assert redrive(mended.append, group=fleet.group, **fleet.where) == (0, 0)
    (again,) = mended
    assert (again.event_id, again.topic, again.partition, again.offset) == (ids[0], *place)
    assert again.payload == slow.payload
    assert [(kept.attempts, kept.reason) for kept in fleet.letters()] == [
        (4, "not acknowledged within 0.3 s"),
        (5, "LookupError: still broken"),
    ]


@pytest.mark.req("S4-04")
def test_nothing_is_committed_past_a_message_whose_dead_letter_cannot_be_written(fleet: Fleet) -> None:
    ids = fleet.orders(2, note="x" * 3000)
    too_small = {"message.max.bytes": 2000}
    with (
        pytest.raises(TradetapeError, match="MSG_SIZE_TOO_LARGE"),
        fleet.consumer(retries=(), config=too_small, until_end=True) as consumer,
    ):
        consumer.run(lambda message: 1 / 0)
    assert fleet.letters() == []
    assert fleet.rest() == ids


def test_a_member_that_hangs_hands_on_and_the_next_one_goes_on_counting(fleet: Fleet) -> None:
    ids = fleet.orders(2)
    with (
        pytest.raises(TradetapeError, match="gave its partitions up"),
        fleet.consumer(processing_timeout=0.4, retries=SOON) as hanging,
    ):
        stuck = taken(hanging)
        with fleet.consumer(retries=SOON) as second:
            received = [taken(second) for _ in range(2)]
            assert all(message.ack() for message in received)
        assert not stuck.ack()
        hanging.take()
    assert [(message.event_id, message.attempt) for message in received] == [(ids[0], 2), (ids[1], 1)]
    assert fleet.rest() == []


def test_an_error_of_the_filter_reaches_the_caller_and_loses_no_message(fleet: Fleet) -> None:
    ids = fleet.orders(2)
    broken = iter([True])

    def wanted(message: Message) -> bool:
        if next(broken, False):
            raise KeyError("a bug in the filter")
        return True

    with fleet.consumer(filter=wanted) as consumer:
        with pytest.raises(KeyError, match="a bug"):
            consumer.take(20)
        assert [(message.event_id, message.attempt) for message in (taken(consumer), taken(consumer))] == [
            (ids[0], 1),
            (ids[1], 1),
        ]


def test_two_members_of_one_name_are_told_apart(fleet: Fleet) -> None:
    fleet.orders(1)
    with pytest.raises(TradetapeError, match="no two members have one name"), fleet.consumer(member="one") as first:
        assert taken(first).ack()
        with fleet.consumer(member="one") as second:
            eventually(lambda: second.take(0.1) is None and first.take(0.1), 20, "the first is fenced")


@pytest.mark.crash
def test_a_second_member_takes_over_from_one_that_is_killed_and_nothing_is_lost(fleet: Fleet) -> None:
    bots = 16  # enough for each member's partitions to have some
    ids = fleet.record(12, bots)
    command = [sys.executable, "-m", "tests.integration.consumer_member", *fleet.where.values()]
    first = subprocess.Popen([*command, fleet.group, fleet.prefix], stdout=subprocess.PIPE, text=True)
    done_by_first: list[str] = []
    reader = threading.Thread(target=lambda: done_by_first.extend(map(str.strip, _lines(first))), daemon=True)
    reader.start()
    done_by_second: list[str] = []
    try:
        eventually(lambda: len(done_by_first) >= 3, 30, "the first member works")
        with fleet.consumer(session_timeout=6.0) as second:
            worker = threading.Thread(target=second.run, args=(lambda m: done_by_second.append(m.event_id),))
            worker.start()
            eventually(lambda: len(done_by_second) >= 3, 30, "the second member has partitions")
            shared = len(done_by_first)
            ids += fleet.record(4, bots)
            eventually(lambda: len(done_by_first) > shared, 30, "the first member has partitions")
            first.kill()
            ids += fleet.record(1, bots)
            eventually(lambda: {*done_by_first} | {*done_by_second} >= {*ids}, 40, "all events are handled")
            second.stop()
            worker.join(20)
    finally:
        first.kill()
        first.wait(10)
        reader.join(10)
    assert {*done_by_first} | {*done_by_second} == {*ids}
    assert fleet.rest() == []


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


@pytest.mark.req("S4-04")
def test_the_guide_runs(fleet: Fleet, tmp_path: Path) -> None:
    with fleet.recorder() as recorder:
        evaluated = recorder.record("risk_evaluated", {"decision": "approved"})
        killed = recorder.record("kill_switch_activated", {"trigger": fleet.prefix, "severity": "critical"})
    fleet.wait_judged([evaluated.event_id, killed.event_id])
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    program = tmp_path / "guide.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    env = os.environ | {
        settings.BOOTSTRAP_SERVERS: fleet.where["bootstrap_servers"],
        settings.REGISTRY_URL: fleet.where["registry_url"],
    }
    done = subprocess.run(
        [sys.executable, str(program)], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"submit {evaluated.event_id}" in done.stdout
    assert "dead letter: ConnectionError: the exchange is away" in done.stdout
    assert f"settle {evaluated.event_id}" in done.stdout
    assert "re-driven: 0 failed" in done.stdout
    for member in ("execution-1", "execution-2"):
        assert f"{member} stops trading: {fleet.prefix}" in done.stdout
