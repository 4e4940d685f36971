"""What our transport sets beyond Faust's settings."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers import aiokafka as driver

from tradetape.processors.stream.transport import FETCH_WAIT_MS, BatchConsumer, PromptThread


def test_kafka_holds_no_fetch_for_longer_than_a_row_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that come while a fetch without their partition waits are fetched after it."""

    async def fetch_wait() -> int:
        made = AIOKafkaConsumer(fetch_max_wait_ms=1500)
        monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_create_worker_consumer", lambda *_: made)
        assert made._fetch_max_wait_ms == 1500
        thread = PromptThread.__new__(PromptThread)
        return int(thread._create_worker_consumer(driver.Transport.__new__(driver.Transport))._fetch_max_wait_ms)

    assert asyncio.run(fetch_wait()) == FETCH_WAIT_MS
    assert FETCH_WAIT_MS <= 100


def test_the_consumer_runs_in_that_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(PromptThread, "__init__", lambda self, consumer, **_: made.append(consumer))
    consumer = BatchConsumer.__new__(BatchConsumer)
    consumer.loop = consumer.beacon = None
    assert isinstance(consumer._new_consumer_thread(), PromptThread)
    assert made == [consumer]
