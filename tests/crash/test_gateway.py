"""``tradetape gateway`` killed with −9, Kafka frozen behind it: what was answered 202 is stored once, in its order."""

from __future__ import annotations

import os
import random
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.crash.pipeline import KILLED, Pipeline, random_moment
from tests.crash.undisturbed import Undisturbed, assert_places, wait_until_stored
from tests.integration.gateway import Gateway
from tests.producers.gateways import event
from tests.support import eventually

from tradetape.infra.embedded import status
from tradetape.schemas.crashpoints import VARIABLE

pytestmark = [pytest.mark.crash, pytest.mark.timeout(420), pytest.mark.req("P-06", "P-07")]

SEED = 47
BATCH = 20
PROGRESS = 4
"""Answered POSTs of a bot between two deaths."""

PAUSE = 0.1
STORED_SECONDS = 90.0


class Bot(threading.Thread):
    """Posts batch after batch, each until it is answered 202; ``answered`` are the ids, in their order."""

    def __init__(self, gateway: Gateway, instance: str) -> None:
        super().__init__(name=instance, daemon=True)
        self.instance = instance
        self.answered: list[str] = []
        self.posts = 0
        self.unexpected: list[str] = []
        self._http = gateway.client()
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set():
            ids = [str(uuid.uuid4()) for _ in range(BATCH)]
            batch = [event(event_id=one, correlation_id=one, instance_name=self.instance) for one in ids]
            while not self._post(batch):
                self._done.wait(PAUSE)
            self.answered += ids
            self.posts += 1
            self._done.wait(PAUSE)

    def finish(self) -> None:
        """Let it get its last answer."""
        self._done.set()
        self.join(120)
        assert not self.is_alive()
        assert self.unexpected == []
        self._http.close()

    def _post(self, batch: list[dict[str, object]]) -> bool:
        try:
            answer = self._http.post("/v1/events", json=batch)
        except httpx.TransportError:
            return False
        if answer.status_code not in (202, 503):
            self.unexpected.append(answer.text)
        return answer.status_code != 503


@contextmanager
def posting(gateway: Gateway, prefix: str) -> Iterator[list[Bot]]:
    """Bots that post to ``gateway`` until the end of the block."""
    bots = [Bot(gateway, f"{prefix}-{number}") for number in range(2)]
    for bot in bots:
        bot.start()
    try:
        yield bots
    finally:
        for bot in bots:
            bot.finish()


def go_on(bots: list[Bot], posts: int = PROGRESS) -> None:
    """Return when each bot had ``posts`` further answers."""
    wanted = [bot.posts + posts for bot in bots]
    eventually(lambda: all(bot.posts >= count for bot, count in zip(bots, wanted, strict=True)), 90, "answers")


@contextmanager
def frozen_kafka(pipeline: Pipeline) -> Iterator[None]:
    """Kafka takes nothing and answers nothing, without closing a connection."""
    (pid,) = (component.pid for component in status.read(pipeline.home) if component.name == "kafka")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_direct(gateway: Gateway) -> None:
    """Return when events go to Kafka, and nothing is left in the spool."""

    def is_ok() -> bool:
        found = gateway.health()
        return found["status"] == "ok" and not found["spool"]["waiting_bytes"]

    eventually(is_ok, 90, "the gateway is back at Kafka")


def assert_stored_once_in_order(pipeline: Pipeline, undisturbed: Undisturbed, bots: list[Bot]) -> int:
    """What was answered, and nothing else, is stored once, in its order; returns how many repeats there were."""
    undisturbed.catch_up()
    wait_until_stored(pipeline.store, undisturbed, STORED_SECONDS, "gateway")
    assert_places(pipeline.store, undisturbed, "gateway")
    repeats = 0
    for bot in bots:
        parameters = {"instance": bot.instance}
        rows = pipeline.store.query(
            "SELECT toString(event_id) FROM tradetape.events WHERE instance_name = {instance:String} "
            "ORDER BY raw_partition, raw_offset",
            parameters,
        )
        assert [row[0] for row in rows] == bot.answered, bot.instance
        others = pipeline.store.query(
            "SELECT disposition, reasons, count() FROM tradetape.quarantine WHERE instance_name = {instance:String} "
            "GROUP BY ALL",
            parameters,
        )
        assert all((row[0], list(row[1])) == ("duplicate", ["repeated"]) for row in others), others
        repeats += sum(int(row[2]) for row in others)
    return repeats


def test_a_gateway_killed_again_and_again_keeps_what_it_answered(
    pipeline: Pipeline, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    with Gateway(pipeline.home, tmp_path, pipeline.env, pipeline.forks) as gateway:
        wait_direct(gateway)
        with posting(gateway, "killed") as bots:
            go_on(bots)
            for point in ("gateway.after_send", "gateway.before_answer"):
                random_moment(rng, 0.3)
                gateway.kill()
                gateway.start_again({VARIABLE: f"{point}:{rng.randrange(3, 12)}"})
                eventually(lambda: gateway.process.poll() == KILLED, 90, f"it dies at {point}")
                gateway.start_again()
                wait_direct(gateway)
                go_on(bots)
            with frozen_kafka(pipeline):
                eventually(lambda: gateway.health()["spool"]["accepted"] >= BATCH, 60, "the spool takes over")
                go_on(bots)
                gateway.kill()
                gateway.start_again()
                go_on(bots)
            go_on(bots)
        wait_direct(gateway)
        assert gateway.stop() == 0, gateway.log()
    repeats = assert_stored_once_in_order(pipeline, undisturbed, bots)
    print(f"{sum(len(bot.answered) for bot in bots)} events, {repeats} sent twice")
    assert repeats, "a batch that died before its answer is sent again"


def test_while_kafka_is_frozen_bots_are_answered_and_afterwards_all_is_there_in_order(
    pipeline: Pipeline, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    with Gateway(pipeline.home, tmp_path, pipeline.env, pipeline.forks) as gateway:
        wait_direct(gateway)
        with posting(gateway, "frozen") as bots:
            go_on(bots)
            for _ in range(2):
                with frozen_kafka(pipeline):
                    eventually(lambda: gateway.health()["status"] == "spooling", 60, "the spool takes over")
                    go_on(bots)
                wait_direct(gateway)
                go_on(bots)
        assert gateway.stop() == 0, gateway.log()
    assert gateway.log().count("events go to the spool") >= 2
    assert_stored_once_in_order(pipeline, undisturbed, bots)
