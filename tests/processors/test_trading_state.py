"""TradingState from events alone: every field's handler, defaults, replay equal to online (S2-03, S2-04, S1-11)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import INGEST, Partition
from tests.processors.events import START, created, ended, event, filled
from tests.producers.support import Listed
from tests.producers.test_trend_document import class_fields
from tests.schemas.test_codec_generated import EXPANDED, value_of

from tradetape.processors import repeats, shelf
from tradetape.processors.reading import RawRecord
from tradetape.processors.state import PartitionState
from tradetape.processors.trading_state import records
from tradetape.processors.trading_state.records import OpenOrder
from tradetape.processors.trading_state.state import Changes, observe
from tradetape.processors.trading_state.view import as_json, view
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.trend import source as trend
from tradetape.producers.simulator.trend import CONFIGURATION, DEFECTS, simulate
from tradetape.schemas import times
from tradetape.schemas.catalogue import event_types

pytestmark = pytest.mark.req("S2-03")

D = Decimal
Event = dict[str, Any]
SECOND = 1_000_000
DAY = 86_400 * SECOND
MIDNIGHT = START // DAY * DAY
OWNER = ("live", "", "bot1")


class Bot:
    """A partition with one Trend bot; ``at`` of its events are seconds after a midnight."""

    def __init__(self) -> None:
        self.partition = Partition()
        self.changes: list[Changes | None] = []

    def tell(self, event_type: str, at: int = 0, **payload: Any) -> Changes | None:
        fields = payload.pop("fields", {})
        return self.fold(event(event_type, payload, **{**trend_fields(at), **fields}))

    def fold(self, made: Event) -> Changes | None:
        changes = observe(RawRecord(0, len(self.changes), INGEST, b""), made, self.partition.state)
        self.changes.append(changes)
        return changes

    def see(self) -> dict[str, Any]:
        return view(self.partition.state, *OWNER)

    def configure(self, **more: Any) -> None:
        self.tell("configuration_recorded", **{**CONFIGURATION, "settings": None, **more})

    def trade(self, result: str | None, at: int = 0, pair: str = "ONE-USDT") -> Changes | None:
        """A position that was opened and closed."""
        fields = {"trading_pair": pair}
        self.tell("position_opened", at, side="long", quantity="1", entry_price="100", fields=fields)
        return self.tell("position_closed", at, realized_pnl=result, fields=fields)


def trend_fields(at: int = 0) -> dict[str, Any]:
    return {"ts_utc": MIDNIGHT + at * SECOND, "source_system": "trend"}


def test_the_view_has_exactly_the_documents_fields() -> None:
    assert list(Bot().see()) == class_fields("TradingState")


def test_without_events_nothing_is_known_and_nothing_is_active() -> None:
    assert Bot().see() == {
        "equity": None,
        "peak_equity": None,
        "realized_pnl_today": D(0),
        "daily_loss": D(0),
        "consecutive_losses": 0,
        "cooldown_until": None,
        "circuit_breaker_active": False,
        "requires_manual_review": False,
        "last_reconciliation": None,
        "last_event_sequence": None,
        "universe": [],
        "positions": {},
        "open_orders": {},
        "news_risk_flags": {},
    }


def test_equity_and_its_peak_follow_from_the_configuration_and_the_results() -> None:
    bot = Bot()
    bot.configure()
    for result in ("50", "-30.5", "10"):
        bot.trade(result)
    seen = bot.see()
    assert (seen["equity"], seen["peak_equity"]) == (D("10029.5"), D(10050))


def test_a_configuration_that_comes_late_gives_the_same_equity() -> None:
    bot = Bot()
    for result in ("50", "-30.5", "10"):
        bot.trade(result)
    assert (bot.see()["equity"], bot.see()["peak_equity"]) == (None, None)
    bot.configure()
    assert bot.changes[-1] == Changes(("equity", "peak_equity"))
    assert (bot.see()["equity"], bot.see()["peak_equity"]) == (D("10029.5"), D(10050))


def test_a_configuration_says_nothing_new_by_what_it_leaves_out() -> None:
    bot = Bot()
    bot.configure()
    bot.configure(initial_equity=None, cooldown_seconds=60)
    bot.trade("-1")
    bot.trade("-1", at=5)
    assert bot.see()["equity"] == D(9998)
    assert bot.see()["cooldown_until"] == MIDNIGHT + 65 * SECOND


def test_results_and_losses_of_today_begin_anew_at_midnight_utc() -> None:
    bot = Bot()
    for result, at in (("20", 10), ("-5", 20), ("-7.5", 30)):
        bot.trade(result, at)
    assert (bot.see()["realized_pnl_today"], bot.see()["daily_loss"]) == (D("7.5"), D("12.5"))
    changes = bot.tell("system_started", 86_400)
    assert changes == Changes(("realized_pnl_today", "daily_loss"))
    assert (bot.see()["realized_pnl_today"], bot.see()["daily_loss"]) == (D(0), D(0))
    bot.trade("-3", 86_401)
    bot.trade("-100", 30)
    assert (bot.see()["realized_pnl_today"], bot.see()["daily_loss"]) == (D(-3), D(3))


def test_a_clock_that_runs_ahead_begins_no_day() -> None:
    bot = Bot()
    bot.trade("20")
    bot.tell("system_started", (INGEST - MIDNIGHT) // SECOND + 86_400)
    assert bot.see()["realized_pnl_today"] == D(20)


def test_losses_in_a_row_end_with_a_result_that_is_none() -> None:
    bot = Bot()
    counts = []
    for result in ("-1", "-1", "0", "-1", None, "-2", "3"):
        bot.trade(result)
        counts.append(bot.see()["consecutive_losses"])
    assert counts == [1, 2, 0, 1, 1, 2, 0]


def test_losses_in_a_row_begin_a_cooldown_as_configured() -> None:
    bot = Bot()
    bot.trade("-1")
    bot.trade("-1")
    assert bot.see()["cooldown_until"] is None
    bot.configure()
    bot.trade("1")
    bot.trade("-1", 20)
    assert bot.see()["cooldown_until"] is None
    bot.trade("-1", 30)
    assert bot.see()["cooldown_until"] == MIDNIGHT + (30 + 900) * SECOND
    bot.trade("-1", 40)
    bot.trade("5", 50)
    assert bot.see()["cooldown_until"] == MIDNIGHT + (40 + 900) * SECOND


@pytest.mark.parametrize(("seconds", "until"), [(-5, MIDNIGHT), (2**62, times.LATEST - 1)])
def test_a_cooldown_stays_within_the_times_of_the_contract(seconds: int, until: int) -> None:
    bot = Bot()
    bot.configure(cooldown_seconds=seconds, max_consecutive_losses=1)
    bot.trade("-1")
    assert bot.see()["cooldown_until"] == until
    bot.partition.commit()
    assert json.loads(as_json(bot.see()))["cooldown_until"] == times.text(until)


def test_breaker_and_review_are_switched_by_their_events() -> None:
    bot = Bot()
    seen = []
    kinds = ("circuit_breaker_triggered", "manual_intervention_required", "manual_review_acknowledged")
    for kind in (*kinds, "circuit_breaker_triggered", "circuit_breaker_reset"):
        bot.tell(kind)
        seen.append((bot.see()["circuit_breaker_active"], bot.see()["requires_manual_review"]))
    assert seen == [(True, False), (True, True), (False, False), (True, False), (False, False)]


def test_reconciliation_and_sequence() -> None:
    bot = Bot()
    bot.tell("reconciliation_completed", 7, fields={"sequence": 12})
    bot.tell("market_price", 8, price="1", fields={"sequence": 11})
    assert bot.see()["last_reconciliation"] == MIDNIGHT + 7 * SECOND
    assert bot.see()["last_event_sequence"] == 12
    assert bot.changes == [Changes(("last_reconciliation", "last_event_sequence")), None]


def test_the_universe_is_the_latest_one_without_what_was_filtered() -> None:
    bot = Bot()
    bot.tell("universe_updated", symbols=["BTCUSDT", "ETHUSDT", "BTCUSDT"])
    assert bot.see()["universe"] == ["BTCUSDT", "ETHUSDT"]
    bot.tell("symbol_filtered", symbol="DOGEUSDT")
    bot.tell("symbol_filtered", symbol="BTCUSDT")
    assert bot.see()["universe"] == ["ETHUSDT"]
    assert [changes is None for changes in bot.changes] == [False, True, False]
    changes = bot.tell("universe_updated", symbols=[str(number) for number in range(records.MOST_SYMBOLS + 1)])
    assert len(bot.see()["universe"]) == records.MOST_SYMBOLS
    assert changes is not None and "1001 symbols" in changes.unexpected


def test_a_position_from_its_opening_over_its_changes_to_its_end() -> None:
    bot = Bot()
    bot.tell("position_opened", 3, side="long", quantity="0.5", entry_price="42000", leverage="3")
    bot.tell("position_changed", field="Stop_Price", old_value=None, new_value="41000.5")
    bot.tell("position_changed", field="qty", new_value=D("0.25"))
    bot.tell("position_changed", field="trailing", new_value=True)
    bot.tell("take_profit_modified", new_take_profit="45000")
    assert bot.see()["positions"] == {
        "ONE-USDT": {
            "since": MIDNIGHT + 3 * SECOND,
            "trading_pair": "ONE-USDT",
            "position_id": None,
            "side": "long",
            "quantity": D("0.25"),
            "entry_price": D(42000),
            "leverage": D(3),
            "stop_loss_price": D("41000.5"),
            "take_profit_price": D(45000),
        }
    }
    bot.tell("stop_modified", new_stop="43000")
    assert bot.see()["positions"]["ONE-USDT"]["stop_loss_price"] == D(43000)
    assert bot.tell("position_closed", realized_pnl="1") is not None
    assert bot.see()["positions"] == {}


def test_an_order_is_open_until_it_is_filled_or_over() -> None:
    bot = Bot()
    for name in ("a", "b", "c", "d"):
        bot.fold(created(name, amount="10", **trend_fields(5)))
    part = {"client_order_id": "a", "filled_qty_base": "4"}
    bot.tell("order_partially_filled", **part)
    bot.tell("order_partially_filled", filled_qty_base="9")
    assert {name: order["filled_base"] for name, order in bot.see()["open_orders"].items()} == {
        "a": D(4),
        "b": D(0),
        "c": D(0),
        "d": D(0),
    }
    bot.fold(filled("a", "6", **trend_fields()))
    for name, how in (("b", "order_cancelled"), ("c", "order_expired")):
        bot.fold(ended(name, how, **trend_fields()))
    assert bot.see()["open_orders"] == {
        "d": {
            "since": MIDNIGHT + 5 * SECOND,
            "trading_pair": "ONE-USDT",
            "side": "buy",
            "order_type": "limit",
            "price": D(2),
            "stop_price": None,
            "amount_base": D(10),
            "filled_base": D(0),
            "purpose": None,
        }
    }
    assert all(changes is None or not changes.unexpected for changes in bot.changes)


def test_other_instances_are_followed_from_their_configuration_on_and_executed_in_parts() -> None:
    bot = Bot()
    assert bot.fold(created("early")) is None
    bot.fold(event("configuration_recorded", {"initial_equity": "500"}))
    bot.fold(created("a", amount="10"))
    bot.fold(filled("a", "4"))
    assert bot.see()["open_orders"]["a"]["filled_base"] == D(4)
    bot.fold(filled("a", "6"))
    assert bot.fold(ended("a")) is None
    assert (bot.see()["open_orders"], bot.see()["equity"]) == ({}, D(500))


def test_a_bus_like_trends_is_followed_as_its_ledger_is() -> None:
    bot = Bot()
    bot.fold(event("circuit_breaker_triggered", {}, source_system="sdk", adapter="trend@1"))
    assert bot.see()["circuit_breaker_active"]


def test_the_latest_judgement_of_news_is_the_flag_of_its_pair() -> None:
    bot = Bot()
    bot.configure()
    bot.tell("news_classified", 1, risk_level="LOW")
    bot.tell("news_classified", 2, risk_level="HIGH", reason="hack", confidence="0.9")
    bot.tell("news_classified", 3, risk_level="LOW", fields={"trading_pair": ""})
    assert bot.see()["news_risk_flags"]["ONE-USDT"] == {
        "since": MIDNIGHT + 2 * SECOND,
        "risk_level": "HIGH",
        "reason": "hack",
        "confidence": D("0.9"),
        "until": MIDNIGHT + (2 + 3_600) * SECOND,
    }
    assert bot.see()["news_risk_flags"].keys() == {"", "ONE-USDT"}


@pytest.mark.req("S2-04")
@pytest.mark.parametrize(
    ("kind", "payload", "unexpected"),
    [
        ("position_closed", {"realized_pnl": "1"}, "no open position ONE-USDT"),
        ("position_changed", {"field": "quantity", "new_value": "1"}, "no open position ONE-USDT"),
        ("position_changed", {"field": "quantity", "new_value": "[NaN"}, "quantity became [NaN, which is no number"),
        ("order_cancelled", {"client_order_id": "x"}, "no open order x"),
        ("order_partially_filled", {"client_order_id": "x", "filled_qty_base": "1"}, "no open order x"),
    ],
)
def test_what_makes_no_sense_is_told(kind: str, payload: dict[str, Any], unexpected: str) -> None:
    changes = Bot().tell(kind, **payload)
    assert changes is not None
    assert changes.unexpected == unexpected


@pytest.mark.req("S2-04")
@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("position_changed", {"field": "quantity"}),
        ("order_failed", {"error_message": "no"}),
        ("order_partially_filled", {}),
        ("stop_modified", {}),
        ("configuration_recorded", {}),
        ("reconciliation_completed", {}),
        ("manual_review_acknowledged", {}),
        ("universe_updated", {"symbols": []}),
    ],
)
def test_missing_optional_fields_change_nothing_else(kind: str, payload: dict[str, Any]) -> None:
    bot = Bot()
    before = bot.see()
    changes = bot.tell(kind, **payload)
    assert changes is None or not changes.unexpected
    assert {name for name, value in bot.see().items() if value != before[name]} <= {"last_reconciliation"}


@pytest.mark.req("S2-04")
@pytest.mark.parametrize("name", sorted(event_types()))
@settings(max_examples=25)
@given(st.integers(0, 1 << 32))
def test_no_event_of_the_catalogue_throws(name: str, seed: int) -> None:
    rng = random.Random(seed)
    (declared,) = (field for field in EXPANDED[name]["fields"] if field["name"] == "payload")
    bot = Bot()
    bot.configure()
    bot.tell("position_opened", side="long", quantity="1", entry_price="1")
    for _ in range(3):
        made = event("system_started", {}, **trend_fields(rng.randrange(-DAY, DAY) // SECOND))
        drawn = value_of(declared["type"], rng)
        payload = {key: drawn.get(key) for key in event_types()[name].payload_keys}
        bot.fold(made | {"event_type": name, "payload": _named(payload, rng), "sequence": rng.choice([None, 7])})
    online = as_json(bot.see())
    bot.partition.commit()
    bot.partition.restart()
    assert as_json(bot.see()) == online


def _named(payload: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Half of the time the fields and ids that handlers look for; defaults of what must be there."""
    if "field" in payload and rng.random() < 0.5:
        payload["field"] = rng.choice(["quantity", "Stop", "leverage", "entry"])
    if "position_id" in payload and rng.random() < 0.5:
        payload["position_id"] = None
    for name, empty in (("symbols", []), ("purpose", None)):
        if name in payload and payload[name] is None:
            payload[name] = empty
    return payload


@pytest.mark.req("S1-11")
def test_a_shelf_lists_what_was_put_and_not_taken() -> None:
    state = PartitionState(0, {})
    rng = random.Random(5)
    expected: dict[str, int] = {}
    for number in range(400):
        name = str(rng.randrange(12))
        if rng.random() < 0.5:
            gone = shelf.put(state, OpenOrder(since=number), name, *OWNER, most=8)
            oldest = min(expected, key=lambda each: expected[each], default="")
            is_full = name not in expected and len(expected) == 8
            assert gone == (oldest if is_full else "")
            expected.pop(gone, None)
            expected[name] = number
        else:
            taken = shelf.take(state, OpenOrder, name, *OWNER)
            assert (None if taken is None else taken.since) == expected.pop(name, None)
        listed = {each: entry.since for each, entry in shelf.names_and_entries(state, OpenOrder, *OWNER)}
        assert listed == expected


def test_an_order_writes_little_however_many_are_open() -> None:
    bot = Bot()
    for number in range(200):
        bot.fold(created(f"order-{number}", **trend_fields()))
    bot.partition.commit()
    bot.fold(ended("order-7", "order_cancelled", **trend_fields()))
    written = [(key, value) for key, value in bot.partition.state.changes() if key[1:2] == b"T"]
    assert sum(len(key) + len(value or b"") for key, value in written) < 500
    assert len(bot.see()["open_orders"]) == 199


def test_more_than_the_most_orders_push_out_the_oldest() -> None:
    bot = Bot()
    for number in range(records.MOST_ORDERS + 1):
        bot.fold(created(f"order-{number}", **trend_fields(number)))
    assert len(bot.see()["open_orders"]) == records.MOST_ORDERS
    assert "order-0" not in bot.see()["open_orders"]
    assert bot.changes[-1] is not None and "order-0 is left out" in bot.changes[-1].unexpected


def test_as_json_is_canonical() -> None:
    bot = Bot()
    bot.configure()
    bot.tell("reconciliation_completed", 1)
    bot.tell("position_opened", 2, side="short", quantity="0.10", entry_price="1E+2")
    text = as_json(bot.see())
    read = json.loads(text)
    assert list(read) == sorted(read)
    assert (read["equity"], read["last_reconciliation"]) == ("10000", times.text(MIDNIGHT + SECOND))
    position = read["positions"]["ONE-USDT"]
    assert (position["quantity"], position["entry_price"], position["leverage"]) == ("0.1", "100", None)
    assert position["since"] == times.text(MIDNIGHT + 2 * SECOND)
    assert not re.search(r":\s|,\s", text)


# A ledger, from its first line on


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """The events of a simulated bot without defects."""
    return _taken_in(tmp_path_factory.mktemp("sound"), {})


def _taken_in(folder: Path, defects: Iterable[str], steps: int = 30) -> list[Event]:
    (path,) = simulate(folder, bots=1, steps=steps, seed=3, defects=list(defects)).files
    emitter = Listed()
    origin = Origin(trend.fingerprint(str(path)), "bot1", "binance", "trend")
    runner.run(trend.open_source(str(path), origin, None), emitter, Checkpoints(folder / "checkpoints"))
    return [made for made in emitter.events if made["event_type"] != "unmapped_record"]


def _feed(partition: Partition, events: Iterable[Event]) -> list[Changes | None]:
    """``events`` as the core folds them: repeats dropped."""
    changes = []
    for made in events:
        raw = RawRecord(0, partition.offset, INGEST + partition.offset, b"")
        partition.offset += 1
        if not repeats.check(made, partition.state):
            repeats.remember(raw, made, partition.state)
            changes.append(observe(raw, made, partition.state))
    return changes


def test_the_state_of_a_simulated_ledger_is_what_it_says(ledger: list[Event]) -> None:
    partition = Partition()
    changes = _feed(partition, ledger)
    assert {each.unexpected for each in changes if each is not None} == {""}
    seen = view(partition.state, *OWNER)
    results = [made["payload"]["realized_pnl"] for made in ledger if made["event_type"] == "position_closed"]
    assert len(results) > 5
    assert seen["equity"] == D(10_000) + sum(results)
    assert seen["last_event_sequence"] == len(ledger) - 1  # source_ended is not the bot's
    assert (seen["positions"], seen["open_orders"]) == ({}, {})
    assert seen["universe"] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert {name for each in changes if each for name in each.fields} == set(seen)


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_replay_and_restarts_give_the_state_that_was_kept_online(ledger: list[Event], data: st.DataObject) -> None:
    online, restarted = Partition(), Partition()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ledger)), max_size=8)))
    for first, last in zip([0, *cuts], [*cuts, len(ledger)], strict=True):
        part = ledger[first:last]
        _feed(online, part)
        _feed(restarted, part)
        restarted.commit()
        restarted.restart()
        replayed = Partition()
        _feed(replayed, ledger[:last])
        seen = [as_json(view(each.state, *OWNER)) for each in (online, restarted, replayed)]
        assert seen[0] == seen[1] == seen[2]


@pytest.mark.req("S1-11")
@given(st.data())
@settings(max_examples=15, deadline=None)
def test_replaying_a_stretch_changes_nothing(ledger: list[Event], data: st.DataObject) -> None:
    partition = Partition()
    end = data.draw(st.integers(0, len(ledger)))
    start = data.draw(st.integers(0, end))
    _feed(partition, ledger[:end])
    before = as_json(view(partition.state, *OWNER))
    assert _feed(partition, ledger[start:end]) == []
    assert as_json(view(partition.state, *OWNER)) == before


@pytest.mark.req("S1-11")
def test_an_event_applied_twice_in_a_row_changes_nothing_the_second_time(ledger: list[Event]) -> None:
    state = PartitionState(0, {})
    for offset, made in enumerate(ledger):
        raw = RawRecord(0, offset, INGEST, b"")
        observe(raw, made, state)
        before = as_json(view(state, *OWNER))
        observe(raw, made, state)
        assert as_json(view(state, *OWNER)) == before


@pytest.mark.req("S2-04")
def test_a_ledger_with_every_defect_leads_to_a_state(tmp_path: Path) -> None:
    partition = Partition()
    changes = _feed(partition, _taken_in(tmp_path, DEFECTS))
    assert any(each.unexpected for each in changes if each is not None)
    assert view(partition.state, *OWNER)["equity"] is not None


@pytest.mark.req("P-08")
def test_megabytes_of_text_are_cut_or_left_out_and_that_is_told() -> None:
    bot, long = Bot(), "x" * 1_000
    bot.tell("news_classified", 1, risk_level=long, reason="x" * 3_000_000)
    bot.tell("position_opened", 2, side="long", quantity="1", entry_price="1")
    bot.fold(created("o-1", **trend_fields(3), trading_pair=long))
    bot.tell("universe_updated", symbols=["BTCUSDT", long])
    told = [
        bot.tell("news_classified", 1, risk_level="LOW", fields={"trading_pair": long}),
        bot.tell("position_opened", 2, side="long", quantity="1", entry_price="1", position_id=long),
        bot.fold(created(long, **trend_fields(3))),
        bot.changes[3],
    ]
    assert ["1000 characters" in changes.unexpected for changes in told if changes is not None] == [True] * 4
    seen = bot.see()
    assert (len(seen["news_risk_flags"]), len(seen["positions"]), len(seen["open_orders"])) == (1, 1, 1)
    assert seen["universe"] == ["BTCUSDT"]
    assert seen["news_risk_flags"]["ONE-USDT"]["reason"] == "x" * records.MOST_CHARACTERS
    assert len(as_json(seen)) < 3_000
    assert sum(len(key) + len(value or b"") for key, value in bot.partition.state.changes()) < 3_000
