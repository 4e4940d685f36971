"""Rows read and milliseconds of every named query, and bytes per event on disk, as the record grows.

A query is asked as it stands, with what it cannot do without; one that may be asked of a single bot is asked so too.
The bot is the one with the most events, ids are of the last day. Rows read are ClickHouse's own count; answers are
computed whole and not sent (``FORMAT Null``).
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from benchmarks import fleet_day, stack
from benchmarks.many_days import GROUPS, Days
from benchmarks.sink import ClickHouse
from tradetape.infra import settings
from tradetape.sinks import queries, results
from tradetape.sinks.migrate import migrate
from tradetape.sinks.queries import NamedQuery
from tradetape.sinks.store import Store
from tradetape.sinks.tables import DATABASE

SIZES = (1_000_000, 5_000_000, 20_000_000)
"""Rows of the table of events."""

BUDGET_PERCENT = 2.0
BUDGETED = (("chain", ""), ("event", ""), ("tail", "one bot"))

BUILD_SECONDS = 600.0
"""A size that would take longer to come to is left out."""

SPARE_BYTES = 10_000_000_000
"""Of the disk, that must stay free; merges need as much again as they merge."""

MOST_SECONDS = 60
MOST_BYTES = 8_000_000_000
AGAIN_SECONDS = 1.0
"""A query that is faster is asked three times, and the fastest counts."""

_TABLE = re.compile(rf"\b{DATABASE}\.(\w+)\b")
_RECENT = f"ts_utc > (SELECT max(ts_utc) FROM {DATABASE}.events) - toIntervalDay(1)"
_BOT = (
    f"SELECT instance_name FROM {DATABASE}.events WHERE instance_name != '' GROUP BY 1 ORDER BY count() DESC, 1 LIMIT 1"
)
_PICKED: Mapping[str, str] = {
    "correlation_id": "SELECT correlation_id FROM {events} AND instance_name = {{bot:String}} "
    "GROUP BY 1 HAVING count() BETWEEN 4 AND 20 ORDER BY max(ts_utc) DESC, 1 LIMIT 1",
    "event_id": "SELECT toString(event_id) FROM {events} AND instance_name = {{bot:String}} ORDER BY ts_utc LIMIT 1",
    "order_id": "SELECT order_id FROM {events} AND event_type = 'order_filled' ORDER BY ts_utc LIMIT 1",
    "trading_pair": "SELECT trading_pair FROM {events} AND event_type = 'order_filled' ORDER BY ts_utc LIMIT 1",
    "run_id": "SELECT run_id FROM {events} AND run_id != '' ORDER BY ts_utc LIMIT 1",
    "aggregate_id": "SELECT aggregate_id FROM {events} AND aggregate_type = 'position' ORDER BY ts_utc LIMIT 1",
    "position_id": "SELECT JSONExtractString(payload, 'position_id') AS id FROM {events} "
    "AND event_type = 'position_opened' AND id != '' ORDER BY ts_utc LIMIT 1",
    "event_type": "SELECT 'order_filled'",
    "key": "SELECT 'signal_id'",
    "since": f"SELECT toString(max(ts_utc) - toIntervalHour(1)) FROM {DATABASE}.events",
    "instance_name": "SELECT {{bot:String}}",
}
"""How what a query cannot do without is picked, by parameter."""


class Answer(NamedTuple):
    """What a query read, of how many rows the tables it names have, and how long it took; ``error`` where it failed."""

    read_rows: int
    of_rows: int
    ms: float
    error: str = ""

    @property
    def percent(self) -> float:
        return 100 * self.read_rows / self.of_rows if self.of_rows else 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """One table on disk: its rows; bytes, all columns and indexes, compressed."""

    table: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured with ``rows`` in the table of events; answers by query and what it was asked of."""

    rows: int
    events: int
    days: int
    seconds: float
    kept: list[Kept]
    answers: dict[tuple[str, str], Answer]


class Asking:
    """Asks ClickHouse over HTTP, as any client does, and reads its summary."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._address = (parts.hostname, parts.port)
        self._store = Store(url)
        self._rows: dict[str, int] = {}

    def answers(self) -> Iterator[tuple[tuple[str, str], Answer]]:
        """Every named query, with the answer as the record is now."""
        self._rows = {kept.table: kept.rows for kept in kept(self._store)}
        bot = str(self._store.query(_BOT)[0][0])
        for name, query in queries.listing().items():
            given = {param.name: self._pick(param.name, bot) for param in query.params if param.default is None}
            yield (name, ""), self._answer(query, given)
            if any(param.name == "instance_name" and param.default is not None for param in query.params):
                yield (name, "one bot"), self._answer(query, {**given, "instance_name": bot})

    def _pick(self, param: str, bot: str) -> str:
        sql = _PICKED[param].format(events=f"{DATABASE}.events WHERE derived_seq = 0 AND {_RECENT}")
        found = self._store.query(sql, {"bot": bot})
        if not found:
            raise RuntimeError(f"the record has no {param} to ask for")
        return str(found[0][0])

    def _answer(self, query: NamedQuery, given: Mapping[str, str]) -> Answer:
        best = self._once(query, given)
        for _ in range(2):
            if best.error or best.ms > AGAIN_SECONDS * 1000:
                break
            best = min(best, self._once(query, given), key=lambda answer: answer.ms)
        return best

    def _once(self, query: NamedQuery, given: Mapping[str, str]) -> Answer:
        asked = {
            **results.SETTINGS,
            **{f"param_{name}": value for name, value in query.bind(given).items()},
            "readonly": 2,
            "wait_end_of_query": 1,
            "max_execution_time": MOST_SECONDS,
            "max_memory_usage": MOST_BYTES,
            "default_format": "Null",
        }
        connection = http.client.HTTPConnection(*self._address, timeout=2 * MOST_SECONDS)
        started = time.perf_counter()
        connection.request("POST", f"/?{urlencode(asked)}", query.sql.encode())
        response = connection.getresponse()
        said = response.read().decode()
        ms = (time.perf_counter() - started) * 1000
        connection.close()
        of_rows = sum(self._rows.get(name, 0) for name in set(_TABLE.findall(query.sql)))
        if response.status != 200:
            return Answer(0, of_rows, ms, said.strip()[:200])
        summary = json.loads(response.headers["X-ClickHouse-Summary"])
        return Answer(int(summary["read_rows"]), of_rows, ms)


def kept(store: Store) -> list[Kept]:
    """What the tables hold on disk."""
    found = store.query(
        "SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts "
        "WHERE active AND database = {database:String} GROUP BY table ORDER BY table",
        {"database": DATABASE},
    )
    return [Kept(str(name), int(rows), int(size)) for name, rows, size in found]


def run() -> list[Size]:
    """Each of SIZES that disk and BUILD_SECONDS have room for."""
    found: list[Size] = []
    with stack.running("clickhouse") as environment:
        clickhouse = ClickHouse(environment)
        store = clickhouse.store
        migrate(store)
        days = Days(store, fleet_day.land(store))
        asking = Asking(environment[settings.CLICKHOUSE_URL])
        built = 0.0
        for rows in SIZES:
            if found and not _has_room(found[-1], rows, Path(environment[settings.HOME]), built):
                break
            began = time.monotonic()
            days.grow(rows)
            clickhouse.settle()
            built += time.monotonic() - began
            held = kept(store)
            events = days.copies * days.landed.records
            count = next(each.rows for each in held if each.table == "events")
            found.append(Size(count, events, -(-days.copies // GROUPS), built, held, dict(asking.answers())))
    return found


def _has_room(last: Size, rows: int, home: Path, built: float) -> bool:
    more = rows / last.rows - 1
    size = sum(each.bytes for each in last.kept)
    return shutil.disk_usage(home).free > 2 * more * size + SPARE_BYTES and built * more < BUILD_SECONDS
