"""Do the stored figures of portfolios follow from the record? (P-02, G3)

The deltas are folded again from all raw partitions, then those of each book in the order that its rows tell, and every
figure is held against its row to the last digit.
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
from tradetape.processors.portfolio import books
from tradetape.processors.portfolio.order import Book, Place, book_of, place_of
from tradetape.processors.replay import Replay
from tradetape.processors.state import PartitionState
from tradetape.processors.version import CORE_VERSION
from tradetape.schemas import topics
from tradetape.schemas.numbers import text
from tradetape.sinks import stored, views
from tradetape.sinks.batch import UNSTORABLE
from tradetape.sinks.portfolio_deltas import Deltas
from tradetape.sinks.replay import PATIENCE, Difference, excerpts, shown
from tradetape.sinks.store import Store
from tradetape.sinks.tables import PORTFOLIOS, QUARANTINE

_LOOK_AGAIN = 0.5


@dataclass(slots=True)
class Checked:
    """What became of the figures of portfolios; rows of a book that another core judged are not compared."""

    books: int = 0
    equal: int = 0
    different: int = 0
    first: Difference | None = None
    not_compared: int = 0
    """Books with rows of another core_version, or rows that the sink set aside."""
    later: int = 0
    """Rows of figures to which a record led that came in while this was verified, and of those after them."""


class PortfolioCheck:
    """Hears every delta of the fold (``observe``), then compares with what is stored (``finish``)."""

    def __init__(self) -> None:
        self._deltas = Deltas()

    def observe(self, _: Replay, judged: Sequence[Emitted]) -> None:
        """Take note of the deltas among what is sent for a record."""
        for sent in judged:
            if sent.topic == topics.PORTFOLIO:
                self._deltas.add(sent.record)

    def finish(self, store: Store, last: Mapping[int, int], patience: float = PATIENCE) -> Checked:
        """Compare; ``last`` is the last offset that was folded, by partition. Raises what Store.query raises."""
        while patience > 0 and _count(store, last) < len(self._deltas):
            # The topic of portfolios is landed by itself, after the verdicts.
            sleep(_LOOK_AGAIN)
            patience -= _LOOK_AGAIN
        rows = _Rows(store)
        checked = Checked()
        with closing(self._deltas):
            apart = rows.apart | self._set_aside(store)
            for book in sorted({*self._deltas.books(), *rows.of}):
                if book in apart:
                    checked.not_compared += 1
                    continue
                checked.books += 1
                self._compare(store, book, rows, last, checked)
        return checked

    def _compare(self, store: Store, book: Book, rows: _Rows, last: Mapping[int, int], checked: Checked) -> None:
        for place in rows.doubled.get(book, ()):
            _differs(checked, place, "row", "2 rows", "1 row")
        told = sorted(rows.of.get(book, {}).items(), key=lambda row: (row[1].book_seq, row[0]))
        # Partitions race: a figure may follow from a delta behind the last record that was folded.
        known = next((n for n, (place, _) in enumerate(told) if _is_later(place, last)), len(told))
        checked.later += len(told) - known
        wanted = self._deltas.places(book)
        if known < len(told):
            reached = {place.raw_partition: place for place, _ in told[:known]}
            wanted = [place for place in wanted if place <= reached.get(place.raw_partition, _NOWHERE)]
        lost, unfounded = set(wanted) - dict(told[:known]).keys(), dict(told[:known]).keys() - set(wanted)
        for place in sorted(lost | unfounded):
            names = (None, PORTFOLIOS.name) if place in lost else (PORTFOLIOS.name, None)
            _differs(checked, place, "row", *names)
        if lost or unfounded:
            return
        state = PartitionState(0, {})
        for place, row in told[:known]:
            figure = books.fold(self._deltas.get(book, place), state)
            if figure is None:
                _differs(checked, place, "book_seq", str(row.book_seq), "after those of its partition before it")
                return
            replayed = stored.as_row(PORTFOLIOS, figure)
            if row.digest != _digest(replayed):
                _name(store, checked, place, replayed)
                return
            checked.equal += 1

    def _set_aside(self, store: Store) -> set[Book]:
        """Books of which the sink could not store a row as it was."""
        found = store.query(
            f"SELECT raw_partition, raw_offset, derived_seq FROM {views.full_name(QUARANTINE)} WHERE derived_seq > 0 "
            "AND startsWith(reason_detail, {topic:String}) AND has(reasons, {reason:String})",
            {"topic": f"{topics.PORTFOLIOS}: ", "reason": UNSTORABLE},
        )
        places = {Place(int(row[0]), int(row[1]), int(row[2])) for row in found}
        return {book for book in self._deltas.books() if not places.isdisjoint(self._deltas.places(book))}


_NOWHERE = Place(-1, -1, -1)


class _Row(NamedTuple):
    book_seq: int
    digest: bytes


class _Rows:
    """The stored figures of portfolios: a digest of each, by book and place."""

    def __init__(self, store: Store) -> None:
        self.of: dict[Book, dict[Place, _Row]] = {}
        self.doubled: dict[Book, list[Place]] = {}
        self.apart: set[Book] = set()
        for row in stored.rows(store, PORTFOLIOS, "1"):
            book, place = book_of(row), place_of(row)
            if row["core_version"] != CORE_VERSION:
                self.apart.add(book)
            kept = self.of.setdefault(book, {})
            if place in kept:
                self.doubled.setdefault(book, []).append(place)
            kept[place] = _Row(row["book_seq"], _digest(row))


def _count(store: Store, last: Mapping[int, int]) -> int:
    """How many figures are stored up to the offsets ``last``."""
    sql = (
        f"SELECT count() FROM {views.full_name(PORTFOLIOS)} "
        "WHERE raw_partition = {partition:Int32} AND raw_offset <= {last:Int64}"
    )
    counts = (store.query(sql, {"partition": partition, "last": offset}) for partition, offset in last.items())
    return sum(int(found[0][0]) for found in counts)


def _is_later(place: Place, last: Mapping[int, int]) -> bool:
    return place.raw_offset > last.get(place.raw_partition, -1)


def _name(store: Store, checked: Checked, place: Place, replayed: stored.Row) -> None:
    """Name the first field in which the stored row at ``place`` differs from the one ``replayed``."""
    condition = (
        "raw_partition = {partition:Int32} AND raw_offset = {offset:Int64} AND derived_seq = {seq:Int32} "
        "AND environment = {environment:String} AND portfolio = {portfolio:String} AND quote_asset = {asset:String}"
    )
    environment, portfolio, asset = book_of(replayed)
    bounds: dict[str, Any] = {"partition": place.raw_partition, "offset": place.raw_offset, "seq": place.derived_seq}
    bounds |= {"environment": environment, "portfolio": portfolio, "asset": asset}
    for row in stored.rows(store, PORTFOLIOS, condition, bounds):
        name = next((name for name in stored.names(PORTFOLIOS) if row[name] != replayed[name]), None)
        if name is not None:  # of two rows at a place one may be as it must be
            _differs(checked, place, name, *excerpts(shown(row[name]), shown(replayed[name])))


def _differs(checked: Checked, place: Place, name: str, was: str | None, replayed: str | None) -> None:
    checked.different += 1
    if checked.first is None:
        checked.first = Difference(":".join(map(str, place)), PORTFOLIOS.name, name, was, replayed)


def _digest(row: Mapping[str, Any]) -> bytes:
    return blake2b(orjson.dumps(row, default=text, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
