"""Control records of the bridge: a copy for every partition, the same again for the same order (S4-06)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tradetape.processors.control import kill as switch
from tradetape.processors.control.kill import Kills
from tradetape.processors.state import PartitionState
from tradetape.producers.adapters import quantum
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.quantum_entries import EntryId
from tradetape.producers.bridge import orders
from tradetape.producers.bridge.redis_stream import STREAM, KillStream, entry
from tradetape.producers.events import EventRefused
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("S4-06")

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
TAKEN_IN = 1_714_564_800_000_000
KILL_ID = "0b0f3a52-0000-4000-8000-000000000009"
ORDER = {
    "kill_id": KILL_ID,
    "environment": "live",
    "account": "",
    "instance": "bot1",
    "rule": "daily-loss",
    "figure": "daily_pnl_pct",
    "value": "-5.2",
    "threshold": "-5",
}
CAUSE = {"event_id": "0b0f3a52-0000-4000-8000-000000000001", "correlation_id": "chain-1"}


def alert(code: str = "kill_switch", **fields: Any) -> dict[str, Any]:
    times = {"ts_utc": TAKEN_IN - 3_600_000_000, "ingest_ts_utc": TAKEN_IN}
    return {"code": code, "detail": json.dumps(ORDER), **CAUSE, **times, **fields}


@pytest.mark.req("P-06")
def test_each_partition_has_a_copy_and_the_same_alert_gives_the_same_ids() -> None:
    first, again = orders.of_alert(alert(), 4), orders.of_alert(alert(), 4)
    assert first == again
    assert len({copy["event_id"] for copy in first}) == 4
    assert {copy["payload"]["kill_id"] for copy in first} == {KILL_ID}
    assert {copy["instance_name"] for copy in first} == {""}
    other = orders.of_alert(alert(detail=json.dumps(ORDER | {"kill_id": CAUSE["event_id"]})), 4)
    assert not {copy["event_id"] for copy in first} & {copy["event_id"] for copy in other}


@pytest.mark.req("S4-08")
def test_a_kill_is_in_the_chain_of_what_broke_the_limit_and_ordered_when_that_was_taken_in() -> None:
    (copy,) = orders.of_alert(alert(), 1)
    assert (copy["correlation_id"], copy["causation_id"]) == (CAUSE["correlation_id"], CAUSE["event_id"])
    assert copy["ts_utc"] == TAKEN_IN
    payload = copy["payload"]
    assert (payload["trigger"], payload["rule"], payload["value"]) == ("limit", "daily-loss", Decimal("-5.2"))
    assert payload["account"] == "", "bots without an account, and nobody else"


def test_other_alerts_order_nothing() -> None:
    assert orders.of_alert(alert(code="overfill", detail="{}"), 4) == []


@pytest.mark.req("P-08")
@pytest.mark.parametrize(
    "detail",
    ["", "not json", "[1]", "null", "{}", '{"kill_id":1}', '{"kill_id":"\\ud800"}', "[" * 100_000]
    + [json.dumps(ORDER | change) for change in ({"value": -5.2}, {"account": 1}, {"threshold": "much"})],
    ids=["nothing", "no JSON", "list", "null", "empty", "number", "surrogate", "deep", "float", "account", "threshold"],
)
def test_an_alert_that_is_no_order_is_told_and_stops_nobody(detail: str) -> None:
    with pytest.raises(TradetapeError):
        orders.of_alert(alert(detail=detail), 4)


@pytest.mark.req("P-08")
def test_an_alert_says_no_more_than_it_may() -> None:
    (copy,) = orders.of_alert(alert(detail=json.dumps(ORDER | {"trigger": "bot", "partitions": 9})), 1)
    assert copy["payload"]["trigger"] == "limit"


@pytest.mark.req("P-08")
@pytest.mark.parametrize(
    "rules",
    [
        "",
        "not json",
        "[1]",
        "null",
        "[" * 100_000,
        *(f'{{"silent_after_seconds":{n}}}' for n in ("true", -5, "1e400", 10**40, '"x"')),
    ],
    ids=["nothing", "no JSON", "list", "null", "deep", "true", "negative", "infinite", "endless", "text"],
)
def test_what_is_no_set_of_limits_says_nothing_of_silence(rules: str) -> None:
    assert orders.silent_after(rules) is None


def test_what_no_record_can_carry_is_refused() -> None:
    with pytest.raises(EventRefused, match="threshold"):
        orders.of_alert(alert(detail=json.dumps(ORDER | {"threshold": "1e30"})), 4)


def test_a_reset_names_who_and_why_and_another_one_is_another_record() -> None:
    first = orders.reset(KILL_ID, AT, operator="ann", reason="checked", partitions=2)
    assert [copy["payload"] for copy in first] == [{"kill_id": KILL_ID, "operator": "ann", "reason": "checked"}] * 2
    later = orders.reset(KILL_ID, AT.replace(hour=13), operator="ann", reason="checked", partitions=2)
    assert not {copy["event_id"] for copy in first} & {copy["event_id"] for copy in later}


def test_limits_are_recorded_whole_with_who_set_them() -> None:
    (copy,) = orders.limits('{"silent_after_seconds":60}', "d1", AT, set_by="ann", reason="", partitions=1)
    assert json.loads(copy["payload"]["limits"]) == {"silent_after_seconds": 60}
    assert (copy["payload"]["set_by"], copy["payload"]["reason"]) == ("ann", None)
    assert orders.silent_after(copy["payload"]["limits"]) == 60
    assert orders.silent_after("{}") == 0


@pytest.mark.req("S4-01")
def test_a_kill_read_back_from_redis_is_the_same_kill_and_no_other() -> None:
    (copy,) = orders.of_alert(alert(), 1)
    fields = [(name.encode(), value.encode()) for name, value in entry(copy).items()]
    origin = Origin(source_id="redis-1", instance_name="quantum1", connector_name="binance", producer="quantum")
    echo = quantum.from_entry(origin, STREAM, EntryId(TAKEN_IN // 1000, 0), fields)
    assert echo["event_type"] == "kill_switch_activated"
    assert (echo["payload"]["trigger_value"], echo["payload"]["threshold"]) == (Decimal("-5.2"), Decimal(-5))
    assert json.loads(echo["extra"])["kill_id"] == KILL_ID
    state = PartitionState(0, {})
    switch.take(TAKEN_IN, copy, state)
    switch.take(TAKEN_IN, echo, state)
    assert [kill.kill_id for kill in state.get(Kills).active] == [KILL_ID]
    switch.take(TAKEN_IN, echo | {"extra": None}, state)
    assert len(state.get(Kills).active) == 2, "a kill of the bot's own"


def test_redis_hears_whom_a_kill_is_about() -> None:
    (copy,) = orders.kill(KILL_ID, AT, trigger="operator", partitions=1, ordered_by="ann", reason="drill", account="a*")
    told = entry(copy)
    assert (told["environment"], told["account"], told["instance"]) == ("*", "a*", "*")
    assert (told["trigger"], told["kill_id"], told["timestamp"]) == ("operator", KILL_ID, "2024-05-01T12:00:00.000000Z")
    assert "trigger_value" not in told


def test_what_is_no_redis_is_told_in_one_line() -> None:
    with pytest.raises(TradetapeError, match="is no Redis"):
        KillStream("kafka://nowhere")
    (copy,) = orders.of_alert(alert(), 1)
    with pytest.raises(TradetapeError, match=r"Redis at 127\.0\.0\.1:1/0 does not take"):
        KillStream("redis://user:secret@127.0.0.1:1/0")(copy)
