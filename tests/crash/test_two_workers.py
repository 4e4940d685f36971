"""Two workers share the partitions; one joins under load and is killed under load: no event judged wrongly (P-06).

A thousand bots trade, all of them members of portfolios, whose every figure is compared as well (P-02).
"""

from __future__ import annotations

import pytest
from tests.crash.load import Load
from tests.crash.pipeline import WORKER, Pipeline, Sender, Victim
from tests.crash.undisturbed import (
    Undisturbed,
    assert_outputs,
    assert_places,
    assert_portfolios,
    assert_state,
    wait_until_stored,
)
from tests.support import eventually

pytestmark = [pytest.mark.crash, pytest.mark.req("P-06", "P-11", "P-02")]

RECORDS = 8_000
INSTANCES = 1_000
REBALANCE_SECONDS = 60.0
STORED_SECONDS = 60.0


def test_a_second_worker_joins_and_is_killed(pipeline: Pipeline, undisturbed: Undisturbed) -> None:
    records = Load(pipeline.registry).records(1_000, RECORDS, INSTANCES)
    third = len(records) // 3
    sender = Sender(pipeline.bootstrap_servers)
    sender.send(records[:third])
    ready = pipeline.home / "run" / "crash-worker-2.ready"
    env = {**pipeline.env, "TRADETAPE_MEMBER": "worker-2", "TRADETAPE_READY_FILE": str(ready)}
    second = Victim("worker-2", WORKER, env, pipeline.home / "logs" / "crash-worker-2.log", pipeline.forks)
    try:
        eventually(ready.exists, REBALANCE_SECONDS, "the second worker has its partitions")
        sender.send(records[third : 2 * third])
        sender.flush()
        second.kill()
        sender.send(records[2 * third :])
        sender.flush()
        undisturbed.catch_up()
        wait_until_stored(pipeline.store, undisturbed, STORED_SECONDS, "two workers")
        assert_places(pipeline.store, undisturbed, "two workers")
        assert_outputs(undisturbed, "two workers")
        assert_portfolios(pipeline.store, undisturbed, 30, "two workers")
        assert_state(undisturbed, "two workers")
    finally:
        second.stop()
    assert any(death.is_kill for death in second.deaths)
