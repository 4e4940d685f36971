"""Counts, ratios, findings, orders, positions and risk: queries that are tested on rows made by hand too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from typing import Any

from tests.integration.expected.quality import after_kill
from tests.integration.expected.record import (
    COLUMNS,
    EVENTS_SAID,
    JUDGED,
    ORDER_ENDS,
    RECORD,
    SET_ASIDE,
    UNLINKED,
    Row,
    at,
    exact,
    expect,
    instance,
    last_by,
    link_of,
    one,
    place,
    raw,
    said,
    show,
)
from tests.integration.recorded import SECOND

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
    by_code = Counter(row["code"] for row in after_kill())
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
