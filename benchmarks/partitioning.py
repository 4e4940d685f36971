"""The contract's partition key against the tables' own, on the embedded engine: decision 13 rests on it (S3-08).

Each table has the columns that matter here and takes the same rows, a month of a fleet, in inserts as the sink makes
them. ``python -m benchmarks.partitioning [ROWS]`` needs nothing but the engine.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

from chdb.state.sqlitelike import Connection

ROWS = 1_000_000
INSERT_ROWS = 10_000
DAYS = 30
INSTANCES = 50
REPEATS = 5

_ORDER = "ORDER BY (instance_name, ts_utc, raw_partition, raw_offset, derived_seq)"
LAYOUTS = {
    "month of ingest, as built": f"PARTITION BY toYYYYMM(ingest_ts_utc) {_ORDER}",
    "date(ts_utc), instance_name": f"PARTITION BY (toDate(ts_utc), instance_name) {_ORDER}",
    "date(ts_utc)": f"PARTITION BY toDate(ts_utc) {_ORDER}",
}
_COLUMNS = """
    raw_partition  Int32,
    raw_offset     Int64 CODEC(Delta, ZSTD),
    derived_seq    Int32,
    ingest_ts_utc  DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    ts_utc         DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    instance_name  LowCardinality(String),
    event_type     LowCardinality(String),
    correlation_id String,
    payload        String CODEC(ZSTD(3)),
    INDEX by_ts_utc ts_utc TYPE minmax GRANULARITY 1
"""
_DAY = "ts_utc >= toDateTime64('2026-01-16', 6, 'UTC') AND ts_utc < toDateTime64('2026-01-17', 6, 'UTC')"
QUESTIONS = {
    "one instance, one day": f"SELECT count(), sum(length(payload)) FROM t WHERE instance_name = 'bot7' AND {_DAY}",
    "one instance, all of it": "SELECT count(), sum(length(payload)) FROM t WHERE instance_name = 'bot7'",
    "last 50 of an instance": "SELECT payload FROM t WHERE instance_name = 'bot7' ORDER BY ts_utc DESC LIMIT 50",
    "all instances, one day": f"SELECT count(), sum(length(payload)) FROM t WHERE {_DAY}",
}


def rows(first: int, count: int, total: int) -> str:
    """A SELECT of ``count`` rows from ``first`` on, in the order of ingestion; one in a hundred came a day late."""
    step = DAYS * 86_400_000_000 // total
    return (
        "SELECT number % 4, intDiv(number, 4), 0, "
        f"toDateTime64('2026-01-01', 6, 'UTC') + toIntervalMicrosecond(number * {step}) AS ingested, "
        "ingested - toIntervalMillisecond(if(number % 100 = 0, 86400000, 300)), "
        f"concat('bot', toString(cityHash64(number) % {INSTANCES})), "
        "['order_created', 'order_filled', 'market_price', 'signal_generated'][1 + number % 4], "
        "toString(intDiv(number, 7)), concat('{\"client_order_id\":\"', toString(cityHash64(number)), '\"}') "
        f"FROM numbers({first}, {count})"
    )


def fill(connection: Connection, layout: str, total: int) -> list[float]:
    """A table of this ``layout`` with ``total`` rows; returns the seconds of each insert."""
    connection.query("DROP TABLE IF EXISTS t SYNC")
    connection.query(
        f"CREATE TABLE t ({_COLUMNS}) ENGINE = MergeTree {layout} "
        "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
    )
    took = []
    for first in range(0, total, INSERT_ROWS):
        began = time.perf_counter()
        # The default refuses an insert into more than 100 partitions (code 252).
        connection.query(
            f"INSERT INTO t {rows(first, INSERT_ROWS, total)} SETTINGS max_partitions_per_insert_block = 0"
        )
        took.append(time.perf_counter() - began)
    return took


def ask(connection: Connection, sql: str) -> tuple[int, float]:
    """Rows read and the median of the seconds."""
    took, read = [], 0
    for _ in range(REPEATS):
        began = time.perf_counter()
        read = connection.query(sql, "TSV").storage_rows_read()
        took.append(time.perf_counter() - began)
    return read, statistics.median(took)


def main() -> None:
    """Print the measurements of each layout as a Markdown table."""
    total = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as folder:
        connection = Connection(folder)
        try:
            print(f"{total} rows, {INSTANCES} instances, {DAYS} days, inserts of {INSERT_ROWS}")
            print("| partition key | insert, median ms | partitions | parts | question | rows read | ms |")
            print("|---|---|---|---|---|---|---|")
            for name, layout in LAYOUTS.items():
                took = fill(connection, layout, total)
                counted = connection.query(
                    "SELECT uniqExact(partition), count() FROM system.parts WHERE table = 't' AND active", "TSV"
                )
                partitions, parts = counted.data().split()
                head = f"| {name} | {statistics.median(took) * 1000:.0f} | {partitions} | {parts} "
                for question, sql in QUESTIONS.items():
                    read, seconds = ask(connection, sql)
                    print(f"{head}| {question} | {read} | {seconds * 1000:.1f} |", flush=True)
        finally:
            connection.close()


if __name__ == "__main__":
    main()
