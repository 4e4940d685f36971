"""How complete and clean the record is: counts, health, orders after a kill, report cards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from tests.integration.expected.record import (
    COLUMNS,
    EVENTS_SAID,
    JUDGED,
    SET_ASIDE,
    UNLINKED,
    Row,
    at,
    details,
    expect,
    link_of,
    place,
    said,
    show,
)
from tests.integration.recorded import SECOND

from tradetape.schemas import times


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


def after_kill() -> list[Row]:
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
    return after_kill()


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
