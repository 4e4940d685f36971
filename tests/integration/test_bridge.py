"""Limits, the kill switch and the watchdog all the way: command line → Kafka → worker → bridge → Kafka → ClickHouse.

Costs about 30 s beside the stack.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Tradetape
from tests.producers.quantum_redis import client_of
from tests.stores import Valkey
from tests.support import eventually

from tradetape.infra import settings
from tradetape.producers.bridge import service
from tradetape.producers.bridge.redis_stream import STREAM, KillStream
from tradetape.producers.bridge.service import Bridge, Notify
from tradetape.producers.emitter import Emitter
from tradetape.producers.recorder import Recorder
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.topics import DEFAULT_PARTITIONS

pytestmark = [pytest.mark.integration, pytest.mark.req("S4-06")]

STORED_SECONDS = 60.0
EVERYWHERE = {str(partition): 1 for partition in range(DEFAULT_PARTITIONS)}

RULES = """
[[limit]]
name = "{name}"
figure = "open_orders"
at_most = "2"
warn_at = "1"
action = "kill"
instance = "{name}"
"""


class Bot:
    """A bot of one test, and what is stored of it."""

    def __init__(self, stack: Tradetape, emitter: Emitter) -> None:
        self.stack = stack
        self.name = f"bridged-{uuid.uuid4().hex[:8]}"
        self.recorder = Recorder(
            instance_name=self.name,
            producer="test",
            connector_name="kucoin",
            trading_pair="A-B",
            account="desk",
            emitter=emitter,
        )

    def order(self, order_id: str) -> list[str]:
        """Send an order; returns the codes of what its verdict opened, once that is stored."""
        sent = self.recorder.order_created(
            client_order_id=order_id, side="buy", order_type="limit", price="1.5", amount_base="2", is_live=True
        )
        return self.verdict(sent.event_id)

    def verdict(self, event_id: str) -> list[str]:
        self.recorder.flush()
        (row,) = eventually(
            lambda: self.stack.sql(
                f"SELECT arrayMap(f -> f.1, arrayFilter(f -> f.3 != 'resolved', findings)) AS codes "
                f"FROM tradetape.events WHERE event_id = '{event_id}' AND derived_seq = 0"
            ),
            STORED_SECONDS,
            f"the verdict on {event_id}",
        )
        codes: list[str] = row["codes"]
        return codes

    def records(self, event_type: str, kill_id: str) -> dict[str, int]:
        """How often a control record about ``kill_id`` was accepted, by partition."""
        rows = self.stack.sql(
            "SELECT toString(raw_partition) AS partition, count() AS n FROM tradetape.events "
            f"WHERE event_type = '{event_type}' AND JSONExtractString(payload, 'kill_id') = '{kill_id}' GROUP BY 1"
        )
        return {row["partition"]: int(row["n"]) for row in rows}

    def alerts(self) -> Counter[str]:
        rows = self.stack.sql(f"SELECT code FROM tradetape.alerts WHERE instance_name = '{self.name}'")
        return Counter(row["code"] for row in rows)

    def kill(self, **expected: str) -> dict[str, Any]:
        """The kill that is about this bot alone, once `tradetape query kills` shows it with what is ``expected``."""

        def shown() -> dict[str, Any] | None:
            found = [row for row in self.stack.rows("kills") if row["instance"] == self.name]
            assert len(found) == 1, found
            assert {name: str(found[0][name]) for name in expected} == expected
            return found[0]

        found = eventually(shown, STORED_SECONDS, f"the kill of {self.name}")
        assert found is not None
        return found


@pytest.fixture(scope="module")
def where(stack: Tradetape) -> tuple[str, str]:
    found = settings.load(stack.home)
    return found.bootstrap_servers, found.registry_url


@pytest.fixture(scope="module")
def emitter(where: tuple[str, str]) -> Iterator[Emitter]:
    with Emitter(*where, ahead=False) as emitter:
        yield emitter


@pytest.fixture
def bot(stack: Tradetape, emitter: Emitter) -> Bot:
    return Bot(stack, emitter)


@contextmanager
def bridging(where: tuple[str, str], clock: Any = time.time, notify: tuple[Notify, ...] = ()) -> Iterator[Bridge]:
    bridge = Bridge(*where, clock=clock, notify=notify)
    try:
        yield bridge
    finally:
        bridge.close()


def reset(stack: Tradetape, kill_id: str) -> None:
    stack.run("kill", "reset", kill_id, "--by", "ann", "--reason", "orders were checked")


@pytest.mark.req("P-02", "S4-08")
def test_a_breached_limit_kills_and_a_person_ends_it(stack: Tradetape, bot: Bot, tmp_path: Path) -> None:
    rules = tmp_path / "limits.toml"
    rules.write_text(RULES.format(name=bot.name), encoding="utf-8")
    said = stack.run("limits", "set", str(rules), "--by", "ann", "--reason", bot.name).stdout.decode()
    assert said.startswith(f"1 limits hold in {DEFAULT_PARTITIONS} partitions, digest ")
    (held,) = eventually(lambda: [row for row in stack.rows("limits") if row["reason"] == bot.name], STORED_SECONDS)
    assert held["set_by"] == "ann"
    assert json.loads(held["limits"])["limit"][0]["name"] == bot.name
    assert bot.order("a") == []
    assert bot.order("b") == ["limit_warning"]
    assert bot.order("c") == ["limit_breached", "kill_switch"]
    kill = bot.kill(trigger="limit", why=bot.name, value="3", threshold="2", account="desk", orders_after="0")
    kill_id = kill["kill_id"]
    eventually(lambda: bot.records("kill_ordered", kill_id) == EVERYWHERE, STORED_SECONDS, "the kill everywhere")
    assert bot.order("d") == ["order_after_kill"]
    noticed = bot.recorder.record("kill_acknowledged", {"kill_id": kill_id, "action": "cancel_all"})
    for order_id in "abcd":
        last = bot.recorder.order_cancelled(client_order_id=order_id, reason="kill switch")
    assert bot.verdict(noticed.event_id) == []
    assert "flat_after_kill" in bot.verdict(last.event_id)
    told = bot.kill(acknowledged="1", orders_after="1", reset_by="None")
    assert told["seconds_to_flat"] is not None
    reset(stack, kill_id)
    assert bot.order("e") == []
    bot.kill(reset_by="ann", reset_reason="orders were checked")
    found = {"limit_breached": 1, "kill_switch": 1, "order_after_kill": 1}
    eventually(lambda: bot.alerts() == found, STORED_SECONDS, "the alerts")
    chains = stack.sql(
        "SELECT uniqExact(correlation_id) AS chains, uniqExact(event_id) AS copies FROM tradetape.events "
        f"WHERE event_type = 'kill_ordered' AND JSONExtractString(payload, 'kill_id') = '{kill_id}' "
        "AND toString(causation_id) IN (SELECT toString(event_id) FROM tradetape.events "
        f"WHERE instance_name = '{bot.name}' AND event_type = 'order_created')"
    )
    assert chains == [{"chains": 1, "copies": DEFAULT_PARTITIONS}]


def test_an_operators_kill_holds_until_it_is_reset(stack: Tradetape, bot: Bot) -> None:
    assert bot.order("a") == []
    said = stack.run("kill", "order", "--by", "ann", "--reason", "a drill", "--instance", bot.name)
    kill_id = said.stdout.decode().strip()
    assert bot.kill(trigger="operator", why="a drill")["kill_id"] == kill_id
    assert bot.order("b") == ["order_after_kill"]
    signal = bot.recorder.record("signal_generated", {"signal_id": "s-1"})
    assert bot.verdict(signal.event_id) == ["signal_after_kill"]
    reset(stack, kill_id)
    assert bot.order("c") == []
    bot.kill(orders_after="1", signals_after="1", acknowledged="0", seconds_to_flat="None", reset_by="ann")


@pytest.mark.req("S4-09")
def test_a_service_that_misses_its_heartbeats_is_a_finding_until_it_is_heard(
    bot: Bot, where: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_BACK_SECONDS", 0)  # other tests' bots are not this one's business
    ahead = 0.0

    def clock() -> float:
        return time.time() + ahead

    def beat() -> None:
        bot.recorder.record("heartbeat", {"service": "execution", "status": "healthy"})
        bot.recorder.flush()

    def stored(event_type: str) -> Mapping[str, Any] | None:
        bridge.step()
        rows = bot.stack.sql(
            "SELECT account, payload, arrayMap(f -> (f.1, f.3, f.4), findings) AS found FROM tradetape.events "
            f"WHERE instance_name = '{bot.name}' AND event_type = '{event_type}'"
        )
        return rows[0] if rows else None

    with bridging(where, clock) as bridge:
        bridge.step()
        beat()
        for _ in range(12):
            bridge.step()
            ahead += 9
        silent = eventually(lambda: stored("instance_silent"), STORED_SECONDS, "silence")
        eventually(lambda: bot.alerts() == {"instance_silent": 1}, STORED_SECONDS, "the alert")
        beat()  # for a clock that is ahead, this is long ago as well: it returns, and is silent again
        returned = eventually(lambda: stored("instance_returned"), STORED_SECONDS, "the return")
    assert silent is not None
    assert returned is not None
    subject = f"{bot.name} execution"
    assert [tuple(found) for found in silent["found"]] == [("instance_silent", "opened", subject)]
    assert [tuple(found) for found in returned["found"]] == [("instance_silent", "resolved", subject)]
    assert silent["account"] == "desk"
    assert json.loads(silent["payload"])["allowed_seconds"] == 90


@pytest.mark.req("S4-05")
def test_redis_hears_of_each_kill_once_and_its_absence_holds_up_nothing(
    stack: Tradetape, bot: Bot, where: tuple[str, str], valkey: Valkey
) -> None:
    url = valkey.database()
    refused: list[str] = []

    def away_at_first(kill: Mapping[str, Any]) -> None:
        refused.append(kill["payload"]["kill_id"])
        if refused.count(kill_id) == 1:
            raise TradetapeError("Redis is away")

    def heard() -> list[dict[str, str]]:
        bridge.step()
        entries: list[Any] = client_of(url).xrange(STREAM)
        return [fields for _, fields in entries if fields["kill_id"] == kill_id]

    kill_id = ""
    with bridging(where, notify=(away_at_first, KillStream(url))) as bridge:
        bridge.step()
        said = stack.run("kill", "order", "--by", "ann", "--reason", "a drill", "--instance", bot.name)
        kill_id = said.stdout.decode().strip()
        (told,) = eventually(heard, STORED_SECONDS, "the entry in Redis")
        assert refused.count(kill_id) == 2
        assert (told["instance"], told["account"], told["severity"]) == (bot.name, "*", "CRITICAL")
    with bridging(where, notify=(KillStream(url),)) as bridge:
        for _ in range(5):
            assert len(heard()) == 1, "told again after a restart"
    reset(stack, kill_id)
