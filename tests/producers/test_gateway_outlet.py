"""Where events are kept while there is no Kafka: a real spool, and no server. With Kafka: see integration and crash."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import NoReturn

import pytest
from tests.producers.gateways import event
from tests.producers.support import Listed
from tests.support import eventually

from tradetape.producers.adapters.envelope import Origin
from tradetape.producers.emitter import Emits
from tradetape.producers.gateway import reading
from tradetape.producers.gateway.body import Item
from tradetape.producers.gateway.outlet import Outlet, Unavailable
from tradetape.producers.gateway.reading import Taken
from tradetape.producers.spool import Spool
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("P-07")

ORIGIN = Origin("http:desk", "http", "desk")


def no_kafka() -> NoReturn:
    raise TradetapeError("Kafka is away")


def taken(*notes: str) -> list[Taken]:
    sent = (json.dumps(event(payload={"note": note}), separators=(" ,", ": ")).encode() for note in notes)
    return [reading.read(ORIGIN, Item(one)) for one in sent]


def open_spool(folder: Path, max_bytes: int = 1_000_000) -> Spool:
    return Spool(folder, max_bytes=max_bytes, max_wait=1.0, to_event=reading.from_record)


def drained(folder: Path) -> list[bytes]:
    """The bytes of what a next process sends from the spool in ``folder``, in order."""
    listed = Listed()

    def connect() -> Emits:
        return listed

    with open_spool(folder) as spool:
        spool.start(connect)
        spool.flush(10)
    return [one["native"] for one in listed.events]


def test_while_kafka_is_away_the_spool_takes_events_with_their_bytes_in_order(tmp_path: Path) -> None:
    first, second = taken("a", "b"), [*taken("c"), reading.unread(ORIGIN, b"\xff{", "not UTF-8")]

    async def post() -> int:
        spool = open_spool(tmp_path)
        spool.start(no_kafka)
        outlet = Outlet(spool, no_kafka)
        outlet.start()
        assert await outlet.take(first) == first
        assert await outlet.take(second) == second
        assert await outlet.take([]) == []
        assert (outlet.is_direct, outlet.refusing, await outlet.kafka_answers()) == (False, False, False)
        return await outlet.close(drain_timeout=0)

    assert asyncio.run(post()) > 0
    assert drained(tmp_path) == [one.native for one in (*first, *second)]


def test_a_full_spool_is_unavailable_and_what_it_took_is_not_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[Taken] = []

    async def post() -> None:
        spool = open_spool(tmp_path, max_bytes=8_000)
        spool.start(no_kafka)
        outlet = Outlet(spool, no_kafka)
        outlet.start()
        with pytest.raises(Unavailable, match="did not take the event"):
            for number in range(100):
                kept.extend(await outlet.take(taken(f"{number:0400}")))
        assert outlet.refusing
        with pytest.raises(Unavailable):
            await outlet.take(taken("x" * 4000))
        await outlet.close(drain_timeout=0)

    with caplog.at_level(logging.ERROR, "tradetape.gateway"):
        asyncio.run(post())
    assert len([record for record in caplog.records if "refused" in record.message]) == 1, "said once"
    natives = drained(tmp_path)
    assert [native for native in natives if native] == [one.native for one in kept]
    assert kept


def test_it_tries_to_reach_kafka_again_and_again_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def away() -> NoReturn:
        tries.append(1)
        no_kafka()

    async def wait() -> None:
        spool = open_spool(tmp_path)
        spool.start(no_kafka)
        outlet = Outlet(spool, away)
        outlet.start()
        await asyncio.to_thread(eventually, lambda: len(tries) >= 2, 10)
        await outlet.close(drain_timeout=0)

    with caplog.at_level(logging.WARNING, "tradetape.gateway"):
        asyncio.run(wait())
    assert [record.message for record in caplog.records] == ["Kafka is not there: Kafka is away"]
