-- What a person should look at, derived from events (S0-10).
-- Columns follow schemas/avro/output; tests/integration/test_store.py compares the two.
CREATE TABLE IF NOT EXISTS tradetape.alerts
(
    raw_partition   Int32,
    raw_offset      Int64 CODEC(Delta, ZSTD),
    derived_seq     Int32,
    event_id        String,
    event_type      LowCardinality(String),
    correlation_id  String,
    ts_utc          DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    ingest_ts_utc   DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    core_version    LowCardinality(String),
    environment     LowCardinality(String),
    account         LowCardinality(String),
    instance_name   LowCardinality(String),
    severity        LowCardinality(String),
    code            LowCardinality(String),
    subject         String,
    message         String,
    detail          String CODEC(ZSTD(3)),
    INDEX by_correlation_id correlation_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_ts_utc ts_utc TYPE minmax GRANULARITY 1,
    INDEX by_raw_partition raw_partition TYPE minmax GRANULARITY 1,
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ingest_ts_utc)
ORDER BY (instance_name, ts_utc, raw_partition, raw_offset, derived_seq)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1
