-- Running figures of portfolios, one row after every event that changed one (P-02).
CREATE TABLE IF NOT EXISTS tradetape.portfolios
(
    raw_partition    Int32,
    raw_offset       Int64 CODEC(Delta, ZSTD),
    derived_seq      Int32,
    event_id         String,
    event_type       LowCardinality(String),
    correlation_id   String,
    ts_utc           DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    ingest_ts_utc    DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    core_version     LowCardinality(String),
    environment      LowCardinality(String),
    account          LowCardinality(String),
    instance_name    LowCardinality(String),
    portfolio        LowCardinality(String),
    quote_asset      LowCardinality(String),
    members          Int32,
    realised_quote   Decimal(38, 18),
    fees_quote       Decimal(38, 18),
    unrealised_quote Decimal(38, 18),
    exposure_gross   Decimal(38, 18),
    exposure_net     Decimal(38, 18),
    concentration    Nullable(Decimal(38, 18)),
    largest_pair     LowCardinality(String),
    equity           Nullable(Decimal(38, 18)),
    peak_equity      Nullable(Decimal(38, 18)),
    drawdown_quote   Nullable(Decimal(38, 18)),
    drawdown_pct     Nullable(Decimal(38, 18)),
    day              LowCardinality(String),
    daily_pnl        Decimal(38, 18),
    daily_pnl_pct    Nullable(Decimal(38, 18)),
    open_orders      Int32,
    orders_1m        Int32,
    cancels_1m       Int32,
    rejects_1m       Int32,
    orders_1h        Int32,
    cancels_1h       Int32,
    rejects_1h       Int32,
    INDEX by_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_ts_utc ts_utc TYPE minmax GRANULARITY 1,
    INDEX by_raw_partition raw_partition TYPE minmax GRANULARITY 1,
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ingest_ts_utc)
ORDER BY (environment, portfolio, quote_asset, ingest_ts_utc, raw_partition, raw_offset, derived_seq)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1
