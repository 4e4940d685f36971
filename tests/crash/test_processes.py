"""Worker and sink killed with −9 at named points and at random, under load: nothing lost or double, same figures."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from tests.crash.load import Load
from tests.crash.pipeline import Keyed, Pipeline, Sender, random_moment
from tests.crash.undisturbed import (
    Undisturbed,
    assert_outputs,
    assert_places,
    assert_portfolios,
    assert_rows,
    assert_state,
    wait_until_stored,
)

pytestmark = [
    pytest.mark.crash,
    pytest.mark.req("P-02", "P-03", "P-04", "P-06", "P-08"),
    pytest.mark.usefixtures("pipeline"),
]

SEEDS = range(int(os.environ.get("TRADETAPE_SEEDS", "6")))
"""Every crash point comes round; `make seeds` runs more of them."""
RECORDS = 1_000
SLICES = 12

STORED_SECONDS = 45.0

WORKER_POINTS = (
    "worker.read",
    "worker.folded",
    "worker.outputs_sent",
    "worker.outputs_acknowledged",
    "worker.state_acknowledged",
    "worker.batch_acknowledged",
)
SINK_POINTS = (
    "sink.polled",
    "sink.before_insert",
    "sink.between_inserts",
    "sink.after_insert",
    "sink.after_commit",
)


@pytest.fixture(scope="module")
def load(pipeline: Pipeline) -> Load:
    return Load(pipeline.registry)


@pytest.fixture(scope="module")
def sender(pipeline: Pipeline) -> Sender:
    return Sender(pipeline.bootstrap_servers)


@pytest.fixture(autouse=True)
def last_words(pipeline: Pipeline, request: pytest.FixtureRequest) -> Iterator[None]:
    """What the processes said goes with a failure."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        print(pipeline.diagnosis())


def slices(records: Sequence[Keyed]) -> list[Sequence[Keyed]]:
    size = -(-len(records) // SLICES)
    return [records[start : start + size] for start in range(0, len(records), size)]


def points_of(seed: int) -> tuple[str, str]:
    """Where the worker and the sink die after the kill at random: every name comes round, early and late."""
    rng = random.Random(f"points:{seed}")
    return _hit(WORKER_POINTS, rng, seed, 3), _hit(SINK_POINTS, rng, seed, 8)


def _hit(points: Sequence[str], rng: random.Random, seed: int, latest: int) -> str:
    """A point the first time it is reached, or a later one, which may not come: so not before each point came."""
    point = points[seed % len(points)]
    count = rng.choice([1, 1, rng.randint(2, latest)])
    return point if count == 1 or seed < len(points) else f"{point}:{count}"


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_under_load_it_stores_what_an_undisturbed_run_stores(
    seed: int, pipeline: Pipeline, undisturbed: Undisturbed, load: Load, sender: Sender
) -> None:
    where = f"seed {seed}"
    rng = random.Random(f"kills:{seed}")
    worker_point, sink_point = points_of(seed)
    worker_at, sink_at = rng.randrange(SLICES // 2), rng.randrange(SLICES // 2)
    for number, part in enumerate(slices(load.records(seed, RECORDS))):
        sender.send(part)
        random_moment(rng, 0.3)
        if number == worker_at:
            pipeline.worker.kill([worker_point])
        if number == sink_at:
            pipeline.sink.kill([sink_point])
    sender.flush()
    began = undisturbed.catch_up()
    assert undisturbed.raw == sender.acknowledged | undisturbed.raw, f"{where}: Kafka lost what it acknowledged"
    wait_until_stored(pipeline.store, undisturbed, STORED_SECONDS, where)
    for victim in pipeline.victims:
        if not victim.has_died_as_planned():  # nothing came to its crash point any more
            victim.kill()
    assert_rows(pipeline.store, undisturbed, began, where)


def test_nothing_was_added_and_every_repeated_output_was_the_same(pipeline: Pipeline, undisturbed: Undisturbed) -> None:
    undisturbed.catch_up()
    wait_until_stored(pipeline.store, undisturbed, STORED_SECONDS, "all seeds")
    assert_places(pipeline.store, undisturbed, "all seeds")
    repeats = assert_outputs(undisturbed, "all seeds")
    assert_portfolios(pipeline.store, undisturbed, 30, "all seeds")
    assert_state(undisturbed, "all seeds")
    assert repeats > 0, "no kill came between outputs and state: the points are not where they were"


def test_the_kills_happened_where_they_should(pipeline: Pipeline) -> None:
    for victim, points in ((pipeline.worker, WORKER_POINTS), (pipeline.sink, SINK_POINTS)):
        reached = Counter(death.point.partition(":")[0] for death in victim.deaths if death.at_point)
        print(f"{victim.name}: {len(victim.deaths)} kills, at points: {dict(reached)}")
        assert set(reached) == set(points), f"{victim.name} never died at {set(points) - set(reached)}"
        assert all(death.is_kill for death in victim.deaths), pipeline.diagnosis()
        assert len(victim.deaths) >= len(SEEDS)
