-- The last known figures of each instance by quote asset: what portfolios add up.
SELECT raw_partition, environment, account, instance_name, quote_asset, max(raw_offset) AS last_offset,
       argMaxIf(tuple(account_realised), position, account_realised IS NOT NULL).1 AS realised_quote,
       argMaxIf(tuple(account_fees), position, account_fees IS NOT NULL).1 AS fees,
       argMaxIf(tuple(account_funding), position, account_fees IS NOT NULL).1 AS funding,
       argMax(tuple(account_unrealised), position).1 AS unrealised_quote,
       argMax(tuple(exposure_gross), position).1 AS exposure_gross,
       argMaxIf(tuple(equity), position, equity IS NOT NULL AND equity_asset = quote_asset).1 AS equity
FROM (SELECT *, (raw_offset, derived_seq) AS position FROM tradetape.risk)
GROUP BY raw_partition, environment, account, instance_name, quote_asset
ORDER BY environment, account, instance_name, quote_asset
