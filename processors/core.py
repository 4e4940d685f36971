"""The way of an event through the processor: validate → link → check lineage → fold risk → hold it against limits.

A pure function of (state, raw record): no I/O, no clock, no other topic. The live worker, replay and every test call
this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import localcontext
from typing import Any, NamedTuple

from tradetape.processors import (
    correlation,
    expiry,
    lineage,
    outputs,
    reading,
    repeats,
    risk,
    semantics,
    sequences,
    trade_statistics,
    trading_state,
)
from tradetape.processors.control import watch
from tradetape.processors.correlation import Cause, Link
from tradetape.processors.findings import ALERTING, NOTED, OPENED, Finding, detail, finding
from tradetape.processors.lineage import Order
from tradetape.processors.portfolio import deltas
from tradetape.processors.reading import RawRecord, Reading, SchemaById
from tradetape.processors.sequences import Track
from tradetape.processors.state import PartitionState
from tradetape.processors.trade_statistics import Trade
from tradetape.processors.trading_state import Changes
from tradetape.schemas.catalogue import EventType
from tradetape.schemas.numbers import WIDE
from tradetape.schemas.rules import Violation

EXPIRING = {kind.KEY: kind for kind in (Order, Link, Cause, Track, Trade)}
"""The kinds of records that a partition forgets in time."""

ACCEPTED, DUPLICATE, REJECTED = "accepted", "duplicate", "rejected"


class Output(NamedTuple):
    """What one raw record causes, in the order of derived_seq."""

    audited: dict[str, Any]
    derived: tuple[dict[str, Any], ...] = ()
    risk: dict[str, Any] | None = None
    deltas: tuple[dict[str, Any], ...] = ()
    alerts: tuple[dict[str, Any], ...] = ()


def process(raw: RawRecord, state: PartitionState, schema_by_id: SchemaById) -> Output:
    """Judge ``raw`` and fold it into ``state``. Whatever the bytes, it returns a verdict (P-08)."""
    with localcontext(WIDE):  # so that no figure is rounded by what the thread was set to
        return _judge(raw, state, schema_by_id)


def _judge(raw: RawRecord, state: PartitionState, schema_by_id: SchemaById) -> Output:
    read = reading.read(raw, schema_by_id)
    event, event_type = read.event, read.event_type
    if event is None or event_type is None or read.written is None:
        return _rejected(raw, read)
    unfit = _write_payload(raw, read, event, read.written)
    if read.violations:
        return _rejected(raw, read)
    repeated = repeats.check(event, state)
    if repeated:
        return _duplicate(raw, read, repeated)
    read.violations = reading.judge(event, event_type) + unfit
    if read.violations:
        sequences.pass_over(raw, event, state)
        return _rejected(raw, read)
    order_key = risk.order_key(event) if lineage.order_id(event) else ()
    order = state.get(Order, *order_key) if order_key else None
    if order is not None and lineage.is_repeated_fill(order, event):
        return _duplicate(raw, read, repeats.REPEATED)
    repeats.remember(raw, event, state)
    linked = correlation.link(raw, event, state)
    findings = [*linked.findings, *_forgotten(raw, event, state)]
    findings += semantics.observe(raw, event, event_type, state) + sequences.observe(raw, event, state)
    opened = 0
    if order is not None:
        was_open = order.is_open
        findings += lineage.observe(order, event, carried=linked.link in correlation.CARRIED)
        opened = order.is_open - was_open
        expiry.touch(state, order, raw.timestamp, *order_key)
    figures, risk_findings = risk.observe(raw, event, order, opened, state)
    figure = None if figures is None else outputs.risk_figure(raw, event, figures)
    findings += risk_findings + trade_statistics.observe(raw, event, state)
    derived = [outputs.link_resolved(raw, event, resolved) for resolved in linked.resolved]
    changes = trading_state.observe(raw, event, state)
    if changes is not None:
        findings += _unexpected(event, changes)
        derived += _trading_state(raw, event, changes, state)
    findings += watch.take(raw.timestamp, event, state) + watch.observe(raw.timestamp, event, figure, state)
    verdict = outputs.audited(
        raw, read, disposition=ACCEPTED, link=linked.link, linked_by=linked.linked_by, findings=findings
    )
    return _numbered(
        verdict,
        derived=derived,
        figure=figure,
        changes=_deltas(raw, event, figure, opened, state),
        alerts=[
            outputs.alert(raw, event, found)
            for found in findings
            if found.status == OPENED and found.severity in ALERTING
        ],
    )


def _write_payload(raw: RawRecord, read: Reading, event: Mapping[str, Any], event_type: EventType) -> list[Violation]:
    """Write the payload as JSON, where one audited record has room for it; a violation where it has not."""
    payload, room = outputs.payload_json(event, event_type), outputs.room(raw)
    size = len(payload.encode())
    if size > room:
        return [Violation("payload_too_long", f"{size} bytes as JSON; there is room for {room}")]
    read.payload = payload
    return []


def _forgotten(raw: RawRecord, event: Mapping[str, Any], state: PartitionState) -> list[Finding]:
    """What the partition forgot as time came to this event."""
    forgotten = expiry.work_off(state, raw.timestamp, EXPIRING)
    return [
        finding("state_expired", NOTED, event["event_id"], detail(kind=kind, count=count))
        for kind, count in forgotten.items()
    ]


def _rejected(raw: RawRecord, read: Reading) -> Output:
    codes = list(dict.fromkeys(violation.code for violation in read.violations))
    said = "; ".join(f"{violation.code}: {violation.detail}" for violation in read.violations)
    return Output(outputs.audited(raw, read, disposition=REJECTED, reasons=codes, reason_detail=said[:2_000]))


def _duplicate(raw: RawRecord, read: Reading, reason: str) -> Output:
    event = read.event or {}
    findings = [finding("duplicate_event_id", OPENED, event["event_id"])] if reason == repeats.DUPLICATE_ID else []
    return Output(outputs.audited(raw, read, disposition=DUPLICATE, reasons=[reason], findings=findings))


def _unexpected(event: Mapping[str, Any], changes: Changes) -> list[Finding]:
    if not changes.unexpected:
        return []
    return [finding("state_unexpected", NOTED, event["event_id"], detail(said=changes.unexpected))]


def _trading_state(
    raw: RawRecord, event: Mapping[str, Any], changes: Changes, state: PartitionState
) -> list[dict[str, Any]]:
    """The bot's whole state, where more of it changed than the number of the last event (S2-03)."""
    if not set(changes.fields) - {"last_event_sequence"}:
        return []
    whole = trading_state.view(state, *risk.instance_key(event))
    return [outputs.trading_state(raw, event, trading_state.as_json(whole))]


def _deltas(
    raw: RawRecord, event: Mapping[str, Any], figure: Mapping[str, Any] | None, opened: int, state: PartitionState
) -> list[dict[str, Any]]:
    """What ``figure`` changes in the portfolios of its instance."""
    if figure is None:
        return []
    portfolios = watch.rules(state).portfolios(*risk.instance_key(event))
    changes = deltas.of(event, figure, opened, portfolios, state)
    return [outputs.portfolio_delta(raw, event, figure["quote_asset"], change) for change in changes]


def _numbered(
    verdict: dict[str, Any],
    *,
    derived: Sequence[dict[str, Any]],
    figure: dict[str, Any] | None,
    changes: Sequence[dict[str, Any]],
    alerts: Sequence[dict[str, Any]],
) -> Output:
    """All that the event caused, in the order of derived_seq."""
    figures = () if figure is None else (figure,)
    for number, record in enumerate((verdict, *derived, *figures, *changes, *alerts)):
        record["derived_seq"] = number
    return Output(verdict, tuple(derived), figure, tuple(changes), tuple(alerts))
