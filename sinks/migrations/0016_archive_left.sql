-- Whose rows have left the store: one row a file, written when none of them is there any more.
CREATE TABLE IF NOT EXISTS tradetape.archive_left
(
    table_name LowCardinality(String),
    path       String,
    left_at    DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') CODEC(DoubleDelta, ZSTD)
)
ENGINE = ReplacingMergeTree(left_at)
ORDER BY (table_name, path)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1
