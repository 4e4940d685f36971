"""Kafka, ClickHouse and the registry killed with −9 in the middle of a load; their supervisor brings them back."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.crash.load import Load
from tests.crash.pipeline import KILLED, Keyed, Pipeline, Sender, random_moment
from tests.crash.undisturbed import (
    Undisturbed,
    assert_outputs,
    assert_places,
    assert_rows,
    assert_state,
    wait_until_stored,
)

from tradetape.infra.stackfile import CLICKHOUSE, KAFKA, REGISTRY

pytestmark = [pytest.mark.crash, pytest.mark.req("P-03", "P-06")]

SEEDS = (101, 102, 103)
RECORDS = 1_200
SLICE = 60
STORED_SECONDS = 60.0


@pytest.fixture(scope="module")
def load(pipeline: Pipeline) -> Load:
    return Load(pipeline.registry)


def assert_all_stored(pipeline: Pipeline, undisturbed: Undisturbed, sender: Sender, where: str) -> None:
    """Everything that Kafka acknowledged is there, judged and stored as an undisturbed run would."""
    sender.flush()
    known = len(undisturbed.raw)
    began = undisturbed.catch_up()
    lost = [place for place, value in sender.acknowledged.items() if undisturbed.raw.get(place) != value]
    assert not lost, f"{where}: acknowledged and not there: {lost[:5]} of {len(lost)}"
    assert len(undisturbed.raw) == known + sender.sent, f"{where}: Kafka has a record twice"
    wait_until_stored(pipeline.store, undisturbed, STORED_SECONDS, where)
    assert_places(pipeline.store, undisturbed, where)
    assert_rows(pipeline.store, undisturbed, began, where)


def send_while(records: list[Keyed], sender: Sender, rng: random.Random, disturb: Callable[[], None]) -> None:
    """Send ``records`` over a few seconds; ``disturb`` comes somewhere in the first half."""
    starts = range(0, len(records), SLICE)
    at = rng.randrange(1, len(starts) // 2)
    for number, start in enumerate(starts):
        sender.send(records[start : start + SLICE])
        random_moment(rng, 0.2)
        if number == at:
            disturb()


@pytest.mark.parametrize(("seed", "server"), [(SEEDS[0], CLICKHOUSE), (SEEDS[1], KAFKA)])
def test_a_server_killed_under_load_costs_nothing(
    seed: int, server: str, pipeline: Pipeline, undisturbed: Undisturbed, load: Load
) -> None:
    undisturbed.catch_up()
    sender = Sender(pipeline.bootstrap_servers)
    send_while(load.records(seed, RECORDS), sender, random.Random(seed), lambda: pipeline.kill_server(server))
    assert_all_stored(pipeline, undisturbed, sender, f"{server} killed, seed {seed}")


def test_schemas_that_cannot_be_looked_up_are_waited_for(
    pipeline: Pipeline, undisturbed: Undisturbed, load: Load
) -> None:
    """A worker and a sink that know no schema yet meet a load while there is no registry: nothing is refused."""
    seed = SEEDS[2]
    records = load.records(seed, RECORDS)
    pipeline.wait_healthy()
    undisturbed.catch_up()
    sender = Sender(pipeline.bootstrap_servers)
    for victim in pipeline.victims:
        victim.kill()
    pipeline.wait_ready()
    pipeline.kill_server(REGISTRY)
    sender.send(records)
    assert_all_stored(pipeline, undisturbed, sender, f"registry killed, seed {seed}")
    assert "trying again" in pipeline.worker.log_text(), "the worker never missed the registry"


def test_outputs_and_state_are_those_of_an_undisturbed_run(pipeline: Pipeline, undisturbed: Undisturbed) -> None:
    undisturbed.catch_up()
    assert_outputs(undisturbed, "after the servers")
    assert_state(undisturbed, "after the servers")
    # A broker that comes back may fence a consumer for good: the sink then ends and is started again. A hole (4) or
    # a record that fits nowhere (5) it never finds.
    assert {death.code for death in pipeline.sink.deaths} <= {KILLED, 1}, pipeline.diagnosis()
