-- The state of a raw partition after one of its records, in pieces (S1-07): what a fold from the first record ends with.
-- sha256 is of the whole state; event_id is empty where the last record's bytes name none.
CREATE TABLE IF NOT EXISTS tradetape.snapshots
(
    raw_partition Int32,
    raw_offset    Int64,
    piece         Int32,
    pieces        Int32,
    event_id      String,
    ingest_ts_utc DateTime64(6, 'UTC'),
    core_version  LowCardinality(String),
    state_version Int32,
    records       Int64,
    sha256        String,
    state         String CODEC(ZSTD(3))
)
ENGINE = MergeTree
ORDER BY (raw_partition, core_version, state_version, raw_offset, piece)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1
