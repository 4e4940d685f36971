"""A worker that finds state of another layout folds the log again, killed meanwhile: nothing is sent twice (P-06)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from confluent_kafka import Producer
from tests.crash.load import Load
from tests.crash.pipeline import Pipeline, Sender
from tests.crash.undisturbed import (
    Undisturbed,
    assert_outputs,
    assert_places,
    assert_portfolios,
    assert_rows,
    assert_state,
    wait_until_stored,
)
from tests.support import eventually

from tradetape.processors.state import PartitionState, Progress
from tradetape.processors.version import STATE_VERSION
from tradetape.schemas import topics

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "P-11")]

SECONDS = 60.0


def age(undisturbed: Undisturbed, partitions: int, produce: Callable[..., None]) -> None:
    """Make the state of every partition that of another layout, as far as a worker can tell."""
    for topic in (topics.STATE, topics.PORTFOLIO_STATE):
        values = undisturbed.sent(topic).values
        for partition in range(partitions):
            key = PartitionState(partition, {}).key(Progress)
            if key not in values:
                continue
            progress = msgspec.msgpack.decode(values[key])
            progress[2] = STATE_VERSION - 1
            produce(topic, key=f"{partition}Zold".encode(), value=b"\x90", partition=partition)
            produce(topic, key=key, value=msgspec.msgpack.encode(progress), partition=partition)


def test_state_of_another_layout_is_folded_again(pipeline: Pipeline, undisturbed: Undisturbed) -> None:
    load, sender = Load(pipeline.registry), Sender(pipeline.bootstrap_servers)
    sender.send(load.records(9_000, 3_000))
    sender.flush()
    undisturbed.catch_up()
    wait_until_stored(pipeline.store, undisturbed, SECONDS, "before")
    assert_portfolios(pipeline.store, undisturbed, SECONDS, "before")
    repeats = assert_outputs(undisturbed, "before")
    assert_state(undisturbed, "before")

    producer = Producer({"bootstrap.servers": pipeline.bootstrap_servers})
    age(undisturbed, len({partition for partition, _ in undisturbed.raw}), producer.produce)
    assert producer.flush(SECONDS) == 0
    died = len(pipeline.worker.deaths)
    pipeline.worker.kill(["worker.state_acknowledged:2"])
    sender.send(load.records(9_001, 1_000))
    sender.flush()
    began = undisturbed.catch_up()
    wait_until_stored(pipeline.store, undisturbed, SECONDS, "after")
    assert_rows(pipeline.store, undisturbed, began, "after")
    assert_places(pipeline.store, undisturbed, "after")
    assert_portfolios(pipeline.store, undisturbed, SECONDS, "after")
    assert assert_outputs(undisturbed, "after") == repeats

    def is_rebuilt() -> bool:
        assert_state(undisturbed, "after")
        return True

    eventually(is_rebuilt, SECONDS, "the state of every partition")
    assert [death.at_point for death in pipeline.worker.deaths[died:]] == [False, True]
