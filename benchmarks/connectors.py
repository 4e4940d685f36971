"""What reading a native store into typed, encoded events costs, against reading the same records without us.

Both read the whole store once and keep nothing. Own: the connector's ``poll`` (store, adapter, contract rules) and the
Avro encoding, everything but Kafka. Peer: the store's own client and the JSON of each record opened, no more: what any
program must do that looks at the records. CPU of this process; Postgres and Valkey work in their own.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from tradetape.infra import connect, fleet
from tradetape.infra.connect import SourceConfig
from tradetape.infra.embedded import stores
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Encoder

STEPS = {"turtle": 400, "catalyst": 400, "trend": 400, "hummingbot": 2000, "quantum": 250}
ROUNDS = 3
BATCH = 2000
START_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """One kind of store: its records; CPU µs per record and records/s of us and of the peer, the best of the rounds."""

    kind: str
    records: int
    own_us: float
    own_per_second: float
    peer_us: float
    peer_per_second: float


def run() -> list[Reading]:
    """Every kind of native store, one bot each, no defects."""
    with tempfile.TemporaryDirectory(prefix="tradetape-bench-") as folder:
        home = Path(folder)
        try:
            return [_measure(home, kind, steps) for kind, steps in STEPS.items()]
        finally:
            stores.stop(home)


def _measure(home: Path, kind: str, steps: int) -> Reading:
    written = fleet.simulate(home, fleet.Plan(1, steps, 7, START_MS, defects=False), [kind])
    (source,) = written.sources
    encoders = {name: Encoder(event_type.schema, 1) for name, event_type in event_types().items()}
    own = _best(lambda number: _own(source, encoders, number))
    peer = _best(lambda _: _PEERS[kind](source.location))
    return Reading(kind, own[0], own[1], own[2], peer[1], peer[2])


def _best(read: Callable[[int], int]) -> tuple[int, float, float]:
    """(records, CPU µs per record, records/s), the least and the most of the rounds."""
    found = []
    for number in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        records = read(number)
        found.append((records, (time.process_time() - cpu) / records * 1e6, records / (time.perf_counter() - wall)))
    return found[0][0], min(cpu for _, cpu, _ in found), max(rate for _, _, rate in found)


def _own(config: SourceConfig, encoders: dict[str, Encoder], number: int) -> int:
    module = connect.connector(config.kind)
    source_id = f"round-{number}"  # a consumer group of its own
    source = module.open_source(config.location, config.origin(source_id, connect.defaults(module)), None)
    records = 0
    with closing(source):
        while events := source.poll(BATCH):
            for event in events:
                encoders[event["event_type"]].encode(event)
            records += len(events)
            source.acknowledge()
    return records


def _opened(rows: Iterable[tuple[Any, ...]]) -> int:
    count = 0
    for row in rows:
        for value in row:
            if isinstance(value, str) and value[:1] == "{":
                json.loads(value)
        count += 1
    return count


def _postgres(location: str) -> int:
    with psycopg.connect(location) as connection, connection.cursor(name="peer") as cursor:
        cursor.itersize = BATCH
        cursor.execute("SELECT * FROM events ORDER BY run_id, sequence")
        return sum(1 for _ in cursor)  # psycopg opens the JSON


def _sqlite(*tables: str) -> Callable[[str], int]:
    def read(location: str) -> int:
        with closing(sqlite3.connect(f"file:{location}?mode=ro", uri=True)) as connection:
            return sum(_opened(connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid')) for table in tables)

    return read


def _lines(location: str) -> int:
    with Path(location).open("rb") as file:
        return sum(1 for line in file if json.loads(line))


def _redis(location: str) -> int:
    with closing(redis.Redis.from_url(location, decode_responses=True)) as client:
        count = 0
        for stream in client.scan_iter(match="*.*", _type="stream"):
            for _, fields in client.xrange(stream):
                count += 1
                _opened([tuple(fields.values())])
        return count


_PEERS: dict[str, Callable[[str], int]] = {
    "turtle": _postgres,
    "catalyst": _sqlite("event_log", "event_snapshots"),
    "trend": _lines,
    "hummingbot": _sqlite("Order", "OrderStatus", "TradeFill"),
    "quantum": _redis,
}
