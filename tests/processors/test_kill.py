"""The kill switch: orders after a kill, acknowledgements, time to flat, reset (S4-06)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.folding import Partition as Folded
from tests.folding import encode, open_findings
from tests.processors.events import START, created, event

from tradetape.processors.control import kill, watch
from tradetape.processors.control.kill import Kills, Obedience
from tradetape.processors.control.limits import Limit
from tradetape.processors.control.stance import Stance
from tradetape.processors.state import PartitionState
from tradetape.producers.bridge import orders

SECOND = 1_000_000
GROWS, HOLDS, FLAT = Stance(True, False), Stance(False, False), Stance(False, True)


class Partition:
    """Events of one partition, taken in when they happen."""

    def __init__(self) -> None:
        self.state = PartitionState(0, {})

    def see(self, seconds: int, seen: dict[str, Any], stance: Stance = HOLDS) -> list[tuple[str, str]]:
        seen = seen | {"ts_utc": START + seconds * SECOND}
        found = kill.take(seen["ts_utc"], seen, self.state)
        found += kill.observe(kill.active(seen, self.state), seen["ts_utc"], seen, stance, self.state)
        self.details = [json.loads(one.detail) for one in found]
        return [(one.code, one.status) for one in found]

    def order(self, seconds: int, kill_id: str = "k1", **scope: Any) -> None:
        payload = {"kill_id": kill_id, "trigger": "operator", **scope}
        assert self.see(seconds, event("kill_ordered", payload, instance_name="")) == []


def reset(kill_id: str = "k1") -> dict[str, Any]:
    return event("kill_reset", {"kill_id": kill_id, "operator": "ann", "reason": "checked"}, instance_name="")


def acknowledged(kill_id: str = "k1", **fields: Any) -> dict[str, Any]:
    return event("kill_acknowledged", {"kill_id": kill_id, "action": "cancel_all"}, **fields)


def heartbeat(**fields: Any) -> dict[str, Any]:
    return event("heartbeat", {"service": "execution"}, **fields)


def signal(**fields: Any) -> dict[str, Any]:
    return event("signal_generated", {}, **fields)


@pytest.mark.req("S4-06")
def test_orders_and_signals_after_a_kill_are_findings_until_a_person_resets_it() -> None:
    partition = Partition()
    assert partition.see(0, created("a"), GROWS) == []
    partition.order(10)
    assert partition.see(5, created("sent-before"), GROWS) == []
    assert partition.see(12, created("b"), GROWS) == [("order_after_kill", "opened")]
    assert partition.details == [{"kill_id": "k1", "seconds_after": 2}]
    assert partition.see(13, signal()) == [("signal_after_kill", "opened")]
    partition.see(14, event("kill_reset", {"kill_id": "k1", "operator": "ann", "reason": "checked"}))
    assert partition.see(15, created("c"), GROWS) == []


@pytest.mark.req("S4-06")
def test_an_order_that_reduces_a_position_may_follow_a_kill() -> None:
    partition = Partition()
    partition.order(10)
    assert partition.see(12, created("close"), HOLDS) == []


@pytest.mark.req("S4-06")
def test_who_does_not_acknowledge_is_told_once_and_cleared_when_it_does() -> None:
    partition = Partition()
    partition.order(0)
    assert partition.see(29, heartbeat()) == []
    assert partition.see(31, heartbeat()) == [("kill_not_acknowledged", "opened")]
    assert partition.see(61, heartbeat()) == []
    assert partition.see(62, acknowledged("another")) == []
    assert partition.see(70, acknowledged()) == [("kill_not_acknowledged", "resolved")]
    assert partition.see(99, heartbeat()) == []


@pytest.mark.req("S4-06")
def test_an_acknowledgement_in_time_is_no_finding() -> None:
    partition = Partition()
    partition.order(0)
    assert partition.see(3, acknowledged()) == []
    assert partition.see(99, heartbeat()) == []


@pytest.mark.req("S4-06")
def test_time_to_flat_is_noted_once() -> None:
    partition = Partition()
    partition.order(0)
    partition.see(1, acknowledged())
    assert partition.see(2, heartbeat(), HOLDS) == []
    assert partition.see(9, heartbeat(), FLAT) == [("flat_after_kill", "noted")]
    assert partition.details[0]["seconds_after"] == 9
    assert partition.see(10, heartbeat(), FLAT) == []


@pytest.mark.req("S4-06", "P-02")
@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ({}, True),
        ({"environment": "paper"}, False),
        ({"environment": "live", "account": "main", "instance": "bot*"}, True),
        ({"account": "other"}, False),
        ({"instance": "bot2"}, False),
        ({"instance": "bot[1]"}, True),
        ({"instance": "bot1"}, True),
    ],
    ids=["all", "another environment", "patterns", "another account", "another instance", "a pattern", "its name"],
)
def test_a_kill_covers_its_scope(scope: dict[str, str], covered: bool) -> None:
    partition = Partition()
    partition.order(0, **scope)
    assert bool(partition.see(1, created("a", account="main"), GROWS)) is covered


@pytest.mark.req("S4-06")
def test_a_bots_own_kill_holds_for_that_bot_and_needs_no_acknowledgement() -> None:
    partition = Partition()
    mine = {"instance_name": "bot*", "account": "desk[1]"}
    partition.see(0, event("kill_switch_activated", {"trigger": "daily_loss"}, **mine))
    assert partition.see(60, created("a", **mine), GROWS) == [("order_after_kill", "opened")]
    assert partition.see(60, created("a", **mine | {"instance_name": "bot1"}), GROWS) == []
    assert partition.see(60, created("a", **mine | {"account": "desk1"}), GROWS) == []


@pytest.mark.req("S4-06", "P-06")
def test_the_same_order_twice_is_one_kill() -> None:
    partition = Partition()
    partition.order(0)
    partition.order(1)
    assert len(partition.state.get(Kills).active) == 1


@pytest.mark.req("S4-06", "P-06")
def test_what_was_reset_does_not_begin_again_also_not_where_the_reset_came_first() -> None:
    partition = Partition()
    partition.order(0, "k1")
    for kill_id in ("k1", "k2", "k2"):
        partition.see(1, reset(kill_id))
    partition.order(2, "k1")
    partition.order(3, "k2")
    assert partition.state.get(Kills).active == []
    assert partition.see(4, created("a"), GROWS) == []
    for number in range(kill.MOST_OVER + 1):
        partition.see(5, reset(f"k{number}"))
    assert len(partition.state.get(Kills).over) == kill.MOST_OVER


@pytest.mark.req("S4-06")
def test_an_acknowledgement_may_come_before_its_kill() -> None:
    partition = Partition()
    assert partition.see(0, acknowledged()) == []
    partition.order(1)
    assert partition.see(99, heartbeat()) == []
    for number in range(2 * kill.MOST_EARLY):
        partition.see(100, acknowledged(f"early-{number}"))
    partition.see(100, acknowledged("x" * 1_000))
    notices = partition.state.get(Obedience, "live", "", "bot1").notices
    assert list(notices) == ["k1", *(f"early-{number}" for number in range(kill.MOST_EARLY, 2 * kill.MOST_EARLY))]


@pytest.mark.req("S4-06")
def test_who_never_acknowledged_a_kill_is_done_with_it_when_it_is_reset() -> None:
    partition = Partition()
    partition.order(0)
    assert partition.see(40, heartbeat()) == [("kill_not_acknowledged", "opened")]
    assert partition.see(50, reset()) == []
    assert partition.see(51, event("instance_silent", {"last_event_ts_utc": START, "allowed_seconds": 9})) == []
    assert partition.see(52, heartbeat()) == [("kill_not_acknowledged", "resolved")]
    assert partition.see(53, acknowledged()) == []
    assert partition.state.find(Obedience, "live", "", "bot1") is None


@pytest.mark.req("S4-06")
def test_a_kill_that_a_limit_ordered_is_open_until_it_is_reset() -> None:
    few = {"limit": [{"name": "few", "figure": "open_orders", "at_most": "1", "action": "kill"}]}
    partition = Folded()
    seen = [event("limits_set", {"limits": few, "digest": "d", "set_by": "ann"}, instance_name="")]
    outputs = partition.take(map(encode, [*seen, created("a"), created("b"), heartbeat()]))
    (alert,) = (alert for output in outputs for alert in output.alerts if alert["code"] == "kill_switch")
    (copy,) = orders.of_alert(alert, 1)
    outputs += partition.take(map(encode, [copy, heartbeat()]))
    assert open_findings(outputs)["kill_switch"] == 1
    outputs += partition.take(map(encode, [reset(alert["subject"]), heartbeat()]))
    assert "kill_switch" not in open_findings(outputs)


@pytest.mark.req("S4-06")
def test_bots_own_kills_never_push_out_an_operators() -> None:
    partition = Partition()
    for number in range(kill.MOST_KILLS - 1):
        partition.order(number, f"k{number}", instance="elsewhere" if number else "bot1")

    def own(name: str) -> list[tuple[str, str]]:
        return partition.see(99, event("kill_switch_activated", {"trigger": "daily_loss"}, instance_name=name))

    assert own("first") == []
    assert [own(f"bot-{number}") for number in range(9)] == [[("kill_unwatched", "noted")]] * 9
    last = event("kill_ordered", {"kill_id": "k63", "trigger": "operator", "instance": "elsewhere"}, instance_name="")
    assert partition.see(99, last) == [("kill_unwatched", "noted")]
    assert own("late") == [("kill_unwatched", "noted")]
    assert [one.kill_id for one in partition.state.get(Kills).active] == [f"k{n}" for n in range(kill.MOST_KILLS)]
    assert partition.see(100, created("a"), GROWS)[0] == ("order_after_kill", "opened")
    another = event("kill_ordered", {"kill_id": "k64", "trigger": "operator"}, instance_name="")
    assert partition.see(101, another) == [("kill_unwatched", "noted")]
    assert partition.details[0]["kill_id"] == "k0"


@pytest.mark.req("S4-06", "P-08")
@pytest.mark.parametrize(
    ("kill_id", "scope"),
    [
        ("", {}),
        ("k" * 201, {}),
        ("k1", {"instance": "*a" * 301}),
        ("k1", {"account": "a" * 601}),
        ("k1", {"environment": "prod"}),
    ],
    ids=["no id", "a long id", "a long instance", "a long account", "an unknown environment"],
)
def test_a_kill_that_cannot_be_kept_is_told(kill_id: str, scope: dict[str, str]) -> None:
    partition = Partition()
    payload = {"kill_id": kill_id, "trigger": "operator", **scope}
    found = partition.see(0, event("kill_ordered", payload, instance_name=""))
    assert found == [("kill_refused", "opened")]
    assert partition.state.get(Kills).active == []


@pytest.mark.req("S4-06")
@pytest.mark.parametrize(
    ("extra", "is_echo"),
    [
        ('{"kill_id":"k1"}', True),
        ('{"kill_id":"run-7"}', False),
        ('{"meta":{"kill_id":"k1"}}', False),
        ('{"kill_id":["k1"]}', False),
        ('["kill_id"]', False),
        ('"kill_id"', False),
        ("{", False),
    ],
    ids=["an ordered kill", "an id of its own", "deeper", "a list", "no object", "a text", "no JSON"],
)
def test_a_bots_kill_is_an_echo_only_where_it_names_one_that_was_ordered(extra: str, is_echo: bool) -> None:
    partition = Partition()
    partition.order(0, "k1", instance="elsewhere")
    partition.see(1, event("kill_switch_activated", {"trigger": "daily_loss"}) | {"extra": extra})
    assert (partition.see(2, created("a"), GROWS) == []) is is_echo


@pytest.mark.req("S4-06")
@pytest.mark.parametrize(
    ("who", "of", "account", "instance"),
    [
        ("instance", "main", "main", "bot[*]1"),
        ("account", "main", "main", "*"),
        ("account", "*", "[*]", "*"),
        ("environment", "main", "*", "*"),
    ],
)
def test_a_limit_kills_whom_it_says(who: Any, of: str, account: str, instance: str) -> None:
    limit = Limit("loss", "daily_pnl_pct", at_least=Decimal(-5), action="kill", kill=who)
    figure = {"event_id": "e1", "environment": "live", "account": of, "instance_name": "bot*1"}
    order = json.loads(watch.kill_order(limit, Decimal("-5.2"), figure).detail)
    assert (order["account"], order["instance"]) == (account, instance)
    assert (order["value"], order["threshold"], order["rule"]) == ("-5.2", "-5", "loss")


@pytest.mark.req("S4-06", "P-08")
def test_limits_that_nobody_checked_leave_the_old_ones_in_force() -> None:
    state = PartitionState(0, {})
    rules = {"limit": [{"name": "a", "figure": "open_orders", "at_most": "5"}]}
    good = {"limits": rules, "digest": "d", "set_by": "ann"}
    assert watch.take(0, event("limits_set", good), state) == []
    found = watch.take(0, event("limits_set", good | {"limits": {"limit": [{"name": "b"}]}}), state)
    assert [one.code for one in found] == ["limits_refused"]
    assert [limit.name for limit in watch.rules(state).limit] == ["a"]


@pytest.mark.req("S4-06")
def test_what_was_sent_before_the_kill_does_not_go_on_after_it() -> None:
    partition = Partition()
    partition.order(10)
    late = heartbeat() | {"ts_utc": START + 5 * SECOND}
    found = kill.observe(kill.active(late, partition.state), START + 99 * SECOND, late, HOLDS, partition.state)
    assert found == []


@pytest.mark.req("S4-06", "S4-09")
def test_the_watchdogs_word_is_not_the_instances_own() -> None:
    partition = Partition()
    partition.order(0)
    silent = event("instance_silent", {"last_event_ts_utc": START, "allowed_seconds": 90})
    assert partition.see(100, silent, FLAT) == []
    assert partition.see(101, heartbeat()) == [("kill_not_acknowledged", "opened")]


@pytest.mark.req("S4-06")
def test_of_a_bots_own_kills_the_last_one_counts_and_an_operators_is_another() -> None:
    partition = Partition()
    partition.order(0, "k1", instance="bot1")
    for second in range(1, 100):
        partition.see(second, event("kill_switch_activated", {"trigger": "daily_loss"}))
    own = partition.state.get(Kills).active[-1].kill_id
    assert [one.kill_id for one in partition.state.get(Kills).active] == ["k1", own]
    partition.see(100, event("kill_reset", {"kill_id": own, "operator": "ann", "reason": "checked"}))
    assert partition.see(101, created("a"), GROWS)[0] == ("order_after_kill", "opened")


@pytest.mark.req("S4-06")
def test_a_kill_of_those_without_an_account_is_nobody_elses() -> None:
    partition = Partition()
    partition.order(0, account="")
    assert partition.see(1, created("a"), GROWS) == [("order_after_kill", "opened")]
    assert partition.see(1, created("b", account="main"), GROWS) == []


@pytest.mark.req("S4-06")
def test_what_is_remembered_of_a_reset_kill_goes_with_the_next_one() -> None:
    partition = Partition()
    for number in range(5):
        partition.order(number, f"k{number}")
        partition.see(number, acknowledged(f"k{number}"))
        reset = {"kill_id": f"k{number}", "operator": "ann", "reason": "checked"}
        partition.see(number, event("kill_reset", reset, instance_name=""))
    assert list(partition.state.get(Obedience, "live", "", "bot1").notices) == ["k4"]


@pytest.mark.req("S4-09")
def test_silence_is_a_finding_until_the_instance_is_heard() -> None:
    state = PartitionState(0, {})
    silent = {"last_event_ts_utc": START, "allowed_seconds": 90}
    (found,) = watch.take(0, event("instance_silent", silent), state)
    assert (found.code, found.status, found.subject) == ("instance_silent", "opened", "bot1")
    assert json.loads(found.detail) == {"allowed_seconds": 90}
    (found,) = watch.take(0, event("instance_returned", {"silent_seconds": 95}), state)
    assert (found.code, found.status, found.subject) == ("instance_silent", "resolved", "bot1")
    (found,) = watch.take(0, event("instance_silent", silent | {"service": "execution"}), state)
    assert found.subject == "bot1 execution"
