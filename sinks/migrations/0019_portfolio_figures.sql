-- The order of figures among those of their book, for a peak depends on it, and which are beyond a decimal (P-02, P-08).
ALTER TABLE tradetape.portfolios
    ADD COLUMN IF NOT EXISTS book_seq Int64 CODEC(Delta, ZSTD) AFTER quote_asset,
    ADD COLUMN IF NOT EXISTS beyond Array(LowCardinality(String)) AFTER rejects_1h
