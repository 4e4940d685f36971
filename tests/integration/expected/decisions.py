"""What was decided and why: one market, one run, exits, failed orders, entries, the five questions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from tests.integration.expected.record import (
    BROKER,
    COLUMNS,
    Row,
    at,
    details,
    exact,
    expect,
    is_attempt,
    one,
    raw,
    said,
    show,
)
from tests.integration.recorded import run_id

from tradetape.schemas import times

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
