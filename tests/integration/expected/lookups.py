"""Events by their type, time, aggregate, order, position, id, and what their payload holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.integration.expected.record import (
    EVENTS_SAID,
    JUDGED,
    SET_ASIDE,
    Row,
    at,
    exact,
    expect,
    one,
    place,
    raw,
    said,
    show,
)

from tradetape.schemas import times

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
