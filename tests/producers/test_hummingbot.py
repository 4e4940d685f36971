"""Ingest of Hummingbot databases: what goes out, row by row, on real and on made databases."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.producers.databases import OLD_DDL, Database
from tests.producers.support import NAMES, REAL, Listed, ask

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.hummingbot import ingest as hummingbot
from tradetape.producers.connectors.hummingbot.source import HummingbotSource
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.simulator import START_MS
from tradetape.schemas import identity, rules
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.errors import TradetapeError

CANONICAL = {
    "BuyOrderCreated": "order_created",
    "SellOrderCreated": "order_created",
    "OrderCancelled": "order_cancelled",
    "OrderFailure": "order_failed",
    "OrderExpired": "order_expired",
    "BuyOrderCompleted": "order_completed",
    "SellOrderCompleted": "order_completed",
}


def ingest(path: Path, folder: Path, emitter: Listed | None = None, **more: Any) -> tuple[Listed, Summary]:
    emitter = emitter or Listed()
    return emitter, hummingbot.ingest(path, emitter, Checkpoints(folder / "checkpoints"), **more)


@pytest.fixture
def made(tmp_path: Path) -> Database:
    return Database(tmp_path / "made.sqlite")


def payloads(emitter: Listed, event_type: str) -> list[dict[str, Any]]:
    return [event["payload"] for event in emitter.of(event_type)]


@pytest.mark.req("P-10")
@pytest.mark.parametrize("name", NAMES)
def test_counts_by_type_equal_plain_sql(name: str, tmp_path: Path) -> None:
    path = REAL / f"{name}.sqlite"
    emitter, summary = ingest(path, tmp_path)
    expected: Counter[str] = Counter()
    for status, count in ask(path, "SELECT status, count(*) FROM OrderStatus GROUP BY 1"):
        if status != "OrderFilled":
            expected[CANONICAL[status]] += count
    expected["order_filled"] = ask(path, "SELECT count(*) FROM TradeFill")[0][0]
    assert emitter.types() == {**expected, "source_ended": 1} == summary.events
    end = emitter.events[-1]
    assert end["event_type"] == "source_ended"
    assert end["payload"]["events"] == dict(expected)
    tables = {
        table: ask(path, f'SELECT count(*) FROM "{table}"')[0][0] for table in ("Order", "OrderStatus", "TradeFill")
    }
    assert end["payload"]["rows"] == tables == summary.rows
    assert {event["instance_name"] for event in emitter.events} == {name}


@pytest.mark.req("P-10", "S3-02")
@pytest.mark.parametrize("name", NAMES)
def test_events_follow_status_ids_and_chain_to_their_order(name: str, tmp_path: Path) -> None:
    path = REAL / f"{name}.sqlite"
    emitter, _ = ingest(path, tmp_path)
    rows = emitter.events[:-1]
    assert [event["source_position"] for event in rows] == [
        row[0] for row in ask(path, "SELECT id FROM OrderStatus ORDER BY id")
    ]
    assert len({event["event_id"] for event in emitter.events}) == len(emitter.events)
    roots = {event["correlation_id"] for event in rows if event["event_type"] == "order_created"}
    assert roots == {event["event_id"] for event in rows if event["event_type"] == "order_created"}
    for event in emitter.events:
        assert not list(rules.violations(event, event_types()[event["event_type"]]))


@pytest.mark.req("P-10")
@pytest.mark.parametrize("name", NAMES)
def test_amounts_are_exact(name: str, tmp_path: Path) -> None:
    path = REAL / f"{name}.sqlite"
    emitter, _ = ingest(path, tmp_path)
    found: Counter[str] = Counter()
    for event in emitter.of("order_filled"):
        payload = event["payload"]
        found[event["trading_pair"]] += payload["fill_qty_base"] * (1 if payload["side"] == "buy" else -1)
        assert payload["fill_qty_quote"] == payload["fill_price"] * payload["fill_qty_base"]
    expected: Counter[str] = Counter()
    for symbol, side, amount in ask(path, "SELECT symbol, trade_type, amount FROM TradeFill"):
        expected[symbol] += Decimal(amount) / 10**6 * (1 if side == "BUY" else -1)
    assert found == expected


@pytest.mark.req("P-10")
def test_fees_of_a_real_database_are_what_the_exchange_charged(tmp_path: Path) -> None:
    emitter, _ = ingest(REAL / "conf_hedge_3.sqlite", tmp_path)
    first = emitter.of("order_filled")[0]
    assert (first["payload"]["fee_asset"], first["payload"]["fee_amount"]) == ("USDT", Decimal("0.1113"))
    assert first["precision_rounded"] == []


@pytest.mark.req("P-10")
def test_every_native_row_is_in_the_events(tmp_path: Path) -> None:
    path = REAL / "conf_hedge_3.sqlite"
    emitter, _ = ingest(path, tmp_path)
    natives = [json.loads(event["native"]) for event in emitter.events if event["native"]]
    for table, key in (("OrderStatus", "id"), ("Order", "id"), ("TradeFill", "exchange_trade_id")):
        kept = [native[table][key] for native in natives if table in native]
        # The fill without an order has no Order row; every other row is accounted for once.
        assert sorted(kept) == sorted(row[0] for row in ask(path, f'SELECT {key} FROM "{table}"'))


@pytest.mark.req("P-10")
def test_a_second_ingest_sends_nothing_and_new_rows_only_themselves(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    emitter, _ = ingest(made.path, tmp_path)
    assert emitter.types() == {"order_created": 1, "source_ended": 1}
    again, summary = ingest(made.path, tmp_path)
    assert again.events == []
    assert summary.already_ingested
    made.fill()
    made.status("OrderFilled")
    made.status("OrderCancelled")
    later, summary = ingest(made.path, tmp_path)
    assert [event["event_type"] for event in later.events] == ["order_filled", "order_cancelled", "source_ended"]
    assert later.events[-1]["payload"]["events"] == {"order_created": 1, "order_filled": 1, "order_cancelled": 1}
    assert summary.skipped == 1


@pytest.mark.req("P-10")
@pytest.mark.parametrize("broken_at", [1, 1999, 2000, 2001, 2300])
def test_a_kill_repeats_only_the_tail_under_the_same_ids(broken_at: int, tmp_path: Path) -> None:
    path = REAL / "conf_pure_mm_7.sqlite"
    whole, _ = ingest(path, tmp_path / "undisturbed")
    first = Listed(fail_after=broken_at)
    with pytest.raises(TradetapeError):
        ingest(path, tmp_path, first)
    second, _ = ingest(path, tmp_path)
    acknowledged = len(first.acknowledged)
    assert acknowledged == broken_at // 2000 * 2000
    assert first.events == whole.events[:broken_at]
    assert second.events == whole.events[acknowledged:]


@pytest.mark.req("P-10")
def test_a_lost_checkpoint_leads_to_the_same_events(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.fill()
    first, _ = ingest(made.path, tmp_path / "a")
    second, _ = ingest(made.path, tmp_path / "b")
    assert first.events == second.events


@pytest.mark.req("P-10")
def test_a_fill_without_status_goes_before_the_terminal_status(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.status("OrderCancelled")
    made.fill()
    made.fill("t2", "nobody")
    emitter, _ = ingest(made.path, tmp_path)
    kinds = [event["event_type"] for event in emitter.events]
    assert kinds == ["order_created", "order_filled", "order_cancelled", "order_filled", "source_ended"]
    fill = emitter.events[1]
    assert (fill["source_stream"], fill["source_position"]) == ("TradeFill", None)
    assert fill["correlation_id"] == emitter.events[0]["event_id"]
    assert fill["payload"]["executed_ts_utc"] is None


@pytest.mark.req("P-10")
def test_fills_and_statuses_of_an_order_are_matched_in_their_order(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.fill("t1", price=1_000_000, timestamp=START_MS + 1)
    made.fill("t2", price=2_000_000)
    made.status("OrderFilled")
    made.status("OrderFilled")
    made.status("OrderFilled")
    emitter, _ = ingest(made.path, tmp_path)
    assert [payload["fill_id"] for payload in payloads(emitter, "order_filled")] == ["t1", "t2"]
    assert payloads(emitter, "order_filled")[0]["executed_ts_utc"] == (START_MS + 1) * 1000
    assert payloads(emitter, "order_filled")[1]["executed_ts_utc"] is None
    assert payloads(emitter, "order_status") == [{"client_order_id": "o1", "status": "OrderFilled"}]


@pytest.mark.req("P-10")
def test_a_fill_that_comes_after_its_status_was_sent_still_goes_out(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.status("OrderFilled")
    first, _ = ingest(made.path, tmp_path)
    assert first.types() == {"order_created": 1, "order_status": 1, "source_ended": 1}
    made.fill()
    second, _ = ingest(made.path, tmp_path)
    assert second.types() == {"order_filled": 1, "source_ended": 1}
    assert second.events[0]["source_position"] is None
    third, _ = ingest(made.path, tmp_path)
    assert third.events == []


@pytest.mark.req("P-10")
def test_a_status_that_comes_after_its_fill_was_sent_confirms_it_only(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.fill()
    first, _ = ingest(made.path, tmp_path)
    assert first.types() == {"order_created": 1, "order_filled": 1, "source_ended": 1}
    made.status("OrderFilled")
    second, _ = ingest(made.path, tmp_path)
    assert second.types() == {"order_status": 1, "source_ended": 1}


@pytest.mark.req("P-10")
def test_an_order_without_created_status_is_a_snapshot_once(tmp_path: Path, made: Database) -> None:
    made.order(last_status="SellOrderCompleted")
    made.status("OrderCancelled")
    emitter, _ = ingest(made.path, tmp_path)
    assert emitter.types() == {"order_cancelled": 1, "order_snapshot": 1, "source_ended": 1}
    (snapshot,) = payloads(emitter, "order_snapshot")
    assert snapshot["side"] == "sell"
    assert snapshot["amount_base"] == 2
    assert ingest(made.path, tmp_path)[0].events == []


@pytest.mark.req("P-10")
def test_a_second_created_status_keeps_the_order_as_root(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.status("BuyOrderCreated")
    emitter, _ = ingest(made.path, tmp_path)
    root, again = emitter.of("order_created")
    assert root["event_id"] == root["correlation_id"] == again["correlation_id"] != again["event_id"]


@pytest.mark.req("P-10")
def test_a_status_of_an_unknown_order_finds_its_place(tmp_path: Path, made: Database) -> None:
    made.status("OrderCancelled", "gone")
    made.order()
    made.status("BuyOrderCreated")
    emitter, _ = ingest(made.path, tmp_path)
    assert emitter.events[0]["event_type"] == "order_cancelled"
    assert emitter.events[0]["trading_pair"] == "AAA-USDT"
    made.order("o2", symbol="BBB-USDT")
    other, _ = ingest(made.path, tmp_path / "ambiguous")
    assert other.events[0]["event_type"] == "unmapped_record"
    assert other.events[0]["source_position"] == 1
    assert sum(other.events[-1]["payload"]["rows"].values()) == 4


@pytest.mark.req("P-10", "P-08")
@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("""UPDATE TradeFill SET amount = 'much'""", "amount"),
        ("""UPDATE TradeFill SET trade_type = 'HOLD'""", "trade_type"),
        ("""UPDATE TradeFill SET trade_fee = 'free'""", "trade_fee"),
        ("""UPDATE TradeFill SET timestamp = 1""", "timestamp"),
        ("""UPDATE TradeFill SET symbol = CAST(x'ff' AS TEXT)""", "symbol is not UTF-8"),
    ],
)
def test_what_cannot_be_mapped_is_kept_as_bytes(statement: str, says: str, tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.fill()
    made.status("OrderFilled")
    made.run(statement)
    emitter, summary = ingest(made.path, tmp_path)
    assert emitter.types() == {"order_created": 1, "unmapped_record": 1, "source_ended": 1}
    (record,) = emitter.of("unmapped_record")
    assert says in record["payload"]["error"]
    assert record["payload"]["location"] == "made.sqlite"
    assert json.loads(record["native"]).keys() == {"OrderStatus", "TradeFill"}
    assert (record["instance_name"], record["source_position"]) == ("bot_a", 2)
    assert emitter.events[-1]["payload"]["events"]["unmapped_record"] == 1
    assert summary.events["unmapped_record"] == 1


@pytest.mark.req("P-10")
def test_old_versions_hold_plain_numbers_and_seconds(tmp_path: Path) -> None:
    old = Database(tmp_path / "old.sqlite", OLD_DDL)
    seconds = START_MS / 1000 + 0.25
    place = {"config_file_path": "conf/old.yaml", "strategy": "pmm", "market": "binance_paper_trade"}
    place |= {"symbol": "AAA-BTC", "base_asset": "AAA", "quote_asset": "BTC"}
    old.insert(
        "Order", id="o1", **place, creation_timestamp=seconds, order_type="OrderType.LIMIT", amount=0.3, price=0.1
    )
    old.insert("OrderStatus", order_id="o1", timestamp=seconds, status="SellOrderCreated")
    fee = '{"percent": 0.001, "flat_fees": [["BNB", 0.1]]}'
    fill = {"timestamp": seconds, "order_id": "o1", "trade_type": "TradeType.SELL", "order_type": "limit"}
    old.insert("TradeFill", **place, **fill, price=0.1, amount=0.3, trade_fee=fee, exchange_trade_id="")
    old.insert("TradeFill", **place, **fill, price=0.1, amount=0.3, trade_fee=fee, exchange_trade_id="")
    emitter, _ = ingest(old.path, tmp_path)
    created, *fills = emitter.events[:-1]
    assert created["payload"]["amount_base"] == Decimal("0.3")
    assert created["payload"]["is_live"] is False
    assert (created["environment"], created["instance_name"]) == ("paper", "old")
    assert created["ts_utc"] == START_MS * 1000 + 250_000
    assert [fill["payload"]["fee_asset"] for fill in fills] == ["BNB", "BNB"]
    assert fills[0]["payload"]["other_fees"] == [{"asset": "BTC", "amount": Decimal("0.00003")}]
    assert fills[0]["event_id"] != fills[1]["event_id"]


@pytest.mark.req("P-10")
def test_a_copy_is_the_same_source_and_a_new_database_another(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    shutil.copy(made.path, tmp_path / "copy.sqlite")
    ids = {ingest(path, tmp_path / path.stem)[1].source_id for path in (made.path, tmp_path / "copy.sqlite")}
    assert len(ids) == 1
    other = Database(tmp_path / "other.sqlite")
    other.order()
    other.status("BuyOrderCreated", timestamp=START_MS + 6)
    assert ingest(other.path, tmp_path / "other")[1].source_id not in ids
    named, summary = ingest(made.path, tmp_path / "named", source_id="desk/bot a")
    assert summary.source_id == "desk/bot a"
    assert named.events[0]["event_id"] == identity.derive("desk/bot a", "Order", "o1")


@pytest.mark.req("P-10", "P-06")
@pytest.mark.parametrize("new", [1, 3, 9])
def test_a_backup_that_was_put_back_is_another_source(new: int, tmp_path: Path, made: Database) -> None:
    made.order()
    for _ in range(3):
        made.status("BuyOrderCreated")
    shutil.copy(made.path, tmp_path / "backup.sqlite")
    for _ in range(3):
        made.status("OrderFilled")
    _, summary = ingest(made.path, tmp_path)
    shutil.copy(tmp_path / "backup.sqlite", made.path)
    for number in range(new):
        made.status("OrderCancelled", timestamp=START_MS + 100 + number)
    second, again = ingest(made.path, tmp_path)
    assert again.source_id.startswith(f"{summary.source_id}@")
    assert {event["source_id"] for event in second.events} == {again.source_id}
    assert second.types() == {"order_created": 3, "order_cancelled": new, "source_ended": 1}
    made.status("OrderExpired")
    third, _ = ingest(made.path, tmp_path)
    assert third.types() == {"order_expired": 1, "source_ended": 1}
    assert {event["source_id"] for event in third.events} == {again.source_id}


@pytest.mark.req("P-10", "P-06")
def test_a_backup_that_is_put_back_under_a_reader_is_told_and_opened_again(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    shutil.copy(made.path, tmp_path / "backup.sqlite")
    made.status("OrderFilled")
    source = HummingbotSource(made.path, "s", None, clock=iter(range(1000)).__next__)
    assert len(source.poll(10)) == 2
    shutil.copy(tmp_path / "backup.sqlite", made.path)
    made.status("OrderCancelled")
    with pytest.raises(TradetapeError, match="put back"):
        for _ in range(100):
            source.poll(10)
    again = HummingbotSource(made.path, "s", json.loads(json.dumps(source.state())))
    assert [event["event_type"] for event in again.poll(10)] == ["order_created", "order_cancelled"]
    again.close()


@pytest.mark.req("P-10")
def test_a_row_deleted_before_the_last_ones_changes_nothing(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.status("OrderFilled")
    _, summary = ingest(made.path, tmp_path)
    made.status("OrderCancelled")
    made.run("DELETE FROM OrderStatus WHERE id = 2")
    later, again = ingest(made.path, tmp_path)
    assert again.source_id == summary.source_id
    assert later.types() == {"order_cancelled": 1, "source_ended": 1}


@pytest.mark.req("P-10")
def test_a_checkpoint_without_a_mark_goes_on(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    source = HummingbotSource(made.path, "s", None)
    source.poll(10)
    saved = source.state()
    source.close()
    del saved["mark"]
    made.status("OrderCancelled")
    source = HummingbotSource(made.path, "s", saved)
    assert [event["event_type"] for event in source.poll(10)] == ["order_cancelled"]
    source.close()


@pytest.mark.req("P-10")
def test_several_bots_in_one_database_end_apart(tmp_path: Path, made: Database) -> None:
    made.order()
    made.status("BuyOrderCreated")
    made.order("o2", config_file_path="conf/scripts/bot_b.py")
    made.status("SellOrderCreated", "o2")
    emitter, _ = ingest(made.path, tmp_path)
    assert [event["instance_name"] for event in emitter.of("source_ended")] == ["bot_a", "bot_b"]
    made.status("OrderCancelled", "o2")
    later, _ = ingest(made.path, tmp_path)
    assert [event["instance_name"] for event in later.of("source_ended")] == ["bot_b"]


@pytest.mark.req("P-10")
def test_an_empty_database_has_nothing_to_say(tmp_path: Path, made: Database) -> None:
    emitter, summary = ingest(made.path, tmp_path)
    assert emitter.events == []
    assert summary.sent == 0
