-- What the sink landed, one row a batch of a topic partition: the ingest ledger (N-03). Finished twice, a batch is one row.
CREATE TABLE IF NOT EXISTS tradetape.ingest_ledger
(
    topic        LowCardinality(String),
    partition    Int32,
    first_offset Int64 CODEC(Delta, ZSTD) COMMENT 'of the topic partition, not of tradetape.events',
    end_offset   Int64 CODEC(Delta, ZSTD) COMMENT 'behind the last record',
    records      UInt32 COMMENT 'read from the topic partition',
    landed       UInt32 COMMENT 'rows inserted',
    repeats      UInt32 COMMENT 'records that were sent again by a worker after a crash: dropped',
    present      UInt32 COMMENT 'rows that were there already',
    unstorable   UInt32 COMMENT 'rows that ClickHouse refused: in quarantine',
    sha256       String COMMENT 'of keys and values of the records, as in the intent',
    sink         LowCardinality(String) COMMENT 'the member of the group, or what repaired',
    landed_at    DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') CODEC(DoubleDelta, ZSTD)
)
ENGINE = ReplacingMergeTree(landed_at)
PARTITION BY toYYYYMM(landed_at)
ORDER BY (topic, partition, first_offset)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1
