"""Which of Turtle's rules were kept, event by event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.integration.expected.record import (
    BROKER,
    COLUMNS,
    Row,
    at,
    details,
    expect,
    is_attempt,
    mismatches,
    raw,
    said,
    show,
)

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
