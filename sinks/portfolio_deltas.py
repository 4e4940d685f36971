"""Deltas of portfolios that were folded again, by book and on disk, and the order in which they became figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tradetape.processors.portfolio import order
from tradetape.processors.portfolio.order import Book, Place
from tradetape.schemas import codec
from tradetape.schemas.catalogue import output_schema
from tradetape.sinks.spool import Spool

Delta = dict[str, Any]


class Deltas:
    """Keeps deltas, each raw partition's in its order; ``close`` removes them."""

    def __init__(self) -> None:
        self._spool = Spool()
        self._encoder = codec.Encoder(output_schema("portfolio"), 0)
        self._decoder = codec.Decoder(output_schema("portfolio"))
        self._kept: dict[Book, dict[Place, tuple[int, int]]] = {}

    def add(self, delta: Delta) -> None:
        """Keep ``delta``."""
        number = self._spool.add(self._encoder.encode(delta))
        kept = self._kept.setdefault(order.book_of(delta), {})
        kept[order.place_of(delta)] = delta["ingest_ts_utc"], number

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def books(self) -> list[Book]:
        """The books that have deltas, sorted."""
        return sorted(self._kept)

    def places(self, book: Book) -> list[Place]:
        """Where the deltas of ``book`` lie, each partition's in its order."""
        return list(self._kept.get(book, ()))

    def get(self, book: Book, place: Place) -> Delta:
        """The delta of ``book`` at ``place``."""
        return self._decoder.decode(self._spool.get(self._kept[book][place][1]))

    def in_order(self, book: Book, recorded: Mapping[Place, int]) -> Iterator[Delta]:
        """The deltas of ``book`` as ``order.in_order`` has them."""
        kept = self._kept.get(book, {})
        for place in order.in_order(((place, taken_in) for place, (taken_in, _) in kept.items()), recorded):
            yield self.get(book, place)

    def close(self) -> None:
        self._spool.close()
