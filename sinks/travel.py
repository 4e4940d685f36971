"""The record as of any time: an instance, a position, an order or a portfolio (S1-06, N-05, decision 10).

``at`` counts events that happened up to then, ``known_at`` records that were taken in up to then; both in UTC
microseconds, both inclusive. The command line and the HTTP API call these functions; what they return is ready for
JSON: decimals as text, times as ISO-8601.

Every function raises TradetapeError where ClickHouse does not answer and where records are missing, and
NothingOnRecord where nothing of that name was on record by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tradetape.processors import clock
from tradetape.processors.reading import SchemaById
from tradetape.processors.replay import Replay
from tradetape.processors.version import CORE_VERSION
from tradetape.processors.views import instances, orders, positions
from tradetape.processors.views.instances import Owner, Shown
from tradetape.processors.views.look import Look
from tradetape.processors.views.plain import plain
from tradetape.schemas import times, topics
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import queries, raws, snapshots, views
from tradetape.sinks.snapshots import Snapshot
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS, RISK

Document = dict[str, Any]

_EVENTS = views.full_name(EVENTS)


class NothingOnRecord(TradetapeError):
    """Nothing of that name was on record by then."""


class When(NamedTuple):
    """Up to when events happened (``at``) and were taken in (``known_at``), microseconds; None is no bound.

    ``use_snapshots`` False folds from the first record in any case; the answer is the same.
    """

    at: int | None = None
    known_at: int | None = None
    use_snapshots: bool = True


NOW = When()


def instance_at(
    store: Store,
    schema_by_id: SchemaById,
    name: str,
    when: When = NOW,
    *,
    environment: str = "",
    account: str | None = None,
) -> Document:
    """Every instance called ``name``: figures, open orders, TradingState, limits and kills."""
    return answer(
        when,
        f"no instance {name!r}",
        (
            past.entry(instances.instance(past.look, owner, past.shown(owner)), owner)
            for past, owner in _instances(store, schema_by_id, name, when, environment=environment, account=account)
        ),
    )


def position_at(
    store: Store,
    schema_by_id: SchemaById,
    name: str,
    trading_pair: str = "",
    when: When = NOW,
    *,
    environment: str = "",
    account: str | None = None,
) -> Document:
    """The positions of the instances called ``name``, all or those in ``trading_pair``: cost, FIFO lots, mark, P&L."""

    def found() -> Iterator[Document]:
        for past, owner in _instances(store, schema_by_id, name, when, environment=environment, account=account):
            for key in positions.keys(past.look, owner, trading_pair):
                yield past.entry(positions.position(past.look, key) or {}, owner)

    return answer(when, f"no position of {name!r}{trading_pair and f' in {trading_pair}'}", found())


def order_at(
    store: Store,
    schema_by_id: SchemaById,
    order_id: str,
    when: When = NOW,
    *,
    allows: Callable[[str], bool] = lambda _: True,
) -> Document:
    """Every order with that client order id, as its own last event left it, of the instances that ``allows``.

    So it is there also where the partition has forgotten it since (its horizon): nothing else changes an order.
    """

    def found() -> Iterator[Document]:
        known = raws.known(store, when.known_at)
        for key, partition, offset in _orders(store, order_id, known, when.at):
            if not allows(key[2]):
                continue
            past = _Past(store, schema_by_id, partition, offset, when)
            seen = orders.order(past.look, (*key, order_id))
            if seen is not None:
                yield past.entry(seen, (key[0], key[1], key[2]))

    return answer(when, f"no order {order_id!r}", found())


def position_timeline(
    store: Store,
    schema_by_id: SchemaById,
    name: str,
    trading_pair: str,
    when: When = NOW,
    *,
    environment: str = "",
    account: str | None = None,
) -> list[Document]:
    """P&L of the positions in ``trading_pair`` after every event that changed a figure there, in log order (S1-06).

    Without ``at`` these are the figures as they were shown: the rows of ``query pnl_timeline``.
    """
    rows: list[Document] = []
    if when.at is None:
        known = raws.known(store, when.known_at)
        asked = {"instance_name": name, "trading_pair": trading_pair}
        shown = queries.rows(store, "pnl_timeline", asked, archived=True)
        rows = [row for row in shown if row["raw_offset"] <= known.get(row["raw_partition"], -1)]
    else:
        for partition, last in _partitions(store, name, when).items():
            rows += _figures(store, Replay(partition, schema_by_id, contiguous=False), last, when.at)
        rows = [
            plain({field: row[field] for field in TIMELINE})
            for row in rows
            if (row["instance_name"], row["trading_pair"]) == (name, trading_pair)
        ]
    rows = [row for row in rows if environment in ("", row["environment"]) and account in (None, row["account"])]
    if not rows:
        raise _nothing(f"no figure of {name!r} in {trading_pair}", when)
    return rows


TIMELINE = (
    *("ts_utc", "ingest_ts_utc", "event_type", "event_id", "environment", "account", "instance_name"),
    *("connector_name", "trading_pair", "net_base", "avg_cost", "mark_price", "realised_quote"),
    *("realised_fifo_quote", "unrealised_quote", "fees", "raw_partition", "raw_offset"),
)
"""Columns of ``query pnl_timeline``."""


class _Past:
    """A raw partition as it was after the offset ``last``, or its events up to ``when.at`` of that."""

    def __init__(
        self,
        store: Store,
        schema_by_id: SchemaById,
        partition: int,
        last: int,
        when: When,
    ) -> None:
        self._store = store
        self._where = {"partition": partition, "last": last}
        self._when = when
        self._shown: dict[Owner, Shown] = {}
        self._begun: Snapshot | None = None
        if when.at is None:
            replay, self._begun = snapshots.resume(store, partition, last, schema_by_id, use=when.use_snapshots)
            snapshots.fold_on(store, replay, last)
        else:
            replay = Replay(partition, schema_by_id, contiguous=False)
            for figure in _figures(store, replay, last, when.at):
                self._shown[_owner(figure)] = _shown(figure)
        self.look = Look.at(replay)
        self._last = raws.last_of(store, partition, replay.next_offset - 1)

    def shown(self, owner: Owner) -> Shown | None:
        """When and where the last figure of an instance was shown."""
        if self._when.at is not None:
            return self._shown.get(owner)
        found = self._store.query(
            "SELECT toUnixTimestamp64Micro(ts_utc), toUnixTimestamp64Micro(ingest_ts_utc), connector_name, "
            f"trading_pair FROM {views.full_name(RISK)} "
            "WHERE instance_name = {name:String} AND environment = {environment:String} "
            "AND account = {account:String} AND raw_partition = {partition:Int32} AND raw_offset <= {last:Int64} "
            "ORDER BY raw_offset DESC, derived_seq DESC LIMIT 1",
            self._named(owner),
        )
        names = ("ts_utc", "ingest_ts_utc", "connector_name", "trading_pair")
        return _shown(dict(zip(names, found[0], strict=True))) if found else None

    def entry(self, view: Document, owner: Owner) -> Document:
        """``view`` with the last record that it includes, where its fold began, and what judged its events then."""
        judged = self._store.query(
            f"SELECT DISTINCT core_version FROM {_EVENTS} WHERE instance_name = {{name:String}} "
            "AND environment = {environment:String} AND account = {account:String} "
            "AND raw_partition = {partition:Int32} AND raw_offset <= {last:Int64} ORDER BY core_version",
            self._named(owner),
        )
        begun = None if self._begun is None else self._begun.last._asdict()
        document: Document = plain(
            {**view, "last_record": self._last._asdict(), "snapshot": begun, "judged_by": [row[0] for row in judged]}
        )
        return document

    def _named(self, owner: Owner) -> dict[str, Any]:
        environment, account, name = owner
        return {"environment": environment, "account": account, "name": name, **self._where}


def _figures(store: Store, replay: Replay, last: int, at: int) -> Iterator[Document]:
    """The figures of the events up to ``at`` among the records up to ``last``, as ``replay`` folds them."""
    for raw in raws.accepted(store, replay.partition, last, at):
        for sent in replay.fold(raw):
            if sent.topic == topics.RISK:
                yield sent.record


def _owner(figure: Document) -> Owner:
    return figure["environment"], figure["account"], figure["instance_name"]


def _shown(figure: dict[str, Any]) -> Shown:
    at = clock.bounded(int(figure["ts_utc"]), int(figure["ingest_ts_utc"]))
    return Shown(at, str(figure["connector_name"]), str(figure["trading_pair"]))


def _instances(
    store: Store, schema_by_id: SchemaById, name: str, when: When, *, environment: str, account: str | None
) -> Iterator[tuple[_Past, Owner]]:
    """The instances called ``name``, each with the past of its partition."""
    for partition, last in _partitions(store, name, when).items():
        past = _Past(store, schema_by_id, partition, last, when)
        owners = store.query(
            f"SELECT DISTINCT environment, account FROM {_EVENTS} WHERE instance_name = {{name:String}} "
            "AND derived_seq = 0 AND raw_partition = {partition:Int32} AND raw_offset <= {last:Int64} "
            "AND ts_utc <= fromUnixTimestamp64Micro({at:Int64}, 'UTC') ORDER BY environment, account",
            {"name": name, "partition": partition, "last": last, "at": _bound(when.at)},
        )
        for found in owners:
            if environment in ("", found[0]) and account in (None, found[1]):
                yield past, (str(found[0]), str(found[1]), name)


def _partitions(store: Store, name: str, when: When) -> dict[int, int]:
    """The partitions with events of the instance ``name`` up to ``when``, each with the last offset that counts."""
    known = raws.known(store, when.known_at)
    found = store.query(
        f"SELECT raw_partition, min(raw_offset) FROM {_EVENTS} WHERE instance_name = {{name:String}} "
        "AND derived_seq = 0 AND ts_utc <= fromUnixTimestamp64Micro({at:Int64}, 'UTC') "
        "GROUP BY raw_partition ORDER BY raw_partition",
        {"name": name, "at": _bound(when.at)},
    )
    return {int(row[0]): known[int(row[0])] for row in found if int(row[1]) <= known.get(int(row[0]), -1)}


def _orders(
    store: Store, order_id: str, known: Mapping[int, int], at: int | None
) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Orders of that id: environment, account, instance and connector, partition, and the offset of the last event."""
    events = store.query(
        "SELECT environment, account, instance_name, connector_name, raw_partition, raw_offset "
        f"FROM {_EVENTS} WHERE order_id = {{order_id:String}} AND derived_seq = 0 "
        "AND ts_utc <= fromUnixTimestamp64Micro({at:Int64}, 'UTC') ORDER BY raw_partition, raw_offset",
        {"order_id": order_id, "at": _bound(at)},
    )
    last = {(tuple(row[:4]), int(row[4])): int(row[5]) for row in events if row[5] <= known.get(int(row[4]), -1)}
    for (key, partition), offset in sorted(last.items()):
        yield key, partition, offset


def _bound(at: int | None) -> int:
    """A bound that every event meets where ``at`` is none."""
    return times.LATEST if at is None else at


def answer(when: When, nothing: str, entries: Iterator[Document]) -> Document:
    """The answer of a question for ``entries``. Raises NothingOnRecord where there is none."""
    found = list(entries)
    if not found:
        raise _nothing(nothing, when)
    return {**_asked(when), "found": found}


def _asked(when: When) -> Document:
    said = {"at": when.at, "known_at": when.known_at}
    return {
        **{name: None if moment is None else times.text(moment) for name, moment in said.items()},
        "core_version": CORE_VERSION,
    }


def _nothing(what: str, when: When) -> NothingOnRecord:
    bounded = when.at is not None or when.known_at is not None
    return NothingOnRecord(
        f"{what} is on record{' by then' if bounded else ''}", hint="`tradetape query counts` lists the instances"
    )
