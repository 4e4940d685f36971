"""Reconciliation of a running record: opens native stores for reading, asks ClickHouse, compares (S3-11, N-03)."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from tradetape.infra.connect import Connector, SourceConfig, connector, defaults
from tradetape.infra.settings import Settings
from tradetape.processors.control import limits
from tradetape.producers import baselines
from tradetape.producers.connectors import again
from tradetape.producers.connectors.hummingbot import trades
from tradetape.producers.emitter import Emitter
from tradetape.producers.events import Event
from tradetape.schemas import numbers
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.reconciliation import beside, compare, parity, portfolios, stored
from tradetape.sinks.reconciliation.beside import Said
from tradetape.sinks.reconciliation.compare import Outcome, Tally, Ways
from tradetape.sinks.reconciliation.differences import Acceptance, Difference, beyond, in_both
from tradetape.sinks.reconciliation.parity import Order, Parity, Tolerance
from tradetape.sinks.reconciliation.records import ABOUT_THE_SOURCE, Record, of_event
from tradetape.sinks.store import UNKNOWN_TABLES, QueryRefused, Store

SOURCE, BESIDE, PARITY, PORTFOLIOS = "source", "beside", "parity", "portfolios"
"""What is reconciled: a source with the store, a source's two own records, live with paper, portfolios."""

PATIENCE = 5.0
"""Seconds after which a difference is looked at again: what was on its way until then is none."""

STORED_SECONDS = 30.0
_LOOK_SECONDS = 0.2

WAYS: Mapping[str, Ways] = {
    "catalyst": Ways(replaces=frozenset({"entity_snapshot"})),
    "trend": Ways(forgets=True, has_fragments=True),
    "hummingbot": Ways(fills_in=frozenset({"payload.exchange_order_id"}), overtakes=True),
    "hummingbot-log": Ways(forgets=True, has_fragments=True),
    "quantum": Ways(forgets=True),
    "envelope": Ways(forgets=True, has_fragments=True),
}

COUNTS = tuple(column.name for column in fields(Tally))
"""Columns of the counts by native type."""

_AGAIN = {"quantum": "tradetape.producers.connectors.quantum.again"}
"""Connectors that write to their store, and what reads it without."""


@dataclass(slots=True)
class Found:
    """What one reconciliation came to. ``error`` says why it could not run, empty where it did; ``outcome`` and
    ``orders`` are those of its purpose.
    """

    purpose: str
    name: str
    subject: str = ""
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    accepted: Mapping[str, Acceptance] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    orders: Parity | None = None
    error: str = ""

    @property
    def breaks(self) -> list[Difference]:
        """What nobody accepted."""
        return beyond(self.differences, self.accepted)


_Compared = TypeVar("_Compared", Outcome, portfolios.Portfolios)


class Reconciliation:
    """Reconciles against the store at ``store``; ``patience`` in seconds, ``wait`` is called with them."""

    def __init__(
        self, store: Store, *, patience: float = PATIENCE, wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._store = store
        self._patience = patience
        self._wait = wait
        try:
            self._accepted = stored.baselines(store)
        except QueryRefused as error:
            if error.code not in UNKNOWN_TABLES:
                raise
            raise TradetapeError(
                "nothing is stored: there is nothing to compare",
                hint="see `tradetape status`: the sink fills the store",
            ) from error

    def source(self, config: SourceConfig, other: Path | None = None) -> list[Found]:
        """``config`` against the store; a Hummingbot database also against ``other``, its CSV or log (without one:
        against the CSV that lies beside it). What cannot be read is told in ``error``.
        """
        found = [Found(SOURCE, config.label, accepted=self._accepted)]
        try:
            native = _Native(config)
            found[0].subject = native.source_id
            self._against_store(found[0], native, WAYS.get(config.kind, Ways()))
            if config.kind == "hummingbot" and (other := other or trades.beside(Path(config.location))) is not None:
                found.append(Found(BESIDE, f"{config.label} and {other.name}", accepted=self._accepted))
                _against_other(found[1], native, config, other)
        except TradetapeError as error:
            found[-1].error = str(error)
        return found

    def parity(self, live: str, paper: str, tolerance: Tolerance) -> Found:
        """The orders of two instances, each ``NAME`` or ``NAME@ENVIRONMENT``. Raises TradetapeError for one without."""
        subject = f"{live} {paper}"
        result = parity.compare(subject, self._orders(live), self._orders(paper), tolerance)
        return Found(
            PARITY,
            f"{live} against {paper}",
            subject,
            compared=len(result.pairs),
            differences=result.differences,
            accepted=self._accepted,
            orders=result,
        )

    def portfolios(self) -> Found:
        """Every portfolio against the sum of its instances. Raises TradetapeError where ClickHouse does not answer."""

        def look() -> portfolios.Portfolios:
            changes = [
                (int(row["raw_partition"]), int(row["raw_offset"]), limits.parse(row["limits"]))
                for row in stored.named(self._store, "limits_in_force")
            ]
            return portfolios.compare(
                stored.named(self._store, "portfolio_parts"),
                stored.named(self._store, "portfolio_exposures"),
                stored.named(self._store, "portfolio_figures"),
                portfolios.InForce(changes),
            )

        result, _ = self._twice(look)
        return Found(
            PORTFOLIOS,
            "portfolios",
            "all",
            compared=result.compared,
            differences=result.differences,
            accepted=self._accepted,
        )

    def _against_store(self, found: Found, native: _Native, ways: Ways) -> None:
        def look() -> Outcome:
            return compare.compare(
                native.records,
                lambda: stored.rows(self._store, native.sources),
                lambda asked: stored.accepted_elsewhere(self._store, asked),
                ways,
            )

        outcome, on_their_way = self._twice(look)
        if on_their_way:
            found.notes.append(f"{on_their_way:,} records were on their way: not judged")
        found.outcome, found.differences = outcome, outcome.differences
        found.compared = sum(tally.native for tally in outcome.by_native_type.values())
        found.notes += _notes(outcome)

    def _twice(self, look: Callable[[], _Compared]) -> tuple[_Compared, int]:
        """What ``look`` comes to, with the differences that it finds now and after the patience; how many it had then
        alone.
        """
        result = look()
        if not (result.differences and self._patience):
            return result, 0
        self._wait(self._patience)
        before, result = result.differences, look()
        after, result.differences = result.differences, in_both(before, result.differences)
        return result, len(after) - len(result.differences)

    def _orders(self, name: str) -> list[Order]:
        instance, _, environment = name.partition("@")
        rows = stored.named(self._store, "orders", instance_name=instance, environment=environment)
        if not rows:
            raise TradetapeError(
                f"no order of {name} is stored", hint="give instances as `tradetape query counts` calls them"
            )
        return parity.orders_of(rows)


class _Native:
    """One native store, opened anew for every reading. ``sources`` are the source ids that its events name."""

    def __init__(self, config: SourceConfig) -> None:
        self._module = connector(config.kind)
        if config.kind in _AGAIN:
            self._module = cast(Connector, importlib.import_module(_AGAIN[config.kind]))
        self._config = config
        self.source_id = config.source_id or self._module.fingerprint(config.location)
        self.sources = {self.source_id}

    def events(self) -> Iterator[Event]:
        """Its events, without those about the source itself. Raises TradetapeError."""
        origin = self._config.origin(self.source_id, defaults(self._module))
        with closing(self._module.open_source(self._config.location, origin, None)) as source:
            for event in again.read(source):
                if event["event_type"] not in ABOUT_THE_SOURCE:
                    self.sources.add(event["source_id"] or "")
                    yield event

    def records(self) -> Iterator[Record]:
        """Its events as they are compared."""
        return map(of_event, self.events())


def _notes(outcome: Outcome) -> Iterator[str]:
    expired = sum(tally.expired for tally in outcome.by_native_type.values())
    overtaken = sum(tally.overtaken for tally in outcome.by_native_type.values())
    if expired:
        yield f"{expired:,} stored records are older than what the source still holds: not compared"
    if overtaken:
        yield f"{overtaken:,} stored records were replaced in the source by later ones, as its ways are"
    if outcome.filled_in:
        yield f"to {outcome.filled_in:,} records the source added values after they were taken in"
    if outcome.repeats:
        yield f"{outcome.repeats:,} stored rows are repeats"


def _against_other(found: Found, native: _Native, config: SourceConfig, other: Path) -> None:
    found.subject = f"{native.source_id} {other.name}"
    is_csv = other.suffix.lower() == ".csv"
    if is_csv:
        numbered = [_of_trade(other, trade) for trade in trades.read(other)]
    else:
        log = SourceConfig("hummingbot-log", str(other), instance=config.instance_name, quote=config.quote)
        numbered = list(_said(_Native(log).events()))
    found.compared, found.differences = beside.compare(found.subject, _said(native.events()), numbered, is_whole=is_csv)


def _of_trade(path: Path, trade: trades.Trade) -> Said:
    figures = {"price": trade.price, "amount": trade.amount}
    return Said(trade.order_id, trade.trade_id, trade.at, trade.side, figures, f"{path.name}:{trade.line}")


def _said(events: Iterator[Event]) -> Iterator[Said]:
    """What Hummingbot's events say of executions and orders."""
    for event in events:
        payload = event["payload"]
        place = f"{event['source_stream']} {event['source_position'] or event['native_event_id']}"
        if event["event_type"] == "order_filled" and payload["fill_id"]:
            at = payload["executed_ts_utc"] or event["ts_utc"]
            figures = {"price": payload["fill_price"], "amount": payload["fill_qty_base"]}
            yield Said(payload["client_order_id"], payload["fill_id"], at, payload["side"] or "", figures, place)
        elif event["event_type"] == "order_created":
            figures = {"price": payload["price"], "amount": payload["amount_base"]}
            yield Said(payload["client_order_id"], "", event["ts_utc"], payload["side"], figures, place)


def accept(settings: Settings, store: Store, found: Sequence[Found], *, by: str, reason: str) -> int:
    """Append to ``tradetape.events`` that the breaks of ``found`` are accepted, and wait until that is stored.

    Returns how many. Raises TradetapeError where Kafka does not take it, and where it is not stored in time.
    """
    at = datetime.now(UTC)
    events = [
        event
        for each in found
        for event in baselines.moved(
            each.purpose, each.subject, [described(one) for one in each.breaks], at, by=by, reason=reason
        )
    ]
    if not events:
        return 0
    with Emitter(settings.bootstrap_servers, settings.registry_url, ahead=False) as emitter:
        for event in events:
            emitter.emit(event, event["event_type"])
        emitter.flush()
    wanted = {event["event_id"] for event in events}
    until = time.monotonic() + STORED_SECONDS
    while not wanted <= {row["event_id"] for row in stored.named(store, "baselines")}:
        if time.monotonic() > until:
            raise TradetapeError(
                "the acceptance is in Kafka and not stored yet", hint="see `tradetape status`: the sink is behind"
            )
        time.sleep(_LOOK_SECONDS)
    return sum(len(each.breaks) for each in found)


def described(difference: Difference) -> dict[str, Any]:
    """A difference as JSON."""
    return {"id": difference.id, **difference._asdict(), "values": [list(value) for value in difference.values]}


def document(found: Sequence[Found]) -> dict[str, Any]:
    """All of ``found`` as JSON: decimals as text, every difference with who accepted it."""
    return {
        "agrees": all(not each.breaks and not each.error for each in found),
        "reconciliations": [_one_document(each) for each in found],
    }


def _one_document(found: Found) -> dict[str, Any]:
    outcome, orders = found.outcome, found.orders
    written: dict[str, Any] = {
        "purpose": found.purpose,
        "name": found.name,
        "subject": found.subject,
        "compared": found.compared,
        "breaks": len(found.breaks),
        "accepted": len(found.differences) - len(found.breaks),
        "by_kind": dict(Counter(difference.kind for difference in found.differences)),
        "notes": found.notes,
        "error": found.error or None,
    }
    if outcome is not None:
        written["by_native_type"] = [
            {"native_type": name, **{column: getattr(tally, column) for column in COUNTS}}
            for name, tally in sorted(outcome.by_native_type.items())
        ]
        written["by_event_type"] = [
            {"event_type": name, "native": native, "stored": kept, "delta": delta}
            for name, (native, kept, delta) in outcome.deltas().items()
        ]
    if orders is not None:
        written["pairs"] = [
            {
                "live": pair.live.order_id,
                "paper": pair.paper.order_id,
                "by": pair.by,
                "slippage_bps": None if pair.slippage_bps is None else numbers.text(pair.slippage_bps),
            }
            for pair in orders.pairs
        ]
    written["differences"] = [
        {**described(difference), "accepted": accepted._asdict() if accepted else None}
        for difference in found.differences
        for accepted in [found.accepted.get(difference.id)]
    ]
    return written
