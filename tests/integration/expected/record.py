"""The record of five bots as Python holds it, its rows as answers show them, and what is expected of each query."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from tests.integration.recorded import Recorded, recorded

from tradetape.schemas import times

Row = dict[str, Any]
Answer = Callable[[], Iterable[Row]]


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


EXPECTED: dict[str, list[tuple[dict[str, str], Answer]]] = {}


def expect(name: str, **params: str) -> Callable[[Answer], Answer]:
    """Register what the query ``name`` must answer with ``params``: columns that are left out are not compared."""

    def register(answer: Answer) -> Answer:
        EXPECTED.setdefault(name, []).append((params, answer))
        return answer

    return register


def one(event_type: str, **fields: Any) -> Row:
    return said(event_type, **fields)[0]
