-- The last figures of every portfolio from each raw partition: one of these rows is its last of all.
SELECT environment, portfolio, quote_asset, raw_partition, argMax(tuple(members), position).1 AS members,
       argMax(tuple(realised_quote), position).1 AS realised_quote,
       argMax(tuple(fees_quote), position).1 AS fees_quote,
       argMax(tuple(unrealised_quote), position).1 AS unrealised_quote,
       argMax(tuple(exposure_gross), position).1 AS exposure_gross,
       argMax(tuple(exposure_net), position).1 AS exposure_net,
       argMax(tuple(equity), position).1 AS equity, max(ingest_ts_utc) AS last_ingest_ts_utc
FROM (SELECT *, (raw_offset, derived_seq) AS position FROM tradetape.portfolios)
GROUP BY environment, portfolio, quote_asset, raw_partition
ORDER BY environment, portfolio, quote_asset, last_ingest_ts_utc DESC, raw_partition
