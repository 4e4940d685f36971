-- The order in which deltas of several partitions became figures: without it a peak could not be computed again (P-02).
ALTER TABLE tradetape.portfolios
    ADD COLUMN IF NOT EXISTS book_seq Int64 CODEC(Delta, ZSTD) AFTER quote_asset
