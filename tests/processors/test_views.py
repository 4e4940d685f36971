"""What is read out of a state, whenever and however it was folded, is what was shown then (N-05, S1-06, S2-03)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import SCHEMAS, Partition, encode
from tests.processors.events import created, ended, event, filled
from tests.processors.logs import log

from tradetape.processors import clock, outputs, snapshots, trading_state
from tradetape.processors.core import ACCEPTED
from tradetape.processors.reading import RawRecord
from tradetape.processors.replay import Replay
from tradetape.processors.risk import Figures
from tradetape.processors.views import instances, orders, positions
from tradetape.processors.views.instances import Shown
from tradetape.processors.views.look import Look
from tradetape.processors.views.plain import plain
from tradetape.schemas import times, topics

LOG = log(3, 1)[0]
OWNER = ("live", "", "bot1")


def shown(figure: dict[str, Any]) -> Shown:
    at = min(figure["ts_utc"], figure["ingest_ts_utc"] + clock.TOLERANCE)
    return Shown(at, figure["connector_name"], figure["trading_pair"])


def owner_of(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["environment"], record["account"], record["instance_name"]


@pytest.mark.req("N-05", "S1-06", "S2-03")
@settings(max_examples=6)
@given(start=st.integers(-1, len(LOG) - 60))
def test_what_was_shown_at_any_time_is_read_from_snapshot_and_tail_to_the_digit(start: int) -> None:
    replay = Replay(0, SCHEMAS.get)
    for raw in LOG[: start + 1]:
        replay.fold(raw)
    replay.commit()
    replay = Replay(0, SCHEMAS.get, snapshots.unpack(snapshots.pack(replay.store)))
    compared = 0
    for raw in LOG[start + 1 : start + 60]:
        for sent in replay.fold(raw):
            if sent.topic == topics.RISK:
                owner = owner_of(sent.record)
                first = next(instances.figures(Look.at(replay), owner, shown(sent.record)))
                assert {name: first[name] for name in Figures._fields} == {
                    name: sent.record[name] for name in Figures._fields
                }
                compared += 1
            elif sent.record.get("event_type") == outputs.TRADING_STATE and sent.record["derived_seq"]:
                view = instances.own_state(Look.at(replay), owner_of(sent.record))
                assert view is not None
                assert trading_state.as_json(view) == sent.record["payload"]
    assert compared or start > len(LOG) - 120


def test_looking_changes_nothing() -> None:
    looked, left = Replay(0, SCHEMAS.get), Replay(0, SCHEMAS.get)
    for raw in LOG:
        for sent in looked.fold(raw):
            if sent.topic == topics.RISK:
                instances.instance(Look.at(looked), owner_of(sent.record), shown(sent.record))
        left.fold(raw)
    looked.commit(), left.commit()
    assert looked.store == left.store


@pytest.mark.req("S1-06", "N-05")
def test_events_that_happened_up_to_a_time_fold_to_figures_that_know_no_others() -> None:
    accepted = accepted_of(LOG)
    moments = sorted(ts_utc for ts_utc, _ in accepted)
    for moment in (moments[len(moments) // 3], moments[-1]):
        some = Replay(0, SCHEMAS.get, contiguous=False)
        figures = [
            sent.record
            for ts_utc, raw in accepted
            if ts_utc <= moment
            for sent in some.fold(raw)
            if sent.topic == topics.RISK
        ]
        assert figures
        assert all(figure["ts_utc"] <= moment for figure in figures)
    # What was refused or came again leaves no trace in figures: all events are those of the whole log.
    assert figures == [sent.record for sent in all_of(LOG) if sent.topic == topics.RISK]


def all_of(records: list[RawRecord]) -> list[Any]:
    replay = Replay(0, SCHEMAS.get)
    return [sent for raw in records for sent in replay.fold(raw)]


def accepted_of(records: list[RawRecord]) -> list[tuple[int, RawRecord]]:
    """Time and record of every accepted event, in log order."""
    verdicts = [sent.record for sent in all_of(records) if sent.topic == topics.AUDITED]
    kept = {v["raw_offset"]: v["ts_utc"] for v in verdicts if v["derived_seq"] == 0 and v["disposition"] == ACCEPTED}
    return [(kept[raw.offset], raw) for raw in records if raw.offset in kept]


def look_after(*events: dict[str, Any]) -> Look:
    partition = Partition()
    partition.take(encode(each) for each in events)
    return Look(0, partition.store)


def test_an_order_and_a_position_by_hand() -> None:
    first = created("a", amount="10")
    owner = owner_of(first | {"account": first["account"] or ""})
    look = look_after(
        first,
        filled("a", "4", "2", fee="0.5"),
        filled("a", "2", "3"),
        created("b", "sell", amount="5"),
        filled("b", "5", "4"),
        ended("b"),
        event("market_price", {"price": "7"}),
    )
    key = (*owner, "kucoin")
    order = orders.order(look, (*key, "a"))
    assert order is not None
    assert (order["is_open"], order["amount_base"], order["filled_base"], order["executions"]) == (True, 10, 6, 2)
    assert [each["client_order_id"] for each in orders.open_orders(look, owner)] == ["a"]
    ended_one = orders.order(look, (*key, "b"))
    assert ended_one is not None
    assert (ended_one["is_open"], ended_one["terminals"]) == (False, {"order_completed": 1})
    assert orders.order(look, (*key, "c")) is None
    (place,) = positions.keys(look, owner)
    assert list(positions.keys(look, owner, "TWO-USDT")) == []
    position = positions.position(look, place)
    assert position is not None
    # 6 bought for 14, 5 sold for 20: at average cost 5/6 of 14 goes out, first in first out 8 + 3.
    assert position["net_base"] == 1
    assert position["realised_quote"] == Decimal(20) - Decimal("11.666666666666666667")
    assert position["realised_fifo_quote"] == 9
    assert position["lots"] == [{"quantity": 1, "cost": 3}]
    assert position["mark_price"] == 7
    assert position["unrealised_quote"] == 7 - position["cost_quote"]
    assert position["fees"] == {"USDT": Decimal("0.5")}


def test_limits_and_kills_of_an_instance() -> None:
    rule = {"name": "size", "figure": "net_base", "at_most": "5", "action": "kill", "environment": "live"}
    kill = {"kill_id": "k1", "trigger": "operator", "environment": "live", "account": "*", "instance": "bot*"}
    control = {"instance_name": "", "connector_name": "", "trading_pair": "", "environment": "live"}
    look = look_after(
        event("limits_set", {"limits": {"limit": [rule]}, "digest": "d", "set_by": "ann"}, **control),
        created("a", environment="live"),
        filled("a", "10", "2", environment="live"),
        event("kill_ordered", kill, **control),
        event("kill_acknowledged", {"kill_id": "k1", "action": "stop"}, environment="live"),
    )
    assert [(held["limit"], held["level"]) for held in instances.limits(look, OWNER)] == [("size", "breached")]
    (under,) = instances.kills(look, OWNER)
    assert under["kill_id"] == "k1"
    assert under["acknowledged_ts_utc"] is not None
    assert under["flat_ts_utc"] is None
    assert not list(instances.kills(look, ("paper", "", "bot1")))
    assert instances.own_state(look, OWNER) is None
    assert instances.instance(look, OWNER, None)["figures"] == []


def test_json_says_decimals_and_times_as_text() -> None:
    said = plain({"ts_utc": times.EARLIEST, "n": 3, "x": Decimal("1.50"), "of": [{"until": None, "price": Decimal(2)}]})
    assert said == {"ts_utc": "2000-01-01T00:00:00.000000Z", "n": 3, "x": "1.5", "of": [{"until": None, "price": "2"}]}
