"""Defects that the kills brought to light, each alone and without a server."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException
from faust.transport.drivers import aiokafka as driver
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from tradetape.processors.stream.transport import BatchConsumer
from tradetape.sinks import writer

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06")]


def test_a_batch_fetched_while_recovery_seeks_is_not_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery empties the streams' queues when it resumes flow; what was in them was judged by nobody."""

    async def run() -> list[str]:
        flow = FlowControlEvent(initially_suspended=False)
        flow.resume()
        queue: FlowControlQueue[str] = FlowControlQueue(flow_control=flow, clear_on_resume=True)

        async def deliver() -> None:
            await flow.acquire()
            queue.put_nowait("a batch")

        async def seek(_: object) -> None:
            delivering.append(asyncio.ensure_future(deliver()))
            await asyncio.sleep(0)

        delivering: list[asyncio.Future[None]] = []
        monkeypatch.setattr(driver.Consumer, "perform_seek", seek)
        monkeypatch.setattr(driver.Consumer, "assignment", lambda _: set())
        consumer = BatchConsumer.__new__(BatchConsumer)
        consumer.app = SimpleNamespace(flow_control=flow)
        await consumer.perform_seek()
        flow.resume()
        await asyncio.gather(*delivering)
        return [queue.get_nowait() for _ in range(queue.qsize())]

    assert asyncio.run(run()) == ["a batch"]


def test_a_consumer_that_kafka_fenced_ends_the_sink() -> None:
    """It comes as a message whose error is not marked fatal; a sink that polls on would never get another one."""
    error = KafkaError(KafkaError._FATAL, "Static consumer fenced")
    assert not error.fatal()
    with pytest.raises(KafkaException):
        writer._report(error)
