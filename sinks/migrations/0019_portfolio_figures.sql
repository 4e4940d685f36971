-- Figures that the contract cannot carry are null; their order among those of their book, for a peak depends on it (P-02).
ALTER TABLE tradetape.portfolios
    MODIFY COLUMN realised_quote Nullable(Decimal(38, 18)),
    MODIFY COLUMN fees_quote Nullable(Decimal(38, 18)),
    MODIFY COLUMN unrealised_quote Nullable(Decimal(38, 18)),
    MODIFY COLUMN exposure_gross Nullable(Decimal(38, 18)),
    MODIFY COLUMN exposure_net Nullable(Decimal(38, 18)),
    MODIFY COLUMN daily_pnl Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS book_seq Int64 CODEC(Delta, ZSTD) AFTER quote_asset,
    ADD COLUMN IF NOT EXISTS beyond Array(LowCardinality(String)) AFTER rejects_1h
