"""Every named query on one record of five bots, against rows computed here, without ClickHouse."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest
from tests.folding import SCHEMAS
from tests.integration.clickhouse import serve
from tests.integration.recorded import SECOND, Recorded, recorded, run_id
from tests.sinks.rows import audited, body

from tradetape.processors.trade_statistics import statistics
from tradetape.schemas import times
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.numbers import text
from tradetape.sinks import migrate, queries, trades
from tradetape.sinks.store import Store
from tradetape.sinks.tables import ALERTS, EVENTS, QUARANTINE, RISK

pytestmark = pytest.mark.integration

Row = dict[str, Any]
Answer = Callable[[], Iterable[Row]]


# The record, as Python holds it


def _read(row: Row) -> Row:
    return {**row, "payload": json.loads(row["payload"])}


RECORD: Recorded = recorded()
JUDGED = [_read(row) for row in RECORD.audited]
EVENTS_SAID = [row for row in JUDGED if row["disposition"] == "accepted" and not row["derived_seq"]]
DERIVED = [row for row in JUDGED if row["derived_seq"]]
SET_ASIDE = [row for row in JUDGED if row["disposition"] != "accepted"]
ORDER_ENDS = ("order_cancelled", "order_failed", "order_expired", "order_completed")
BROKER = ("order_created", "order_failed", "order_filled", "order_status")
UNLINKED = ("backfilled", "unresolved")


def place(row: Row) -> tuple[int, int, int]:
    return row["raw_partition"], row["raw_offset"], row["derived_seq"]


def by_time(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["ts_utc"], place(row)))


def said(*event_types: str, **fields: Any) -> list[Row]:
    """Accepted events of these types, or of all, in the order of time."""
    chosen = (row for row in EVENTS_SAID if not event_types or row["event_type"] in event_types)
    return by_time(row for row in chosen if all(row[name] == value for name, value in fields.items()))


def at(row: Row, *paths: str) -> Any:
    """The first that is there of the ``paths`` into the payload; text is empty where none is."""
    for path in paths:
        value: Any = row["payload"]
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value not in (None, ""):
            return value
    return ""


def raw(value: Any) -> str:
    """A part of a payload as ClickHouse hands it out."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if value != "" else ""


def number(text: Any) -> str | None:
    return str(text) if text != "" else None


COLUMNS: Mapping[str, Callable[[Row], Any]] = {
    "ts_utc": lambda row: times.text(row["ts_utc"]),
    "ingest_ts_utc": lambda row: times.text(row["ingest_ts_utc"]),
    "order_id": lambda row: at(row, "client_order_id"),
    "side": lambda row: at(row, "side"),
    "price": lambda row: number(at(row, "price", "fill_price")),
    "quantity": lambda row: number(at(row, "amount_base", "fill_qty_base")),
    "purpose": lambda row: at(row, "purpose"),
    "findings": lambda row: [f"{f['code']} {f['status']}" for f in row["findings"]],
}


def show(row: Row, names: str, **more: Any) -> Row:
    """The columns ``names`` of ``row`` as an answer has them, and ``more``."""
    return {name: COLUMNS[name](row) if name in COLUMNS else row[name] for name in names.split()} | more


def details(row: Row, code: str) -> list[str]:
    return [found["detail"] for found in row["findings"] if found["code"] == code]


def mismatches(row: Row, *figures: str) -> list[str]:
    return [detail for detail in details(row, "arithmetic_mismatch") if json.loads(detail)["figure"] in figures]


def is_attempt(row: Row) -> bool:
    return row["event_type"] in ("order_created", "order_failed") or (
        row["event_type"] == "order_status" and "attempted" in row["native_type"].lower()
    )


def instance(row: Row) -> tuple[str, str, str]:
    return row["environment"], row["account"], row["instance_name"]


def exact(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def last_by(rows: Iterable[Row], *keys: str) -> list[Row]:
    found: dict[tuple[Any, ...], Row] = {}
    for row in sorted(rows, key=place):
        found[tuple(row[key] for key in keys)] = row
    return [found[key] for key in sorted(found)]


RESOLVED = {row["supersedes"]: row for row in sorted(DERIVED, key=place) if row["event_type"] == "link_resolved"}
"""Event id → the last that was said of its link later."""


def link_of(row: Row) -> str:
    return str(RESOLVED.get(row["event_id"], row)["link"])


def chain_of(row: Row) -> str:
    return str(RESOLVED.get(row["event_id"], row)["correlation_id"])


# Expectations

EXPECTED: dict[str, list[tuple[dict[str, str], Answer]]] = {}


def expect(name: str, **params: str) -> Callable[[Answer], Answer]:
    """Register what the query ``name`` must answer with ``params``: columns that are left out are not compared."""

    def register(answer: Answer) -> Answer:
        EXPECTED.setdefault(name, []).append((params, answer))
        return answer

    return register


def one(event_type: str, **fields: Any) -> Row:
    return said(event_type, **fields)[0]


MARKET = "ts_utc instance_name trading_pair event_type native_type outcome outcome_reason order_id side price quantity"


@expect("market", trading_pair="QQQ")
@expect("market", trading_pair="QQQ-USD", instance_name="turtle-1")
def _() -> Iterator[Row]:
    return (show(row, f"{MARKET} correlation_id event_id") for row in said(trading_pair="QQQ-USD"))


@expect("market", trading_pair="ETH-USDT", since=COLUMNS["ts_utc"](one("exit_decided")), until="2026-09-21T13:13:46Z")
def _() -> Iterator[Row]:
    until = times.parse("2026-09-21T13:13:46Z")
    found = said(trading_pair="ETH-USDT")
    return (show(r, MARKET) for r in found if one("exit_decided")["ts_utc"] <= r["ts_utc"] < until)


@expect("run", run_id=run_id("Stop Hit Exit Flow"))
def _() -> Iterator[Row]:
    rows = said(run_id=run_id("Stop Hit Exit Flow"))
    names = "sequence ts_utc instance_name event_type native_type trading_pair outcome outcome_reason event_id"
    return (show(row, names) for row in sorted(rows, key=lambda row: row["sequence"]))


def _exits() -> list[Row]:
    def shows(row: Row) -> bool:
        kind = row["event_type"]
        if kind == "position_checked":
            return bool(row["outcome"].startswith("exit"))
        if kind == "exit_decided":
            return bool(row["payload"]["decision"].startswith("exit"))
        return kind in ("stop_triggered", "take_profit_triggered", "position_closed") or at(row, "purpose") == "exit"

    return [row for row in said() if shows(row)]


def _exit(row: Row) -> Row:
    return show(
        row,
        "ts_utc instance_name trading_pair event_type outcome order_id correlation_id event_id",
        reason=at(row, "context.exit.reason", "exit_reason", "reason") or row["outcome_reason"],
        rule=at(row, "context.exit.rule"),
        trigger=at(row, "context.exit.trigger_type", "stop_type", "decision"),
        trigger_price=at(row, "context.exit.trigger_price", "trigger_price"),
        exit_price=at(row, "exit_price", "fill_price"),
        pnl=at(row, "context.exit.pnl.net_pnl", "context.exit.realized_pnl", "realized_pnl"),
        position_id=at(row, "position_id"),
        exit_details=raw(at(row, "context.exit")),
    )


@expect("why_exit")
def _() -> Iterator[Row]:
    return (_exit(row) for row in _exits())


@expect("why_exit", trading_pair="QQQ")
def _() -> Iterator[Row]:
    return (_exit(row) for row in _exits() if row["trading_pair"] == "QQQ-USD")


@expect("why_exit", position_id="qp-1")
def _() -> Iterator[Row]:
    return (_exit(row) for row in _exits() if row["instance_name"] == "quantum-1")


def _failed(*purposes: str) -> Iterator[Row]:
    for row in said("order_failed", "order_status", "entry_skipped"):
        purpose = "entry" if row["event_type"] == "entry_skipped" else at(row, "purpose")
        if purposes and purpose not in purposes:
            continue
        yield show(
            row,
            "ts_utc instance_name trading_pair event_type order_id outcome event_id",
            purpose=purpose,
            reason=at(row, "error_message", "reason") or row["outcome_reason"],
            error_code=at(row, "error_code"),
            failure_stage=at(row, "failure_stage"),
            buying_power=at(row, "context.account.buying_power"),
            required=at(row, "context.sizing.position_value"),
        )


@expect("failed_orders")
def _() -> Iterator[Row]:
    return _failed()


@expect("failed_orders", purpose="pyramid", instance_name="turtle-1")
def _() -> Iterator[Row]:
    return _failed("pyramid")


@expect("pyramid_rate")
def _() -> list[Row]:
    n = Counter(row["outcome"] for row in said() if is_attempt(row) and at(row, "purpose") == "pyramid")
    ranked = sorted(n.items(), key=lambda item: (-item[1], item[0]))
    return [{"outcome": name, "n": k, "percent": round(100 * k / n.total(), 1)} for name, k in ranked]


@expect("market_at_entry", n="100")
def _() -> list[Row]:
    entries = [row for row in said("order_created", "order_filled") if at(row, "purpose") == "entry"]
    keys = {(row["trading_pair"], row["payload"]["client_order_id"]) for row in entries}
    found = []
    for key in keys:
        mine = [row for row in entries if (row["trading_pair"], row["payload"]["client_order_id"]) == key]
        fills = [row for row in mine if row["event_type"] == "order_filled"]
        if not fills:
            continue
        tellers = [*fills, *(row for row in mine if row not in fills)]
        blocks = {
            name: next((raw(at(row, f"context.{name}")) for row in tellers if at(row, f"context.{name}")), "")
            for name in ("market", "sizing", "account")
        }
        quantity = exact(sum((Decimal(at(row, "fill_qty_base")) for row in fills), Decimal(0)))
        columns = show(fills[0], "instance_name trading_pair order_id price", quantity=quantity, **blocks)
        found.append({"entered_ts_utc": COLUMNS["ts_utc"](fills[0]), **columns})
    return sorted(found, key=lambda row: row["entered_ts_utc"], reverse=True)


@expect("market_at_entry", trading_pair="QQQ")
def _() -> list[Row]:
    entry = said("order_filled", trading_pair="QQQ-USD", outcome="filled")[0]
    return [show(entry, "instance_name trading_pair order_id price", market=raw(at(entry, "context.market")))]


@expect("five_questions")
def _() -> Iterator[Row]:
    for row in said():
        asked = at(row, "purpose") in ("entry", "pyramid") and row["event_type"] in BROKER
        if not asked and not at(row, "context.sizing"):
            continue
        open_ones = [json.loads(detail)["unanswered"] for detail in details(row, "question_unanswered")]
        yield show(
            row,
            "ts_utc instance_name trading_pair event_type purpose order_id event_id",
            price=at(row, "context.sizing.price", "context.market.price"),
            n=at(row, "context.market.n.value", "context.sizing.n_value"),
            equity_actual=at(row, "context.account.equity_actual", "context.sizing.equity_actual"),
            equity_notional=at(row, "context.account.equity_notional", "context.sizing.equity_notional"),
            system=at(row, "context.signal.system", "context.position.system", "context.sizing.system"),
            risk_percent=at(row, "context.sizing.risk_percent", "context.pyramid.risk_percent"),
            contracts=at(row, "context.sizing.contracts"),
            initial_stop=at(row, "context.sizing.initial_stop"),
            unanswered=open_ones[0] if open_ones else [],
        )


# By id, type, aggregate, time

ROW = "ts_utc instance_name trading_pair outcome order_id side price quantity link correlation_id event_id payload"


@expect("by_type", event_type="order_filled")
def _() -> Iterator[Row]:
    return (show(row, ROW) for row in reversed(said("order_filled")))


@expect("by_type", event_type="order_filled", instance_name="turtle-1", n="2")
def _() -> Iterator[Row]:
    return (show(row, ROW) for row in said("order_filled", instance_name="turtle-1")[:-3:-1])


@expect("time_range", since="2026-09-21T13:13:30Z", until="2026-09-21T13:13:46Z")
def _() -> Iterator[Row]:
    first, until = (times.parse(f"2026-09-21T13:13:{second}Z") for second in (30, 46))
    return (show(row, f"event_type {ROW}") for row in said() if first <= row["ts_utc"] < until)


@expect("time_range", since="2020-01-01", event_types="kill_ordered,heartbeat,alert_skipped", n="3")
def _() -> Iterator[Row]:
    return (show(row, f"event_type {ROW}") for row in said("kill_ordered", "heartbeat", "alert_skipped")[:3])


def _aggregate(name: str, after: int) -> Iterator[Row]:
    names = (
        "aggregate_type aggregate_sequence ts_utc instance_name event_type correlation_id causation_id event_id payload"
    )
    rows = sorted(said(aggregate_id=name), key=lambda row: row["aggregate_sequence"])
    return (show(row, names, causation_id=row["causation_id"]) for row in rows if row["aggregate_sequence"] > after)


@expect("aggregate", aggregate_id="ps-1")
def _() -> Iterator[Row]:
    return _aggregate("ps-1", -1)


@expect("aggregate", aggregate_id="ps-1", aggregate_type="position", after="4")
def _() -> Iterator[Row]:
    return _aggregate("ps-1", 4)


@expect("aggregate", aggregate_id="ps-1", aggregate_type="order")
def _() -> list[Row]:
    return []


@expect("order_history", order_id="ca-1")
def _() -> Iterator[Row]:
    filled = Decimal(0)
    for row in sorted((row for row in EVENTS_SAID if at(row, "client_order_id") == "ca-1"), key=place):
        filled += Decimal(at(row, "fill_qty_base") or 0)
        names = "ts_utc instance_name trading_pair event_type outcome side price quantity findings event_id"
        yield show(row, names, filled=exact(filled), reason="")


@expect("order_history", order_id="m-2", instance_name="bot1")
def _() -> Iterator[Row]:
    rows = sorted((row for row in EVENTS_SAID if at(row, "client_order_id") == "m-2"), key=place)
    return (show(row, "event_type findings event_id", filled="4") for row in rows)


@expect("position_results", position_id="ps-1")
@expect("position_results", position_id="ps-1", instance_name="catalyst-1")
def _() -> Iterator[Row]:
    for row in said("position_opened", "position_priced", "position_state", "position_closed"):
        if at(row, "position_id") == "ps-1":
            yield show(
                row,
                "ts_utc instance_name trading_pair event_type event_id",
                price=at(row, "new_price", "current_price", "exit_price", "entry_price"),
                unrealized_pnl=at(row, "new_unrealized_pnl", "unrealized_pnl"),
                realized_pnl=at(row, "realized_pnl"),
            )


@expect("position_results", position_id="qp-1")
def _() -> list[Row]:
    prices = [("position_opened", "2010.5", ""), ("position_state", "1900", "-55.25"), ("position_closed", "1899", "")]
    return [{"event_type": kind, "price": price, "unrealized_pnl": pnl} for kind, price, pnl in prices]


def _event(row: Row) -> Row:
    names = "event_id supersedes disposition reasons event_type ts_utc instance_name correlation_id link raw_partition"
    found = [[f[name] for name in ("code", "severity", "status", "subject", "detail")] for f in row["findings"]]
    more = show(row, f"{names} raw_offset derived_seq payload ingest_ts_utc", findings=found, raw=row["raw"].hex())
    return {**more, "reasons": list(row["reasons"])}


WAITING = one("order_filled", instance_name="bot1", link="unresolved")
WRONG = next(row for row in said("order_filled", instance_name="bot1") if at(row, "client_order_id") == "m-3")
REPAIRED = next(row for row in SET_ASIDE if row["event_id"] == one("order_cancelled")["supersedes"])


def _events(event_id: str) -> list[Row]:
    about = [row for row in JUDGED if event_id in (row["event_id"], row["supersedes"])]
    return [_event(row) for row in sorted(about, key=lambda row: (row["supersedes"] != "", place(row)))]


@expect("event", event_id=WAITING["event_id"])
def _() -> list[Row]:
    rows = _events(WAITING["event_id"])
    assert [row["disposition"] for row in rows] == ["accepted", "duplicate", "accepted", "accepted"]
    return rows


@expect("event", event_id=REPAIRED["event_id"])
def _() -> list[Row]:
    rows = _events(REPAIRED["event_id"])
    assert [row["disposition"] for row in rows] == ["rejected", "accepted"]
    return rows


@expect("event", event_id="no uuid")
def _() -> list[Row]:
    return []


@expect("decisions")
def _() -> Iterator[Row]:
    fixed = {
        "signal_declined": "declined",
        "entry_skipped": "skipped",
        "alert_skipped": "skipped",
        "symbol_filtered": "filtered",
    }
    chosen = ("risk_decision", "risk_evaluated", "signal_evaluated", "alert_decided", "exit_decided", "decision_logged")
    for row in said(*fixed, *chosen):
        kind = row["event_type"]
        decision = fixed.get(kind) or at(row, "decision_type", "decision")
        if kind == "signal_evaluated":
            decision = row["outcome"]
        yield show(
            row,
            "ts_utc instance_name trading_pair event_type correlation_id event_id",
            decision=decision,
            reason=at(row, "reasoning", "reason") or "; ".join(at(row, "reasons")) or row["outcome_reason"],
            decided_by=at(row, "service", "policy_name", "gate_failed") or row["source"],
        )


@expect("payload_keys")
@expect("payload_keys", until="2100-01-01")
def _() -> list[Row]:
    n: Counter[tuple[str, str]] = Counter()
    last = {}
    for row in said():
        for key, value in row["payload"].items():
            n[row["event_type"], key] += 1
            last[row["event_type"], key] = raw(value)
    return [{"event_type": k[0], "key": k[1], "n": n[k], "last_value": last[k]} for k in sorted(n)]


def _with_key(path: str, *values: Any) -> Iterator[Row]:
    for row in said():
        value = at(row, path)
        if value != "" and (not values or value in values):
            shown = value if isinstance(value, str) else raw(value)
            yield show(row, "ts_utc instance_name event_type trading_pair correlation_id event_id", value=shown)


@expect("payload_key", key="desk")
def _() -> Iterator[Row]:
    return _with_key("desk")


@expect("payload_key", key="desk", value="beta", event_type="heartbeat")
def _() -> Iterator[Row]:
    return _with_key("desk", "beta")


@expect("payload_key", key="tags.tier", value="2")
def _() -> Iterator[Row]:
    return _with_key("tags.tier", 2)


@expect("payload_key", key="context.market.n.period", value="14")
def _() -> Iterator[Row]:
    return _with_key("context.market.n.period", 14)


# Health and quality


@expect("event_counts")
def _() -> list[Row]:
    kinds = sorted({row["event_type"] for row in EVENTS_SAID})
    return [
        {
            "event_type": kind,
            "n": len(said(kind)),
            "first_ts_utc": COLUMNS["ts_utc"](said(kind)[0]),
            "last_ts_utc": COLUMNS["ts_utc"](said(kind)[-1]),
            "last_ingest_ts_utc": times.text(max(row["ingest_ts_utc"] for row in said(kind))),
        }
        for kind in kinds
    ]


@expect("health")
def _() -> Iterator[Row]:
    rows = [row for row in JUDGED if not row["derived_seq"]]
    for key in sorted({(row["environment"], row["instance_name"]) for row in rows}):
        mine = [row for row in rows if (row["environment"], row["instance_name"]) == key]
        n = Counter(row["disposition"] for row in mine)
        yield {
            "environment": key[0],
            "instance_name": key[1],
            "accepted": n["accepted"],
            "duplicates": n["duplicate"],
            "rejected": n["rejected"],
            "last_ts_utc": times.text(max(row["ts_utc"] for row in mine if row["disposition"] == "accepted")),
            "last_ingest_ts_utc": times.text(max(row["ingest_ts_utc"] for row in mine)),
        }


def _after_kill() -> list[Row]:
    found = []
    for row in said():
        for code in ("order_after_kill", "signal_after_kill"):
            for detail in details(row, code):
                names = "ts_utc instance_name trading_pair event_type order_id side price quantity event_id"
                found.append(show(row, names, code=code, **json.loads(detail)))
    assert [row["event_type"] for row in found] == ["signal_generated", "order_created"]
    return found


@expect("orders_after_kill")
@expect("orders_after_kill", kill_id="kill-1", instance_name="quantum-1")
def _() -> list[Row]:
    return _after_kill()


@expect("orders_after_kill", kill_id="kill-2")
def _() -> list[Row]:
    return []


@expect("immutability")
def _() -> list[Row]:
    return []


def _cards(late_seconds: int) -> Iterator[Row]:
    corrected = {row["supersedes"] for row in EVENTS_SAID} - {""}
    rejected = [row for row in SET_ASIDE if row["disposition"] == "rejected"]
    for key in sorted({(row["environment"], row["instance_name"]) for row in EVENTS_SAID}):
        mine = [row for row in EVENTS_SAID if (row["environment"], row["instance_name"]) == key]
        refused = [row for row in rejected if (row["environment"], row["instance_name"]) == key]
        standing = [row for row in mine if row["event_id"] not in corrected]
        still = [row for row in refused if row["event_id"] not in corrected]
        late = [row for row in standing if not row["supersedes"]]
        late = [row for row in late if row["ingest_ts_utc"] - row["ts_utc"] > late_seconds * SECOND]
        unlinked = [row for row in standing if link_of(row) in UNLINKED]
        status: dict[tuple[str, str, str], Row] = {}
        for row in sorted(JUDGED, key=place):
            if (row["environment"], row["instance_name"]) == key and row["event_id"] not in corrected:
                for found in row["findings"]:
                    if found["status"] != "noted":
                        status[row["account"], found["code"], found["subject"]] = found
        open_ones = [found for found in status.values() if found["status"] == "opened"]
        severity = Counter(found["severity"] for found in open_ones)
        told = [row for row in standing if row["event_type"] == "system_gap"]
        yield {
            "environment": key[0],
            "instance_name": key[1],
            "events": len(standing),
            "late": len(late),
            "late_percent": round(100 * len(late) / len(standing), 2),
            "rejected": len(still),
            "rejected_percent": round(100 * len(still) / (len(standing) + len(still)), 2),
            "unlinked": len(unlinked),
            "unlinked_percent": round(100 * len(unlinked) / len(standing), 2),
            "gaps": len(told) + sum(found["code"] == "sequence_gap" for found in open_ones),
            "events_missing": sum(at(row, "count") for row in told),
            **{name: severity[name] for name in ("critical", "error", "warning")},
            "repaired": len(mine) + len(refused) - len(standing) - len(still),
        }


@expect("report_card")
def _() -> list[Row]:
    cards = list(_cards(60))
    (maker,) = (card for card in cards if card["instance_name"] == "bot1")
    assert (maker["rejected"], maker["repaired"], maker["events_missing"], maker["late"]) == (1, 2, 7, 1)
    return cards


@expect("report_card", late_seconds="7200", instance_name="turtle-1")
def _() -> list[Row]:
    (card,) = (card for card in _cards(7200) if card["instance_name"] == "turtle-1")
    assert card["late"] == 0
    return [card]


# Chains

LIFECYCLE = one("market_candle")
CANCELLED = one("order_cancelled")


def _chain(correlation_id: str) -> list[Row]:
    return [row for row in said() if chain_of(row) == correlation_id]


def _tree(correlation_id: str) -> Iterator[Row]:
    rows = _chain(correlation_id)
    ids = [row["event_id"] for row in rows]
    parents = {}
    for row in rows:
        parent = row["causation_id"] if row["causation_id"] in ids else ""
        if not parent and row["event_id"] != correlation_id and correlation_id in ids:
            parent = correlation_id
        parents[row["event_id"]] = parent

    def below(parent: str, depth: int) -> Iterator[Row]:
        for row in rows:
            if parents[row["event_id"]] == parent:
                names = "ts_utc instance_name trading_pair outcome order_id side price quantity event_id causation_id"
                event = "  " * depth + row["event_type"]
                yield show(row, names, depth=depth, event=event, link=link_of(row))
                yield from below(row["event_id"], depth + 1)

    return below("", 0)


@expect("tree", correlation_id=LIFECYCLE["event_id"])
def _() -> list[Row]:
    tree = list(_tree(LIFECYCLE["event_id"]))
    assert max(row["depth"] for row in tree) == 13
    return tree


@expect("tree", correlation_id=one("alert_received")["event_id"])
def _() -> list[Row]:
    return list(_tree(one("alert_received")["event_id"]))


@expect("tree", correlation_id=CANCELLED["event_id"])
def _() -> list[Row]:
    tree = list(_tree(CANCELLED["event_id"]))
    assert [row["depth"] for row in tree] == [0, 0, 0] or [row["depth"] for row in tree] == [0, 1, 1]
    return tree


@expect("tree", correlation_id="nothing")
@expect("chain", correlation_id="nothing")
def _() -> list[Row]:
    return []


@expect("chain", correlation_id=LIFECYCLE["event_id"])
def _() -> Iterator[Row]:
    names = "ts_utc instance_name event_type event_id causation_id link order_id side price quantity outcome findings"
    return (show(row, f"{names} payload raw_partition raw_offset") for row in _chain(LIFECYCLE["event_id"]))


@expect("chain", correlation_id=CANCELLED["event_id"])
def _() -> Iterator[Row]:
    return (show(row, "event_type event_id", link=link_of(row)) for row in _chain(CANCELLED["event_id"]))


# Turtle's rules

RULE = "ts_utc instance_name trading_pair event_type outcome event_id"
SIGNAL = "context.signal"


def rule(row: Row, *, kept: bool, wrong: Sequence[str] | None = None, names: str = "", **columns: Any) -> Row:
    told = {} if wrong is None else {"mismatches": list(wrong)}
    return show(row, f"{RULE} {names}", **columns, **told, kept=kept)


@expect("turtle_rule_03_volatility")
def _() -> Iterator[Row]:
    for row in said():
        n = at(row, "context.market.n")
        if n and "value" in n:
            wrong = mismatches(row, "market.n.value")
            kept = n.get("period") == 20 and n.get("smoothing") == "wilders" and not wrong
            yield rule(
                row, kept=kept, wrong=wrong, n_value=n["value"], period=n["period"], calculation=n["calculation"]
            )


@expect("turtle_rule_04_unit_size", instance_name="turtle-1")
def _() -> Iterator[Row]:
    figures = ("risk_dollars", "dollar_volatility", "raw_unit_size", "contracts")
    for row in said():
        sizing = at(row, "context.sizing")
        if sizing:
            wrong = mismatches(row, *(f"sizing.{name}" for name in figures))
            inputs = ("equity_notional", "risk_percent", "n_value", "point_value", "raw_unit_size", "contracts")
            columns = {name: sizing.get(name, "") for name in inputs}
            yield rule(row, kept=not wrong, wrong=wrong, names="order_id", **columns)


@expect("turtle_rule_05_drawdown")
def _() -> list[Row]:
    found = []
    for row in said():
        ignored = details(row, "drawdown_rule_ignored")
        triggered = at(row, "context.account.drawdown.triggered") is True
        if triggered or ignored:
            wrong = mismatches(row, "account.drawdown.current_percent", "account.equity_notional")
            names = ("equity_high_water", "equity_actual", "equity_notional")
            columns = {name: at(row, f"context.account.{name}") for name in names}
            kept = not ignored and not wrong
            found.append(rule(row, kept=kept, wrong=wrong, triggered=triggered, ignored=ignored, **columns))
    assert [row["kept"] for row in found] == [True, False]
    return found


def _breakouts(system: str, period: int) -> list[Row]:
    found = []
    for row in said("signal_generated"):
        named, outcome = at(row, f"{SIGNAL}.system"), row["outcome"] == f"breakout_{period}"
        if named == system or outcome:
            bars = at(row, f"{SIGNAL}.channel_period") or None
            kept = outcome and named in ("", system) and bars in (None, period)
            columns = {name: at(row, f"{SIGNAL}.{name}") for name in ("direction", "system", "trigger_price")}
            high = at(row, f"context.market.donchian.dc{period}.high")
            found.append(rule(row, kept=kept, channel_period=bars, channel_high=high, **columns))
    assert {row["kept"] for row in found} == {True, False}
    return found


@expect("turtle_rule_06_s1_breakout")
def _() -> list[Row]:
    return _breakouts("S1", 20)


@expect("turtle_rule_08_s2_breakout")
def _() -> list[Row]:
    return _breakouts("S2", 55)


@expect("turtle_rule_07_s1_filter")
def _() -> list[Row]:
    found = []
    for row in said("signal_evaluated"):
        s1_filter = at(row, "context.filters.s1_filter") or {}
        last = s1_filter.get("last_s1_trade", {})
        filtered = row["outcome"] == "filtered_s1"
        if filtered or (last.get("result") == "winner" and s1_filter.get("applied")):
            columns = {"last_result": last.get("result", ""), "last_pnl": last.get("pnl", "")}
            last_trade = raw(last or "")
            found.append(rule(row, kept=filtered, names="outcome_reason", last_trade=last_trade, **columns))
    assert {row["kept"] for row in found} == {True, False}
    return found


@expect("turtle_rule_09_s2_failsafe")
def _() -> list[Row]:
    found = []
    for row in said("signal_evaluated", outcome="filtered_s1"):
        signals = [r for r in said("signal_generated") if r["trading_pair"] == row["trading_pair"]]
        seen = next((r for r in signals if r["run_id"] == row["run_id"] and at(r, f"{SIGNAL}.direction")), None)
        direction = at(seen, f"{SIGNAL}.direction") if seen else ""
        later = (r for r in signals if r["outcome"] == "breakout_55" and r["ts_utc"] > row["ts_utc"])
        s2 = next((r for r in later if not direction or at(r, f"{SIGNAL}.direction") in ("", direction)), None)
        came_of_it = ""
        for other in said("signal_evaluated") if s2 else ():
            if (other["run_id"], other["trading_pair"]) == (s2["run_id"], s2["trading_pair"]):
                came_of_it = other["outcome"]
        found.append(
            show(
                row,
                "ts_utc instance_name trading_pair event_id",
                direction=direction,
                s2_ts_utc=s2 and COLUMNS["ts_utc"](s2),
                s2_event_id=s2["event_id"] if s2 else "",
                s2_outcome=came_of_it,
                kept=came_of_it != "filtered_s2_redundant",
            )
        )
    assert [(row["trading_pair"], row["direction"], row["kept"]) for row in found] == [
        ("SPY-USD", "", False),
        ("DIA-USD", "LONG", True),
    ]
    return found


@expect("turtle_rule_10_stop")
def _() -> list[Row]:
    found = []
    figures = ("sizing.stop_distance", "sizing.initial_stop", "position.stop_distance", "position.current_stop")
    for row in said():
        stops = {
            "initial_stop": at(row, "context.sizing.initial_stop"),
            "current_stop": at(row, "context.position.current_stop"),
        }
        if any(stops.values()):
            multiplier, wrong = at(row, "context.sizing.stop_multiplier"), mismatches(row, *figures)
            kept = multiplier in ("", "2") and not wrong
            distance = at(row, "context.position.stop_distance")
            columns = {"stop_multiplier": multiplier, "stop_distance": distance, **stops}
            found.append(rule(row, kept=kept, wrong=wrong, **columns))
    assert {row["kept"] for row in found} == {True, False}
    return found


@expect("turtle_rule_11_pyramid")
def _() -> list[Row]:
    found = []
    for row in said():
        if is_attempt(row) and at(row, "purpose") == "pyramid":
            pyramid, wrong = at(row, "context.pyramid"), mismatches(row, "pyramid.trigger_price")
            kept = pyramid["pyramid_interval"] == "0.5" and not wrong
            names = ("level", "last_entry_price", "n_at_last_entry", "pyramid_interval", "trigger_price")
            columns = {name: pyramid[name] for name in names} | {"calculation": pyramid["trigger_calculation"]}
            found.append(rule(row, kept=kept, wrong=wrong, names="order_id", **columns))
    assert [row["kept"] for row in found] == [True, True, True, False]
    return found


@expect("turtle_rule_12_stops_moved")
def _() -> list[Row]:
    found = []
    for row in said("order_filled"):
        if at(row, "purpose") != "pyramid":
            continue
        stops = said("stop_modified", trading_pair=row["trading_pair"], run_id=row["run_id"])
        stop = next((stop for stop in stops if stop["ts_utc"] >= row["ts_utc"]), None)
        units, to = at(row, "context.pyramid.units_after"), at(row, "context.pyramid.stop_after")
        moved = at(stop, "context.position.units", "context.pyramid.units_after") if stop else ""
        kept = stop is not None and stop["outcome"] != "failed" and moved in ("", units) and at(stop, "new_stop") == to
        wrong = mismatches(row, "pyramid.stop_after", "pyramid.stop_moved_by")
        found.append(
            show(
                row,
                "ts_utc instance_name trading_pair order_id event_id",
                open_units=units,
                stop_after=to,
                stops_ts_utc=stop and COLUMNS["ts_utc"](stop),
                stops_outcome=stop["outcome"] if stop else "",
                stop_from=at(stop, "old_stop") if stop else "",
                stop_to=at(stop, "new_stop") if stop else "",
                stop_units=moved,
                kept=kept and not wrong,
                mismatches=wrong,
                stop_event_id=stop["event_id"] if stop else "",
            )
        )
    assert [(row["trading_pair"], row["kept"]) for row in found] == [
        ("XLE-USD", False),
        ("XLU-USD", True),
        ("XLV-USD", False),
        ("XLK-USD", False),
        ("XLP-USD", False),
    ]
    return found


def _rule_exits(system: str, period: int) -> list[Row]:
    found = []
    for row in said("position_checked", *BROKER):
        trigger, held = at(row, "context.exit.trigger_type"), at(row, "context.position.system", f"{SIGNAL}.system")
        mine = trigger == f"donchian_{period}"
        if mine or (held == system and trigger.startswith("donchian_")):
            net = at(row, "context.exit.pnl.net_pnl")
            columns = {"system": held, "trigger_type": trigger, "net_pnl": net}
            found.append(rule(row, kept=mine and held in ("", system), names="order_id", **columns))
    assert {row["kept"] for row in found} == {True, False}
    return found


@expect("turtle_rule_13_s1_exit")
def _() -> list[Row]:
    return _rule_exits("S1", 10)


@expect("turtle_rule_14_s2_exit")
def _() -> list[Row]:
    return _rule_exits("S2", 20)


@expect("turtle_rule_16a_gap")
def _() -> list[Row]:
    found = []
    for row in said(*BROKER):
        gap = at(row, "context.order.gap") or {}
        opened = gap.get("executed_at_open", False)
        if opened or gap.get("gapped_through"):
            wrong = mismatches(row, "order.gap.gap_size", "order.gap.gap_percent")
            columns = {"gap_percent": gap["gap_percent"], "fill_price": at(row, "context.order.fill_price")}
            found.append(rule(row, kept=opened and not wrong, wrong=wrong, executed_at_open=opened, **columns))
    assert [row["kept"] for row in found] == [True, False]
    return found


@expect("turtle_rule_16b_fast_market")
def _() -> list[Row]:
    found = []
    for row in said(*BROKER):
        fast = at(row, "context.order.fast_market") or {}
        waited = fast.get("execution_delayed", False)
        if fast.get("detected") or waited or row["outcome"] == "delayed_fast_market":
            columns = {"delay_reason": fast.get("delay_reason", ""), "spread_at_signal": fast["spread_at_signal"]}
            found.append(rule(row, kept=waited, detected=True, execution_delayed=waited, **columns))
    assert [row["kept"] for row in found] == [True, False]
    return found


@expect("turtle_rule_17_risk_cap")
def _() -> list[Row]:
    found = []
    for row in said():
        exceeded = details(row, "risk_cap_exceeded")
        if row["outcome"] == "limit_risk_cap" or exceeded:
            total = at(row, "context.filters.limit_total")
            columns = {name: total[name] for name in ("mode", "current_risk_percent", "max_risk_percent")}
            kept = not exceeded
            found.append(
                rule(row, kept=kept, names="outcome_reason", exceeded=exceeded, limit_details=raw(total), **columns)
            )
    assert [row["kept"] for row in found] == [True, False]
    return found


# Those that are tested on rows made by hand too (test_queries, test_links), on this record

TAIL = (
    "ts_utc instance_name event_type trading_pair order_id side price quantity link correlation_id event_id raw_offset"
)


@expect("tail")
def _() -> Iterator[Row]:
    return (show(row, TAIL) for row in said()[:-51:-1])


@expect("tail", event_type="order_filled", instance_name="turtle-1", since="2026-09-21T13:13:22Z", n="4")
def _() -> Iterator[Row]:
    return (show(row, TAIL) for row in said("order_filled", instance_name="turtle-1")[:-5:-1])


@expect("counts")
def _() -> list[Row]:
    keys = ("environment", "instance_name", "event_type")
    n = Counter(tuple(row[key] for key in keys) for row in EVENTS_SAID)
    return [dict(zip(keys, key, strict=True)) | {"day": "2026-09-21", "n": n[key]} for key in sorted(n)]


@expect("links")
def _() -> list[Row]:
    n = Counter((row["instance_name"], link_of(row)) for row in EVENTS_SAID)
    return [{"instance_name": key[0], "link": key[1], "n": n[key]} for key in sorted(n)]


def per_instance(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    ordered = sorted(rows, key=lambda row: row["instance_name"])
    return [(name, list(mine)) for name, mine in groupby(ordered, key=lambda row: row["instance_name"])]


@expect("missing_correlation")
def _() -> Iterator[Row]:
    for name, mine in per_instance(EVENTS_SAID):
        n = Counter(link_of(row) for row in mine)
        counted = {link: n[link] for link in UNLINKED}
        yield {"instance_name": name, "events": len(mine), **counted, "ratio": sum(counted.values()) / len(mine)}


@expect("event_lag")
def _() -> Iterator[Row]:
    for name, mine in per_instance(EVENTS_SAID):
        lags = [(row["ingest_ts_utc"] - row["ts_utc"]) / SECOND for row in mine]
        yield {"instance_name": name, "events": len(mine), "max": max(lags)}


@expect("invalid_schema")
def _() -> Iterator[Row]:
    taken = [row for row in JUDGED if not row["derived_seq"]]
    for origin in sorted({row["instance_name"] or "source sdk" for row in taken}):
        mine = [row for row in taken if (row["instance_name"] or "source sdk") == origin]
        refused = sum(row["disposition"] == "rejected" for row in mine)
        yield {"origin": origin, "records": len(mine), "rejected": refused, "ratio": refused / len(mine)}


@expect("throughput")
def _() -> list[Row]:
    n = Counter(row["disposition"] for row in JUDGED if not row["derived_seq"])
    shown = {"accepted": n["accepted"], "duplicates": n["duplicate"], "rejected": n["rejected"]}
    return [{"minute": "2026-09-21T14:13:00Z", "records": n.total(), **shown, "peak_per_second": n.total()}]


@expect("completeness")
def _() -> Iterator[Row]:
    for partition in (0, 1):
        offsets = [row["raw_offset"] for row in JUDGED if row["raw_partition"] == partition and not row["derived_seq"]]
        yield {"raw_partition": partition, "rows": len(offsets), "last": max(offsets), "holes": 0, "doubles": 0}


@expect("count_delta")
def _() -> Iterator[Row]:
    declared = one("source_ended")["payload"]["events"]
    told = [row for row in JUDGED if row["source_id"] == "one" and not row["derived_seq"]]
    ids = {(row["event_type"], row["event_id"]) for row in told if row["disposition"] != "rejected"}
    stored = Counter(kind for kind, _ in ids if kind != "source_ended")
    for kind in sorted(stored.keys() | declared.keys()):
        count = declared.get(kind, 0)
        yield {"event_type": kind, "source_count": count, "store_count": stored[kind], "delta": count - stored[kind]}


@expect("quarantine", disposition="all")
def _() -> Iterator[Row]:
    for row in sorted(SET_ASIDE, key=lambda row: (row["ingest_ts_utc"], place(row))):
        yield show(row, "ingest_ts_utc instance_name event_type disposition", reasons=list(row["reasons"]))


@expect("quarantine")
def _() -> Iterator[Row]:
    rejected = (row for row in SET_ASIDE if row["disposition"] == "rejected")
    return (show(row, "event_id", file="a.jsonl", line=at(row, "line"), original="{}") for row in rejected)


def _subjects() -> dict[tuple[Any, ...], tuple[str, Row, Row]]:
    """(instance, code, subject, noted) → state, and the last entry with its event."""
    found: dict[tuple[Any, ...], tuple[str, Row, Row]] = {}
    for row in sorted(JUDGED, key=place):
        for entry in row["findings"]:
            noted = entry["status"] == "noted"
            state = "noted" if noted else {"opened": "open"}.get(entry["status"], "resolved")
            found[(*instance(row), entry["code"], entry["subject"], noted)] = (state, entry, row)
    return found


def _findings(status: str) -> list[Row]:
    subjects = {key: state for key, (state, *_) in _subjects().items() if status in (state, "all")}
    n = Counter((row[2], row[3]) for row in {key[:5] for key in subjects})
    return [{"instance_name": key[0], "code": key[1], "subjects": n[key]} for key in sorted(n)]


@expect("findings")
def _() -> list[Row]:
    return _findings("open")


@expect("findings", status="noted")
def _() -> list[Row]:
    return _findings("noted")


@expect("finding_details")
def _() -> Iterator[Row]:
    open_ones = [(entry, row) for state, entry, row in _subjects().values() if state == "open"]
    for entry, row in sorted(
        open_ones, key=lambda found: (found[1]["instance_name"], found[0]["code"], found[0]["subject"], place(found[1]))
    ):
        shown = {name: entry[name] for name in ("code", "severity", "subject", "detail", "status")}
        yield show(row, "instance_name event_id ts_utc event_type", **shown)


@expect("open_orders")
def _() -> list[Row]:
    keys = ("environment", "account", "instance_name", "connector_name", "trading_pair")
    orders: dict[tuple[Any, ...], list[Row]] = {}
    for row in said():
        if row["event_type"].startswith("order_") and at(row, "client_order_id"):
            orders.setdefault((*(row[key] for key in keys), at(row, "client_order_id")), []).append(row)
    found = []
    for key, rows in orders.items():
        kinds = [row["event_type"] for row in rows]
        if "order_created" not in kinds or set(kinds) & set(ORDER_ENDS):
            continue
        filled = sum((Decimal(at(row, "fill_qty_base") or 0) for row in rows), Decimal(0))
        created = rows[kinds.index("order_created")]
        found.append(
            dict(zip(keys, key, strict=False))
            | {"client_order_id": key[-1], "filled_base": exact(filled), "created_ts_utc": COLUMNS["ts_utc"](created)}
        )
    return sorted(found, key=lambda row: [row[key] for key in (*keys[:3], "created_ts_utc", "client_order_id")])


POSITION = ("environment", "account", "instance_name", "connector_name", "trading_pair")


@expect("positions")
def _() -> Iterator[Row]:
    for row in last_by((row for row in RECORD.risk if row["fills"]), *POSITION):
        figures = {name: exact(row[name]) for name in ("net_base", "avg_cost", "realised_quote")}
        yield {key: row[key] for key in POSITION} | figures


@expect("portfolio")
def _() -> Iterator[Row]:
    last = last_by((row for row in RECORD.risk if row["fills"]), *POSITION)
    quotes = sorted({(row["environment"], row["trading_pair"].rpartition("-")[2]) for row in last})
    for environment, quote in quotes:
        mine = [
            row for row in last if (row["environment"], row["trading_pair"].rpartition("-")[2]) == (environment, quote)
        ]
        marks = [
            (row["net_base"], row["last_price"] if row["mark_price"] is None else row["mark_price"]) for row in mine
        ]
        yield {
            "environment": environment,
            "quote_asset": quote,
            "positions": len(mine),
            "net_exposure": exact(sum((base * mark for base, mark in marks), Decimal(0))),
            "gross_exposure": exact(sum((abs(base) * mark for base, mark in marks), Decimal(0))),
            "realised": exact(sum((row["realised_quote"] for row in mine), Decimal(0))),
        }


@expect("risk")
def _() -> Iterator[Row]:
    n = Counter(instance(row) for row in RECORD.risk)
    for row in last_by(RECORD.risk, "environment", "account", "instance_name"):
        names = ("instance_name", "open_orders", "orders_created", "orders_cancelled", "orders_failed", "orders_1h")
        yield {name: row[name] for name in names} | {"figures": n[instance(row)]}


@expect("kills")
def _() -> list[Row]:
    kill = one("kill_ordered")
    by_code = Counter(row["code"] for row in _after_kill())
    return [
        show(
            kill,
            "",
            kill_id="kill-1",
            ordered_ts_utc=COLUMNS["ts_utc"](kill),
            why="loss",
            acknowledged=len(said("kill_acknowledged")),
            orders_after=by_code["order_after_kill"],
            signals_after=by_code["signal_after_kill"],
            reset_ts_utc=None,
        )
    ]


@expect("limits")
def _() -> list[Row]:
    told = one("limits_set")
    return [{"since": COLUMNS["ts_utc"](told), "set_by": "ann", "reason": "first", "limits": raw(at(told, "limits"))}]


# The tests


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serve(tmp_path_factory.mktemp("clickhouse")) as server:
        connected = Store(server.url)
        migrate.migrate(connected)
        accepted = [row for row in RECORD.audited if row["disposition"] == "accepted"]
        others = [row for row in RECORD.audited if row["disposition"] != "accepted"]
        for table, topic, rows in (
            (EVENTS, "audited", accepted),
            (QUARANTINE, "audited", others),
            (RISK, "risk", RECORD.risk),
            (ALERTS, "alerts", RECORD.alerts),
        ):
            connected.insert(table, output_schema(topic), [body(topic, row) for row in rows], table.name)
        yield connected
        connected.close()


def answer(store: Store, name: str, params: Mapping[str, str]) -> list[Row]:
    """The rows, payloads read: keys that no schema knows stand in them as their source spaced them."""
    rows = [json.loads(line) for line in b"".join(queries.run(store, name, params)).splitlines()]
    return [{**row, "payload": json.loads(row["payload"])} if "payload" in row else row for row in rows]


BY_PROGRAMS = {
    **dict.fromkeys(("baselines", "limits_in_force", "orders"), "test_reconcile.py"),
    **dict.fromkeys(("portfolio_exposures", "portfolio_figures", "portfolio_parts"), "test_reconcile.py"),
    "pnl_timeline": "test_travel.py",
}
"""Queries that commands ask, and where they are tested with them."""


@pytest.mark.req("S0-06", "S0-07", "S0-08", "S1-08", "S2-05", "S3-06", "S3-09", "N-01", "N-02", "S4-06", "S4-08")
@pytest.mark.parametrize("name", sorted(queries.listing().keys() - BY_PROGRAMS.keys()))
def test_a_named_query_answers_what_follows_from_the_record(store: Store, name: str) -> None:
    assert name in EXPECTED, f"no expectation for query {name}: every named query is tested"
    for params, expected in EXPECTED[name]:
        wanted = list(expected())
        found = answer(store, name, params)
        shown = [{key: row[key] for key in want} for row, want in zip(found, wanted, strict=False)]
        assert shown == wanted, f"{name} {params}"
        assert len(found) == len(wanted), f"{name} {params}"


@pytest.mark.req("S0-11")
@pytest.mark.parametrize("name", ["turtle-1", "catalyst-1", "quantum-1"])
def test_trades_are_recomputed_from_the_stored_bytes(store: Store, name: str) -> None:
    taken = [row for row in EVENTS_SAID if row["instance_name"] == name]
    events = [SCHEMAS[row["raw_schema_id"]].decode(row["raw"]) for row in taken]
    expected = statistics(events)
    found = trades.of_instance(store, SCHEMAS.get, name)
    assert expected
    assert [(trade["opened"], trade["exit_efficiency"]) for trade in found] == [
        (times.text(trade.opened), None if trade.exit_efficiency is None else text(trade.exit_efficiency))
        for trade in expected
    ]
    some = found[0]["position_id"]
    one_position = trades.of_instance(store, SCHEMAS.get, name, some)
    assert one_position == (found if not some else [trade for trade in found if trade["position_id"] == some])


@pytest.mark.req("S0-08")
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_expectation_is_of_a_query_and_not_always_empty(name: str) -> None:
    assert name in queries.listing()
    assert name == "immutability" or any(list(expected()) for _, expected in EXPECTED[name])


@pytest.mark.req("S1-09", "P-03")
def test_changed_and_missing_rows_leave_traces(store: Store) -> None:
    changes = "ALTER TABLE tradetape.alerts UPDATE message = 'nothing' WHERE code = 'order_after_kill'"
    store.command(changes, {"mutations_sync": 1})
    gone = SET_ASIDE[0]["raw_offset"]
    store.command(f"DELETE FROM tradetape.quarantine WHERE raw_offset = {gone}", {"mutations_sync": 1})
    rows = [audited(offset, partition=9) for offset in (0, 2, 2)]
    store.insert(EVENTS, output_schema("audited"), [body("audited", row) for row in rows], "broken")
    found = [
        (row["trace"], row["table"], row["raw_partition"], row["rows"]) for row in answer(store, "immutability", {})
    ]
    assert found == [
        ("missing", "events, quarantine", 0, 1),
        ("missing", "events, quarantine", 9, 1),
        ("statement", "alerts", None, None),
        ("statement", "quarantine", None, None),
    ]


def test_a_moment_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(TradetapeError):
        answer(store, "time_range", {"since": "yesterday-ish"})
