"""Do the stored figures of portfolios follow from the record? (P-02, G3)

The deltas are folded again from all raw partitions; an order in which they lead to the stored rows must exist, one that
keeps the order of each partition. So every stored figure is held to the last digit, though the order itself is in no
row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from time import sleep
from typing import Any, NamedTuple

import orjson

from tradetape.processors.emission import Emitted
from tradetape.processors.portfolio.interleaving import Interleaving
from tradetape.processors.replay import Replay
from tradetape.processors.version import CORE_VERSION
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.numbers import text
from tradetape.sinks import stored
from tradetape.sinks.batch import UNSTORABLE
from tradetape.sinks.ledger import Position
from tradetape.sinks.replay import PATIENCE, Difference, excerpts, shown
from tradetape.sinks.spool import Spool
from tradetape.sinks.store import Store
from tradetape.sinks.tables import PORTFOLIOS

Book = tuple[str, str, str]
"""Environment, portfolio and quote asset."""

_LOOK_AGAIN = 0.5


class Entry(NamedTuple):
    """A delta that was folded again: its place, when it was taken in, where it is kept."""

    position: Position
    ingest_ts_utc: int
    number: int


@dataclass(slots=True)
class Checked:
    """What became of the figures of portfolios; rows of a book that another core judged are not compared."""

    books: int = 0
    equal: int = 0
    different: int = 0
    first: Difference | None = None
    not_compared: int = 0
    """Books with rows of another core_version, or rows that the sink set aside."""


class PortfolioCheck:
    """Hears every delta of the fold (``observe``), then compares with what is stored (``finish``)."""

    def __init__(self) -> None:
        self._spool = Spool()
        self._encoder = codec.Encoder(output_schema("portfolio"), 0)
        self._decoder = codec.Decoder(output_schema("portfolio"))
        self._queues: dict[Book, dict[int, list[Entry]]] = {}

    def observe(self, _: Replay, judged: Sequence[Emitted]) -> None:
        """Take note of the deltas among what is sent for a record."""
        for sent in judged:
            if sent.topic == topics.PORTFOLIO:
                delta = sent.record
                position = Position(delta["raw_offset"], delta["derived_seq"])
                entry = Entry(position, delta["ingest_ts_utc"], self._spool.add(self._encoder.encode(delta)))
                self._queues.setdefault(_book(delta), {}).setdefault(delta["raw_partition"], []).append(entry)

    def finish(self, store: Store, last: Mapping[int, int], patience: float = PATIENCE) -> Checked:
        """Compare; ``last`` is the last offset that was folded, by partition. Raises what Store.query raises."""
        checked = Checked()
        rows = _Rows(store, last)
        while patience > 0 and rows.count < sum(len(q) for queues in self._queues.values() for q in queues.values()):
            # The topic of portfolios is landed by itself, after the verdicts.
            sleep(_LOOK_AGAIN)
            patience -= _LOOK_AGAIN
            rows = _Rows(store, last)
        with closing(self._spool):
            apart = rows.apart | _set_aside(store, self._queues)
            for book in sorted(self._queues.keys() | rows.digests.keys()):
                if book in apart:
                    checked.not_compared += 1
                    continue
                checked.books += 1
                self._compare(store, book, rows, checked)
        return checked

    def _compare(self, store: Store, book: Book, rows: _Rows, checked: Checked) -> None:
        queues = self._queues.get(book, {})
        digests = rows.digests.get(book, {})
        wanted = {(partition, entry.position) for partition, queue in queues.items() for entry in queue}
        for place in sorted(wanted ^ digests.keys()):
            told = (None, PORTFOLIOS.name) if place in wanted else (PORTFOLIOS.name, None)
            _differs(checked, place, "row", *told)
        for place in sorted(rows.doubled.get(book, ())):
            _differs(checked, place, "row", "2 rows", "1 row")
        if wanted != digests.keys():
            return
        placed = {partition: [(partition, entry) for entry in queue] for partition, queue in queues.items()}
        broken = Interleaving(
            placed,
            lambda each: self._decoder.decode(self._spool.get(each[1].number)),
            lambda each: each[1].ingest_ts_utc,
            lambda each, figure: _digest(stored.as_row(PORTFOLIOS, figure)) == digests[each[0], each[1].position],
        ).broken_at()
        if broken is None:
            checked.equal += len(wanted)
            return
        (partition, entry), figure = broken
        _name(store, checked, partition, entry.position, stored.as_row(PORTFOLIOS, figure))


class _Rows:
    """The stored figures of portfolios up to some offsets: a digest of each, by book and place."""

    def __init__(self, store: Store, last: Mapping[int, int]) -> None:
        self.count = 0
        self.digests: dict[Book, dict[tuple[int, Position], bytes]] = {}
        self.doubled: dict[Book, list[tuple[int, Position]]] = {}
        self.apart: set[Book] = set()
        for partition, until in last.items():
            condition = "raw_partition = {partition:Int32} AND raw_offset BETWEEN 0 AND {last:Int64}"
            for row in stored.rows(store, PORTFOLIOS, condition, {"partition": partition, "last": until}):
                self._take(partition, row)

    def _take(self, partition: int, row: stored.Row) -> None:
        self.count += 1
        book, place = _book(row), (partition, Position(row["raw_offset"], row["derived_seq"]))
        if row["core_version"] != CORE_VERSION:
            self.apart.add(book)
        digests = self.digests.setdefault(book, {})
        if place in digests:
            self.doubled.setdefault(book, []).append(place)
        digests[place] = _digest(row)


def _set_aside(store: Store, queues: Mapping[Book, Mapping[int, Sequence[Entry]]]) -> set[Book]:
    """Books of which the sink could not store a row as it was."""
    found = store.query(
        "SELECT raw_partition, raw_offset, derived_seq FROM tradetape.quarantine WHERE derived_seq > 0 "
        "AND startsWith(reason_detail, {topic:String}) AND has(reasons, {reason:String})",
        {"topic": f"{topics.PORTFOLIOS}: ", "reason": UNSTORABLE},
    )
    places = {(int(row[0]), Position(int(row[1]), int(row[2]))) for row in found}
    return {
        book
        for book, partitions in queues.items()
        for partition, queue in partitions.items()
        if any((partition, entry.position) in places for entry in queue)
    }


def _name(store: Store, checked: Checked, partition: int, position: Position, wanted: stored.Row) -> None:
    """Name the field in which the stored row differs from ``wanted``."""
    condition = (
        "raw_partition = {partition:Int32} AND raw_offset = {offset:Int64} AND derived_seq = {seq:Int32} "
        "AND environment = {environment:String} AND portfolio = {portfolio:String} AND quote_asset = {asset:String}"
    )
    environment, portfolio, asset = _book(wanted)
    bounds: dict[str, Any] = {"partition": partition, "offset": position.raw_offset, "seq": position.derived_seq}
    bounds |= {"environment": environment, "portfolio": portfolio, "asset": asset}
    for row in stored.rows(store, PORTFOLIOS, condition, bounds):
        name = next((name for name in stored.names(PORTFOLIOS) if row[name] != wanted[name]), "order")
        told = (shown(row[name]), shown(wanted[name])) if name in row else ("no order of deltas leads here", "")
        _differs(checked, (partition, position), name, *excerpts(*told))


def _differs(checked: Checked, place: tuple[int, Position], name: str, was: str | None, replayed: str | None) -> None:
    checked.different += 1
    if checked.first is None:
        partition, position = place
        at = f"{partition}:{position.raw_offset}:{position.derived_seq}"
        checked.first = Difference(at, PORTFOLIOS.name, name, was, replayed)


def _book(record: Mapping[str, Any]) -> Book:
    return record["environment"], record["portfolio"], record["quote_asset"]


def _digest(row: Mapping[str, Any]) -> bytes:
    return blake2b(orjson.dumps(row, default=text, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
