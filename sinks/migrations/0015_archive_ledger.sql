-- What is in the archive: one row for each file, raw partition and disposition, written once the file is verified
-- and before its rows leave the store (S1-10, S4-02).
CREATE TABLE IF NOT EXISTS tradetape.archive_ledger
(
    table_name     LowCardinality(String),
    day            Date COMMENT 'of ingest_ts_utc',
    instance_name  LowCardinality(String),
    path           String COMMENT 'of the file, below the folder of the archive',
    raw_partition  Int32,
    disposition    LowCardinality(String) COMMENT 'empty where the table has none',
    rows           UInt64 COMMENT 'of this raw partition and disposition',
    runs           Array(Tuple(derived_seq Int32, first Int64, last Int64)) CODEC(ZSTD(3)) COMMENT 'raw offsets without a gap',
    file_rows      UInt64,
    file_bytes     UInt64,
    sha256         String COMMENT 'of the file',
    rows_digest    String COMMENT 'sum of the SHA-256 of its rows as RowBinary, modulo 2^256',
    core_versions  Array(LowCardinality(String)) COMMENT 'that judged the rows of the file',
    archived_at    DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') CODEC(DoubleDelta, ZSTD)
)
ENGINE = ReplacingMergeTree(archived_at)
ORDER BY (table_name, path, raw_partition, disposition)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1
