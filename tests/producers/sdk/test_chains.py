"""Correlation and causation are carried along."""

from __future__ import annotations

import asyncio
from threading import Thread

import pytest
from tests.producers.sdk.recording import recorder
from tests.producers.support import Listed

from tradetape.producers.sdk.chains import Recorded, cause, following

BEAT = {"service": "s"}


@pytest.mark.req("S3-02", "S1-03")
def test_what_is_recorded_inside_follows_and_what_comes_after_does_not() -> None:
    emitter = Listed()
    bot = recorder(emitter)
    root = bot.record("heartbeat", BEAT)
    with following(root):
        middle = bot.record("heartbeat", BEAT)
        with following(middle):
            bot.record("heartbeat", BEAT)
        bot.record("heartbeat", BEAT, follows=middle)
        bot.record("heartbeat", BEAT, correlation_id="other", causation_id="given")
    bot.record("heartbeat", BEAT)
    links = [(event["correlation_id"], event["causation_id"]) for event in emitter.events]
    chain = root.correlation_id
    assert links[:4] == [(chain, None), (chain, root.event_id), (chain, middle.event_id), (chain, middle.event_id)]
    assert links[4] == ("other", "given")
    assert links[5] == (emitter.events[5]["event_id"], None)


@pytest.mark.req("S3-02")
def test_tasks_carry_it_and_do_not_share_it() -> None:
    first, second = Recorded("a", "chain-a"), Recorded("b", "chain-b")

    async def inside(found: Recorded) -> Recorded | None:
        with following(found):
            await asyncio.sleep(0)
            return await asyncio.create_task(_cause())

    async def both() -> list[Recorded | None]:
        return await asyncio.gather(inside(first), inside(second))

    assert asyncio.run(both()) == [first, second]
    assert cause() is None


def test_a_new_thread_begins_without_one() -> None:
    found: list[Recorded | None] = []
    with following(Recorded("a", "b")):
        thread = Thread(target=lambda: found.append(cause()))
        thread.start()
        thread.join()
    assert found == [None]


async def _cause() -> Recorded | None:
    return cause()
