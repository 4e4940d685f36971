"""The fold again, compared with what is stored: every row, every field, to the last digit (G3, P-06)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

import orjson

from tradetape.processors.emission import Emitted
from tradetape.processors.reading import RawRecord, SchemaById
from tradetape.processors.replay import Gap, Replay
from tradetape.processors.version import CORE_VERSION
from tradetape.schemas import topics
from tradetape.schemas.numbers import text
from tradetape.sinks import stored
from tradetape.sinks.batch import UNSTORABLE
from tradetape.sinks.ledger import Position
from tradetape.sinks.raws import of_rows
from tradetape.sinks.store import Store
from tradetape.sinks.stored import Stored
from tradetape.sinks.tables import QUARANTINE

PATIENCE = 5.0
"""Seconds that figures and alerts may come after the verdict that is stored: each topic is landed by itself."""

_LOOK_AGAIN = 0.1
_REPORT_EVERY = 500
_SHOWN = 160
"""Characters of a value in a difference."""


class Difference(NamedTuple):
    """Where replay and store part: ``stored`` is None where nothing is stored, ``replayed`` where nothing caused it."""

    place: str
    table: str
    field: str
    stored: str | None
    replayed: str | None


@dataclass(slots=True)
class Outcome:
    """What became of one raw partition; ``gap`` is the stretch of offsets at which it stopped, both included."""

    partition: int
    records: int = 0
    equal: int = 0
    different: int = 0
    first: Difference | None = None
    gap: tuple[int, int] | None = None
    set_aside: int = 0
    """Rows that ClickHouse refused and the sink kept as unstorable: they are not compared."""
    not_stored: int = 0
    """Records of the topic behind the last one stored."""
    other_core: Counter[str] = field(default_factory=Counter)
    """Records judged by another core_version: they are folded and not compared."""
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        return not self.different and self.gap is None


OnJudged = Callable[[Replay, Sequence[Emitted]], object]
"""Hears what is sent for a record, and the fold that judged it."""


def compare(
    store: Store,
    partition: int,
    last: int,
    schema_by_id: SchemaById,
    *,
    raws: Iterable[RawRecord] | None = None,
    on_progress: Callable[[int], object] = lambda _: None,
    on_judged: OnJudged = lambda _replay, _judged: None,
    patience: float = PATIENCE,
) -> Outcome:
    """Fold raw ``partition`` up to the offset ``last`` and compare with the rows of it.

    ``raws`` are the records of the topic; without them they are taken from the store itself. ``on_progress`` hears
    how many are folded, ``on_judged`` what is sent for each record, with the fold that judged it.
    Raises what Store.query and ``schema_by_id`` raise.
    """
    outcome = Outcome(partition)
    replay = Replay(partition, schema_by_id)
    comparison = _Comparison(store, outcome, patience)
    began = time.monotonic()
    with closing(stored.read(store, partition, 0, last)) as rows:
        groups = groupby(rows, key=lambda row: row.position.raw_offset)
        pairs = _from_store(partition, groups) if raws is None else _from_topic(raws, groups)
        try:
            for raw, found in pairs:
                judged = replay.fold(raw)
                comparison.observe(judged, found)
                on_judged(replay, judged)
                outcome.records += 1
                if outcome.records % _REPORT_EVERY == 0:
                    on_progress(outcome.records)
            if replay.next_offset <= last:
                raise Gap(partition, replay.next_offset, last)
        except Gap as gap:
            outcome.gap = gap.first, gap.last
    outcome.seconds = time.monotonic() - began
    on_progress(outcome.records)
    return outcome


Groups = Iterator[tuple[int, Iterator[Stored]]]
Pairs = Iterator[tuple[RawRecord, Sequence[Stored]]]


def _from_store(partition: int, groups: Groups) -> Pairs:
    """Each record whose bytes are stored, with the rows of its offset."""
    for _, group in groups:
        found = list(group)
        raw = of_rows(partition, found)
        if raw is not None:
            yield raw, found


def _from_topic(raws: Iterable[RawRecord], groups: Groups) -> Pairs:
    """Each record of the topic, with the rows of its offset."""
    offset, group = next(groups, (-1, iter(())))
    for raw in raws:
        if offset == raw.offset:
            yield raw, list(group)
            offset, group = next(groups, (-1, iter(())))
        else:
            yield raw, []


class _Comparison:
    """Compares what is sent for a record with the rows of its offset, and keeps the tally in ``outcome``."""

    def __init__(self, store: Store, outcome: Outcome, patience: float) -> None:
        self._store = store
        self._outcome = outcome
        self._patience = patience

    def observe(self, judged: Sequence[Emitted], found: Sequence[Stored]) -> None:
        set_aside = {row.position for row in found if _is_set_aside(row)}
        rows = [row for row in found if row.position not in set_aside]
        others = {row.row["core_version"] for row in rows} - {CORE_VERSION}
        self._outcome.set_aside += len(set_aside)
        by_position: dict[Position, list[Stored]] = {}
        for row in rows:
            by_position.setdefault(row.position, []).append(row)
        if others:
            self._outcome.other_core[min(others)] += 1
            for position, same in by_position.items():
                if len(same) > 1:
                    self._differs(position, same[0].table, "row", f"{len(same)} rows", "1 row")
            return
        for output in judged:
            if output.topic == topics.PORTFOLIO:
                continue  # Not stored: what it adds up to is.
            position = Position(output.record["raw_offset"], output.record["derived_seq"])
            if position not in set_aside:
                self._one(output, position, by_position.pop(position, []) or self._later(position))
        for position, unexpected in by_position.items():
            self._differs(position, unexpected[0].table, "row", unexpected[0].table, None)

    def _one(self, output: Emitted, position: Position, found: Sequence[Stored]) -> None:
        table = stored.table_of(output.topic, output.record)
        if not found:
            self._differs(position, table.name, "row", None, table.name)
            return
        if len(found) > 1:
            self._differs(position, table.name, "row", f"{len(found)} rows", "1 row")
            return
        (row,) = found
        if row.table != table.name:
            self._differs(position, row.table, "table", row.table, table.name)
            return
        wanted = stored.as_row(table, output.record)
        for name in stored.names(table):
            if row.row[name] != wanted[name]:
                self._differs(position, table.name, name, *excerpts(shown(row.row[name]), shown(wanted[name])))
                return
        self._outcome.equal += 1

    def _later(self, position: Position) -> list[Stored]:
        """The rows of ``position`` once they are stored; none when the patience is over."""
        while self._patience > 0:
            time.sleep(_LOOK_AGAIN)
            self._patience -= _LOOK_AGAIN
            at_offset = stored.read(self._store, self._outcome.partition, position.raw_offset, position.raw_offset)
            found = [row for row in at_offset if row.position == position]
            if found:
                return found
        return []

    def _differs(self, position: Position, table: str, name: str, was: str | None, replayed: str | None) -> None:
        self._outcome.different += 1
        if self._outcome.first is None:
            place = f"{self._outcome.partition}:{position.raw_offset}:{position.derived_seq}"
            self._outcome.first = Difference(place, table, name, was, replayed)


def _is_set_aside(row: Stored) -> bool:
    return row.table == QUARANTINE.name and UNSTORABLE in row.row["reasons"]


def shown(value: Any) -> str:
    """A field of a row as text."""
    if isinstance(value, str):
        return value
    return text(value) if isinstance(value, Decimal) else orjson.dumps(value, default=text).decode()


def excerpts(one: str, other: str) -> tuple[str, str]:
    """Two texts, both around the place where they part."""
    same = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    start = max(0, same - _SHOWN // 2)
    return _excerpt(one, start), _excerpt(other, start)


def _excerpt(value: str, start: int) -> str:
    cut = value[start : start + _SHOWN]
    return f"{'…' if start else ''}{cut}{'…' if start + _SHOWN < len(value) else ''}"
