"""The bridge killed with −9 between an alert and its commit: the kill is in every partition, once (S4-06, P-06)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.crash.pipeline import BRIDGE, Pipeline, Victim, pause
from tests.support import eventually

from tradetape.infra import settings
from tradetape.processors.control import limits
from tradetape.producers.bridge import orders
from tradetape.producers.bridge.broadcast import broadcast
from tradetape.producers.emitter import Emitter
from tradetape.producers.recorder import Recorder

pytestmark = [pytest.mark.crash, pytest.mark.req("S4-06", "P-06")]

STORED_SECONDS = 30.0

POINTS = (
    ["bridge.read"],
    ["bridge.ordered"],
    ["bridge.read", "bridge.ordered"],
    ["bridge.ordered", "bridge.ordered"],
    [],
)
"""Where it dies, by seed; without a point, at once when the orders are sent."""

RULES: dict[str, Any] = {
    "limit": [
        {"name": "orders", "figure": "open_orders", "at_most": "1", "action": "kill", "instance": "crash-bridge-*"}
    ]
}


@pytest.fixture(scope="module")
def emitter(pipeline: Pipeline) -> Iterator[Emitter]:
    found = settings.load(pipeline.home)
    with Emitter(found.bootstrap_servers, found.registry_url, ahead=False) as emitter:
        rules = limits.check(RULES)
        text, digest = limits.text(rules), limits.digest(rules)
        copies = orders.limits(
            text, digest, datetime.now(UTC), set_by="test", reason="", partitions=emitter.partitions()
        )
        broadcast(emitter, copies)
        yield emitter


@pytest.fixture(scope="module")
def bridge(pipeline: Pipeline, emitter: Emitter) -> Iterator[Victim]:
    log = pipeline.home / "logs" / "crash-bridge.log"
    ready = pipeline.home / "run" / "crash-bridge.ready"
    victim = Victim("bridge", BRIDGE, {**pipeline.env, "TRADETAPE_READY_FILE": str(ready)}, log, pipeline.forks)
    eventually(ready.exists, 60, "the bridge watches")
    yield victim
    assert victim.stop() == 0, victim.log_text()


@pytest.mark.parametrize("seed", range(len(POINTS)))
def test_killed_around_a_kill_it_orders_it_once(
    seed: int, pipeline: Pipeline, bridge: Victim, emitter: Emitter
) -> None:
    bot = f"crash-bridge-{seed}"

    if POINTS[seed]:
        bridge.kill(POINTS[seed])
    with Recorder(
        instance_name=bot, producer="test", connector_name="kucoin", trading_pair="A-B", emitter=emitter
    ) as r:
        for order_id in "ab":
            r.order_created(
                client_order_id=order_id, side="buy", order_type="limit", price="1", amount_base="1", is_live=True
            )
    if not POINTS[seed]:
        bridge.kill()
    eventually(bridge.has_died_as_planned, STORED_SECONDS, f"seed {seed}: the bridge dies where it should")

    about = f"event_type = 'kill_ordered' AND JSONExtractString(payload, 'instance') = '{bot}'"
    accepted = f"SELECT raw_partition, count() FROM tradetape.events WHERE {about} GROUP BY 1 ORDER BY 1"
    once = [(partition, 1) for partition in range(emitter.partitions())]
    rows = pipeline.store.query
    eventually(lambda: rows(accepted) == once, STORED_SECONDS, f"seed {seed}: a kill in every partition")
    again = f"SELECT raw_partition, disposition FROM tradetape.quarantine WHERE {about}"
    repeats = POINTS[seed].count("bridge.ordered") * emitter.partitions()
    eventually(lambda: len(rows(again)) >= repeats, STORED_SECONDS, f"seed {seed}: the copies that came again")
    pause(0.5)
    assert rows(accepted) == once, f"seed {seed}"
    assert {disposition for _, disposition in rows(again)} <= {"duplicate"}, f"seed {seed}"
