"""The way of an event through the processor: validate → link → check lineage → fold risk.

A pure function of (state, raw record): no I/O, no clock, no other topic. The live worker, replay and every test call
this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tradetape.processors import correlation, lineage, outputs, reading, repeats, risk, sequences
from tradetape.processors.findings import ALERTING, NOTED, OPENED, Finding, finding
from tradetape.processors.reading import RawRecord, Reading, SchemaById
from tradetape.processors.state import Order, PartitionState

ACCEPTED, DUPLICATE, REJECTED = "accepted", "duplicate", "rejected"

CLOCK_TOLERANCE = 5 * 60 * 1_000_000
"""Microseconds by which a producer's clock may run ahead of the broker's."""

ADVISORY = "NONE"
"""The only execution_power that a signal may have (S4-11)."""


class Output(NamedTuple):
    """What one raw record causes, in the order of derived_seq."""

    audited: dict[str, Any]
    risk: dict[str, Any] | None = None
    alerts: tuple[dict[str, Any], ...] = ()


def process(raw: RawRecord, state: PartitionState, schema_by_id: SchemaById) -> Output:
    """Judge ``raw`` and fold it into ``state``. Whatever the bytes, it returns a verdict (P-08)."""
    read = reading.read(raw, schema_by_id)
    event, event_type = read.event, read.event_type
    if event is None or event_type is None:
        return _rejected(raw, read)
    repeated = repeats.check(event, state)
    if repeated:
        return _duplicate(raw, read, repeated)
    read.violations = reading.judge(event, event_type)
    if read.violations:
        sequences.pass_over(event, state)
        return _rejected(raw, read)
    order = _order(event, state)
    if order is not None and lineage.is_repeated_fill(order, event):
        return _duplicate(raw, read, repeats.REPEATED)
    repeats.remember(event, state)
    link = correlation.link(event)
    findings = _event_findings(raw, event) + sequences.observe(event, state)
    figures = None
    if order is not None:
        was_open = order.is_open
        findings += lineage.observe(order, event)
        state.touch(order, *risk.order_key(event))
        figures, risk_findings = risk.observe(event, order, was_open, state)
        findings += risk_findings
    elif event["event_type"] == "order_failed":
        figures, _ = risk.observe(event, None, False, state)
    verdict = outputs.audited(raw, read, disposition=ACCEPTED, link=link, findings=findings)
    return _with_derived(raw, event, verdict, figures, findings)


def _order(event: Mapping[str, Any], state: PartitionState) -> Order | None:
    return state.get(Order, *risk.order_key(event)) if lineage.order_id(event) else None


def _rejected(raw: RawRecord, read: Reading) -> Output:
    codes = list(dict.fromkeys(violation.code for violation in read.violations))
    detail = "; ".join(f"{violation.code}: {violation.detail}" for violation in read.violations)
    return Output(outputs.audited(raw, read, disposition=REJECTED, reasons=codes, reason_detail=detail[:2_000]))


def _duplicate(raw: RawRecord, read: Reading, reason: str) -> Output:
    event = read.event or {}
    findings = [finding("duplicate_event_id", OPENED, event["event_id"])] if reason == repeats.DUPLICATE_ID else []
    return Output(outputs.audited(raw, read, disposition=DUPLICATE, reasons=[reason], findings=findings))


def _event_findings(raw: RawRecord, event: Mapping[str, Any]) -> list[Finding]:
    """What the event shows by itself, whatever came before it."""
    found: list[Finding] = []
    if event["precision_rounded"]:
        found.append(finding("precision_rounded", OPENED, event["event_id"], _keys(event["precision_rounded"])))
    if event["ts_utc"] > raw.timestamp + CLOCK_TOLERANCE:
        ahead = (event["ts_utc"] - raw.timestamp) // 1_000_000
        found.append(finding("clock_ahead", OPENED, event["event_id"], f'{{"ahead_seconds":{ahead}}}'))
    payload = event["payload"]
    price = payload.get("fill_price") if event["event_type"] == "order_filled" else payload.get("price")
    if price is not None and not price:
        found.append(finding("zero_price", OPENED, event["event_id"]))
    if event["assumed"]:
        found.append(finding("value_assumed", NOTED, event["event_id"], _keys(event["assumed"])))
    power = payload.get("execution_power")
    if power is not None and power.upper() != ADVISORY:
        found.append(finding("execution_power_not_none", OPENED, event["event_id"], _power(power)))
    return found


def _power(claimed: str) -> str:
    return json.dumps({"expected": ADVISORY, "recorded": claimed[:80]}, separators=(",", ":"))


def _keys(names: list[str]) -> str:
    return json.dumps({"keys": names}, separators=(",", ":"))


def _with_derived(
    raw: RawRecord,
    event: Mapping[str, Any],
    verdict: dict[str, Any],
    figures: risk.Figures | None,
    findings: list[Finding],
) -> Output:
    derived_seq = 0
    figure = None
    if figures is not None:
        derived_seq += 1
        figure = outputs.risk_figure(raw, event, figures, derived_seq)
    alerts = []
    for found in findings:
        if found.status == OPENED and found.severity in ALERTING:
            derived_seq += 1
            alerts.append(outputs.alert(raw, event, found, derived_seq))
    return Output(verdict, figure, tuple(alerts))
