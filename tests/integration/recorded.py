"""One deterministic record of five bots: every kind of evidence that a named query looks for, judged by the core.

``turtle-1`` runs the five flows of Turtle's document (its own steps, with its own blocks filled in) and what its rules
3 to 17 are about, kept and broken. ``catalyst-1``, ``trend-1`` and ``quantum-1`` live through one trade each; the last
is killed and goes on. ``bot1`` is a market maker with records that are rejected, repaired, doubled, late and unlinked.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from tests.folding import INGEST, Partition, encode
from tests.producers.turtle_document import BLOCKS, flows, printed, whole
from tests.producers.turtle_rows import origin, record, row

from tradetape.producers.adapters import turtle
from tradetape.producers.events import new_event
from tradetape.producers.unmapped import unmapped
from tradetape.schemas import times

SECOND = 1_000_000
START = INGEST - 3_600 * SECOND
"""When the bots begin: an hour before Kafka takes the first of it in, which is late."""

Event = dict[str, Any]
_numbers = itertools.count(1)


def event_id(number: int) -> str:
    return str(uuid.UUID(int=number, version=4))


# Turtle


def run_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def laid_over(block: Any, more: Any) -> Any:
    """``block`` with the values of ``more`` in their places."""
    if not isinstance(block, dict) or not isinstance(more, dict):
        return more
    return {**block, **{key: laid_over(block.get(key), value) for key, value in more.items()}}


def blocks(*names: str, **more: Any) -> dict[str, Any]:
    """The document's context blocks of these names, ``more`` laid over them."""
    said: dict[str, Any] = laid_over({name: BLOCKS[name] for name in names}, more)
    return said


Step = tuple[str, str, str | None, Any]
"""Native type, outcome, symbol and context of one line of a run."""


def documented() -> Iterator[tuple[str, list[Step]]]:
    """The five flows as the document prints them."""
    for title, steps in flows():
        made: list[Step] = []
        for native_type, step in steps:
            symbol, outcome, context = printed(step)
            made.append((native_type, outcome or "executed", symbol, whole(native_type, context)))
        yield title, made


GAP = {"gap": {"is_gap_open": True, "gapped_through": True, "executed_at_open": True, "gap_direction": "up"}}
MISSED_GAP = {"gap": {"is_gap_open": True, "gapped_through": True, "executed_at_open": False}}
FAST = {"fast_market": {"detected": True, "execution_delayed": True, "delay_reason": "spread 0.90 above 0.50"}}
RUSHED = {"fast_market": {"detected": True, "execution_delayed": False}}
REDUCED = {
    "equity_actual": 49000.00,
    "equity_notional": 39200.00,
    "drawdown": {"current_percent": 10.9, "triggered": True},
}
SIZED = {"equity_notional": 39200.00, "risk_dollars": 196.00, "raw_unit_size": 23.00, "contracts": 23} | {
    "position_value": 12039.35
}
UNREDUCED = {"equity_actual": 49000.00, "equity_notional": 49000.00, "drawdown": {"current_percent": 10.9}}
S1_LONG = {"system": "S1", "direction": "LONG", "channel_period": 20, "trigger_price": 540.00}
S2_LONG = {"system": "S2", "direction": "LONG", "channel_period": 55, "trigger_price": 550.00}
S1_HELD = {"system": "S1", "direction": "LONG"}


def turns() -> Iterator[tuple[str, list[Step]]]:
    """What the rules are about beyond the flows, run by run."""
    yield (
        "skipped",
        [
            ("SIGNAL_DETECTED", "breakout_20", "DIA", blocks("market", signal=S1_LONG)),
            ("SIGNAL_EVALUATED", "filtered_s1", "DIA", blocks("market", "filters")),
            ("SIGNAL_DETECTED", "breakout_20", "GLD", blocks("market", signal={**S1_LONG, "channel_period": 30})),
            ("SIGNAL_EVALUATED", "approved", "GLD", blocks("market", "account", "filters")),
            ("SIGNAL_DETECTED", "no_breakout", "IWM", blocks("market")),
        ],
    )
    yield (
        "failsafe",
        [
            ("SIGNAL_DETECTED", "breakout_55", "DIA", blocks("market", signal={**S2_LONG, "direction": "SHORT"})),
            ("SIGNAL_DETECTED", "breakout_55", "SPY", blocks("market", signal=S2_LONG)),
            ("SIGNAL_EVALUATED", "filtered_s2_redundant", "SPY", blocks("market", signal=S2_LONG)),
        ],
    )
    yield (
        "later",
        [
            ("SIGNAL_DETECTED", "breakout_55", "DIA", blocks("market", signal=S2_LONG)),
            ("SIGNAL_EVALUATED", "approved", "DIA", blocks("market", signal=S2_LONG)),
            ("SIGNAL_DETECTED", "breakout_55", "XLE", blocks("market", signal={**S2_LONG, "channel_period": 50})),
            ("SIGNAL_EVALUATED", "limit_risk_cap", "XLE", blocks("market", "filters")),
        ],
    )
    yield (
        "capped",
        [
            (
                "SIGNAL_EVALUATED",
                "approved",
                "XLF",
                blocks("market", "signal", sizing=BLOCKS["sizing"])
                | {"filters": laid_over(BLOCKS["filters"], {"limit_total": {"current_risk_percent": 19.9}})},
            ),
            ("POSITION_CHECKED", "hold", "TLT", blocks(market={"n": {**BLOCKS["market"]["n"], "period": 14}})),
        ],
    )
    yield (
        "drawdown",
        [
            ("ENTRY_ATTEMPTED", "submitted", "EEM", _order("e1", account=REDUCED, sizing=SIZED)),
            ("ENTRY_FILLED", "filled_at_gap", "EEM", _order("e1", order=GAP)),
            ("ENTRY_ATTEMPTED", "submitted", "EFA", _order("e2", account=UNREDUCED, sizing={"stop_multiplier": 3.0})),
            ("ENTRY_FILLED", "filled", "EFA", _order("e2", order=MISSED_GAP)),
            ("ENTRY_ATTEMPTED", "delayed_fast_market", "UNG", _order("e3", order=FAST)),
            ("ENTRY_ATTEMPTED", "rejected", "UNG", _order("e4", order=RUSHED)),
            ("ENTRY_ATTEMPTED", "market_closed", "USO", blocks("order", order={"order_id": "e5"})),
        ],
    )
    yield (
        "exits",
        [
            ("EXIT_ATTEMPTED", "submitted", "EEM", _leave("x1", S1_HELD, "donchian_10")),
            ("EXIT_FILLED", "filled", "EEM", _leave("x1", S1_HELD, "donchian_10")),
            ("EXIT_ATTEMPTED", "submitted", "EFA", _leave("x2", S1_HELD, "donchian_20")),
            ("EXIT_FILLED", "filled", "EFA", _leave("x2", {"system": "S2"}, "donchian_20")),
        ],
    )
    held = {"units": 2}
    moved = {"stop_before": 47.77, "stop_after": 48.38, "units_after": 2}
    yield (
        "pyramid kept",
        [
            ("PYRAMID_ATTEMPTED", "submitted", "XLU", _order("p1", pyramid={})),
            ("PYRAMID_FILLED", "filled", "XLU", _order("p1", pyramid={})),
            ("STOP_MODIFIED", "executed", "XLU", blocks("pyramid", position=held)),
            ("PYRAMID_ATTEMPTED", "submitted", "XLV", _order("p2", pyramid={"pyramid_interval": 1.0})),
            ("PYRAMID_FILLED", "filled", "XLV", _order("p2", pyramid={})),
            ("STOP_MODIFIED", "failed", "XLV", {"pyramid": moved}),
            ("PYRAMID_FILLED", "filled", "XLK", _order("p3", pyramid={})),
            ("STOP_MODIFIED", "executed", "XLK", {"pyramid": moved, "position": {"units": 1}}),
            ("PYRAMID_FILLED", "filled", "XLP", _order("p4", pyramid={})),
        ],
    )


def _order(order_id: str, **more: Any) -> dict[str, Any]:
    names = {"market", "account", "order", "signal", "sizing", *more}
    return blocks(*sorted(names), order={"order_id": order_id}) | {
        name: laid_over(BLOCKS[name], laid_over(value, {"order_id": order_id} if name == "order" else {}))
        for name, value in more.items()
    }


def _leave(order_id: str, position: dict[str, Any], trigger: str) -> dict[str, Any]:
    context = blocks("market", "order", "position", "exit", order={"order_id": order_id}, position=position)
    return laid_over(context, {"exit": {"reason": "breakout_exit", "trigger_type": trigger}})


def turtles() -> Iterator[Event]:
    """The events of turtle-1, by its adapter."""
    for name, steps in [*documented(), *turns()]:
        for sequence, (native_type, outcome, symbol, context) in enumerate(steps, 1):
            made = row(
                native_type,
                outcome,
                context,
                symbol=symbol,
                sequence=sequence + (name == "capped"),
                run_id=run_id(name),
                timestamp=times.text(moment()),
                outcome_reason=f"{outcome} in {name}",
                source="monitor" if "exit" in name.lower() or "pyramid" in name.lower() else "scanner",
            )
            yield turtle.from_record(origin(), record(made), position=next(_positions))


_positions = itertools.count(1)
_clock = itertools.count(START, 250_000)


def moment() -> int:
    """A quarter of a second after the last one."""
    return next(_clock)


# The others


def say(event_type: str, payload: dict[str, Any], *, after: Event | None = None, **fields: Any) -> Event:
    """An event; ``after`` is its cause, in whose chain it is."""
    own = event_id(next(_numbers))
    chain = {"correlation_id": after["correlation_id"], "causation_id": after["event_id"]} if after else {}
    given = {"ts_utc": moment(), "producer": "test", "event_id": own, "correlation_id": own, **chain, **fields}
    return new_event(event_type, payload=payload, **given)


def catalyst() -> Iterator[Event]:
    """An alert that is traded, one that is skipped, and the position from its opening to its stop."""
    bot = {"instance_name": "catalyst-1", "connector_name": "alpaca", "trading_pair": "AAPL-USD"}
    sequence = itertools.count(1)

    def of(aggregate_type: str, aggregate_id: str, number: int | None = None) -> dict[str, Any]:
        return bot | {
            "aggregate_type": aggregate_type,
            "aggregate_id": aggregate_id,
            "aggregate_sequence": next(sequence) if number is None else number,
        }

    received = say("alert_received", {"alert_id": "al-1", "title": "guidance raised"}, **of("alert", "al-1", 1))
    classified = say(
        "alert_classified", {"alert_id": "al-1", "score": "0.91"}, after=received, **of("alert", "al-1", 2)
    )
    decided = say(
        "alert_decided",
        {"alert_id": "al-1", "decision": "trade", "reasoning": "score above 0.8", "signal_id": "sg-1"},
        after=classified,
        **of("alert", "al-1", 3),
    )
    yield from (received, classified, decided)
    order = {"client_order_id": "ca-1", "side": "buy", "order_type": "market", "amount_base": "100", "is_live": True}
    created = say("order_created", {**order, "signal_id": "sg-1"}, after=decided, **of("order", "ca-1", 1))
    fill = {
        "client_order_id": "ca-1",
        "fill_price": "150.25",
        "fill_qty_base": "60",
        "fill_qty_quote": "9015",
        "fee_asset": "USD",
        "fee_amount": "1.5",
        "liquidity_side": "taker",
        "side": "buy",
    }
    first = say("order_filled", {**fill, "fill_id": "f1"}, after=created, **of("order", "ca-1", 2))
    second = say(
        "order_filled",
        {**fill, "fill_id": "f2", "fill_qty_base": "40", "fill_qty_quote": "6010"},
        after=created,
        **of("order", "ca-1", 3),
    )
    opened = say(
        "position_opened",
        {"position_id": "ps-1", "side": "long", "quantity": "100", "entry_price": "150.25", "signal_id": "sg-1"},
        after=second,
        **of("position", "ps-1", 1),
    )
    yield from (created, first, second, opened)
    before = Decimal("150.25")
    for number, price in enumerate(("151", "149.5", "147.125"), 2):
        now = Decimal(price)
        yield say(
            "position_priced",
            {
                "position_id": "ps-1",
                "old_price": str(before),
                "new_price": price,
                "new_unrealized_pnl": str((now - Decimal("150.25")) * 100),
            },
            after=opened,
            **of("position", "ps-1", number),
        )
        before = now
    stopped = say(
        "stop_triggered",
        {"position_id": "ps-1", "stop_type": "stop_loss", "trigger_price": "147.125", "stop_price": "147.5"},
        after=opened,
        **of("position", "ps-1", 5),
    )
    yield stopped
    yield say(
        "position_closed",
        {
            "position_id": "ps-1",
            "entry_price": "150.25",
            "exit_price": "147",
            "quantity": "100",
            "realized_pnl": "-325",
            "exit_reason": "stop_loss",
        },
        after=stopped,
        **of("position", "ps-1", 7),
    )
    yield say("alert_skipped", {"alert_id": "al-2", "reason": "below 0.8"}, **of("alert", "al-2", 1))


def trend() -> Iterator[Event]:
    """A cycle that takes one symbol, leaves others out, and is refused by its risk rules."""
    bot = {"instance_name": "trend-1", "connector_name": "binance", "environment": "testnet", "run_id": "trend-run"}
    numbers = itertools.count(1)

    def told(event_type: str, payload: dict[str, Any], pair: str = "BTC-USDT", **fields: Any) -> Event:
        return say(event_type, payload, **{**bot, "trading_pair": pair, "sequence": next(numbers), **fields})

    yield told("system_started", {"version": "0.1.0"}, "")
    yield told("symbol_filtered", {"symbol": "DOGEUSDT", "reason": "volume below 10M"}, "DOGE-USDT")
    proposed = told(
        "trade_requested", {"trade_id": "t-1", "side": "buy", "entry_price": "42000", "stop_price": "41000"}
    )
    yield proposed
    reasons = {"decision": "rejected", "trade_id": "t-1", "reasons": ["daily loss", "cooldown"]}
    yield told("risk_evaluated", reasons, after=proposed)
    yield told("entry_skipped", {"reason": "risk rejected"}, after=proposed)
    next(numbers)
    yield told("circuit_breaker_triggered", {"reason": "3 losses in a row"}, "")
    yield told("system_stopped", {"reason": "operator", "initiated_by": "ann"}, "")


def quantum() -> Iterator[Event]:
    """The trade lifecycle in one chain, then a kill that comes too late for an order and a signal."""
    bot = {"instance_name": "quantum-1", "connector_name": "binance", "trading_pair": "ETH-USDT", "account": "main"}

    def told(event_type: str, payload: dict[str, Any], after: Event | None = None, **fields: Any) -> Event:
        return say(event_type, payload, after=after, **{**bot, **fields})

    candle = told(
        "market_candle",
        {"interval": "1m", "open": "2000", "high": "2020", "low": "1990", "close": "2010", "volume": "7"},
    )
    regime = told("regime_classified", {"regime": "trending", "confidence": "0.8"}, candle)
    signal = told("signal_generated", {"signal_id": "qs-1", "action": "LONG", "execution_power": "NONE"}, regime)
    logged = told(
        "decision_logged",
        {"service": "risk_kernel", "decision_type": "risk_evaluation", "reasoning": "all dimensions passed"},
        signal,
    )
    approved = told("risk_evaluated", {"decision": "approved", "signal_id": "qs-1", "evaluation_id": "ev-1"}, signal)
    request = told("trade_requested", {"request_id": "rq-1", "evaluation_id": "ev-1", "side": "buy"}, approved)
    order = {"side": "buy", "order_type": "limit", "price": "2010.5", "amount_base": "0.5", "is_live": True}
    created = told("order_created", {"client_order_id": "qo-1", "request_id": "rq-1", **order}, request)
    fill = {
        "fill_price": "2010.5",
        "fill_qty_base": "0.5",
        "fill_qty_quote": "1005.25",
        "fee_asset": "USDT",
        "fee_amount": "0.4",
        "liquidity_side": "maker",
    }
    filled = told("order_filled", {"client_order_id": "qo-1", "side": "buy", **fill}, created)
    opened = told(
        "position_opened",
        {"position_id": "qp-1", "side": "long", "quantity": "0.5", "entry_price": "2010.5"},
        filled,
    )
    state = told("position_state", {"position_id": "qp-1", "current_price": "1900", "unrealized_pnl": "-55.25"}, opened)
    decided = told("exit_decided", {"position_id": "qp-1", "decision": "exit_full", "reason": "regime_exit"}, state)
    held = told("exit_decided", {"position_id": "qp-1", "decision": "hold", "reason": "noise"}, opened)
    closing = told("order_created", {"client_order_id": "qo-2", **order, "side": "sell", "price": "1899"}, decided)
    out = told("order_filled", {"client_order_id": "qo-2", "side": "sell", **fill, "fill_price": "1899"}, closing)
    closed = told(
        "position_closed",
        {"position_id": "qp-1", "exit_price": "1899", "realized_pnl": "-55.75", "exit_reason": "regime"},
        out,
    )
    lifecycle = [candle, regime, signal, logged, approved, request, created, filled, opened, held, state, decided]
    yield from [*lifecycle, closing, out, closed]
    yield told("risk_status", {"daily_pnl_percent": "-5.2"}, closed)
    yield KILL
    yield told("signal_generated", {"signal_id": "qs-2", "action": "LONG", "execution_power": "FULL"})
    yield told("order_created", {"client_order_id": "qo-3", **order})
    yield told("kill_acknowledged", {"kill_id": "kill-1", "action": "cancel_all"})
    yield told("risk_decision", {"approved": False, "decision": "hard_stop", "reason": "killed", "policy_name": "kill"})


KILL = say(
    "kill_ordered",
    {
        "kill_id": "kill-1",
        "trigger": "operator",
        "account": "*",
        "instance": "quantum-*",
        "ordered_by": "ann",
        "reason": "loss",
    },
    instance_name="",
    ts_utc=START + 20 * SECOND,
)
LIMITS = say(
    "limits_set",
    {"limits": {"limit": []}, "digest": "d-1", "set_by": "ann", "reason": "first"},
    instance_name="",
    ts_utc=START,
)


def maker() -> Iterator[Event]:
    """Orders of bot1: unlinked, doubled, late, rejected and repaired, with keys that no schema knows."""
    bot = {"instance_name": "bot1", "connector_name": "kucoin", "trading_pair": "ONE-USDT", "source_id": "one"}
    fresh = {**bot, "ts_utc": INGEST}
    order = {"client_order_id": "m-1", "side": "buy", "order_type": "limit", "price": "2.5", "amount_base": "10"}
    yield say("order_created", {**order, "is_live": True, "desk": "alpha", "tags": {"tier": 2}}, **bot)
    unlinked = {"correlation_id": "", "legacy": True}
    yield say("heartbeat", {"service": "maker", "desk": "beta"}, **fresh) | unlinked
    lost = {
        "client_order_id": "m-2",
        "fill_price": "2.4",
        "fill_qty_base": "4",
        "fill_qty_quote": "9.6",
        "fee_asset": "USDT",
        "fee_amount": "0.1",
        "liquidity_side": "maker",
        "side": "buy",
    }
    waiting = say("order_filled", lost, **fresh) | unlinked
    yield waiting
    yield say("order_created", {**order, "client_order_id": "m-2", "is_live": True}, **fresh) | unlinked
    yield waiting
    wrong = say("order_filled", {**lost, "client_order_id": "m-3", "fill_price": "0"}, **fresh)
    yield wrong
    yield say("order_filled", {**lost, "client_order_id": "m-1"}, **fresh, supersedes=wrong["event_id"])
    for number in (1, 2):
        bad = event_id(10_000 + number)
        fields = {**bot, "producer": "test", "event_id": bad, "correlation_id": bad, "ts_utc": START + number}
        error = "missing_payload_key: client_order_id"
        yield unmapped(format="kucoin", error=error, native=b"{}", fields=fields, location="a.jsonl", line=number)
    yield say("order_cancelled", {"client_order_id": "m-2"}, **fresh, supersedes=event_id(10_001))
    yield say("system_gap", {"stream": "events", "reason": "trimmed", "count": 7}, **fresh)
    yield say("source_ended", {"rows": {"OrderStatus": 4}, "events": {"order_created": 2, "order_filled": 9}}, **fresh)


# As it is judged


class Recorded(NamedTuple):
    """What the core says of it, in the order of position: verdicts with what they caused, figures, alerts."""

    audited: list[dict[str, Any]]
    risk: list[dict[str, Any]]
    alerts: list[dict[str, Any]]


@cache
def recorded() -> Recorded:
    """Two partitions of it, a control record in both, folded in memory."""
    made = Recorded([], [], [])
    for number, events in enumerate(
        ([LIMITS, *turtles(), *maker(), KILL], [LIMITS, *catalyst(), *trend(), *quantum()])
    ):
        partition = Partition(number)
        for event in events:
            partition.now += 1_000
            for output in partition.take([encode(event)]):
                made.audited.extend((output.audited, *output.derived))
                made.risk.extend([output.risk] if output.risk else [])
                made.alerts.extend(output.alerts)
    return made
