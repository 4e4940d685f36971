-- The last figures of every portfolio by environment and quote asset; null where one is too large for a decimal.
SELECT environment, portfolio, quote_asset, argMax(tuple(members), position).1 AS members,
       argMax(tuple(if(has(beyond, 'realised_quote'), NULL, realised_quote)), position).1 AS realised_quote,
       argMax(tuple(if(has(beyond, 'fees_quote'), NULL, fees_quote)), position).1 AS fees_quote,
       argMax(tuple(if(has(beyond, 'unrealised_quote'), NULL, unrealised_quote)), position).1 AS unrealised_quote,
       argMax(tuple(if(has(beyond, 'exposure_gross'), NULL, exposure_gross)), position).1 AS exposure_gross,
       argMax(tuple(if(has(beyond, 'exposure_net'), NULL, exposure_net)), position).1 AS exposure_net,
       argMax(tuple(equity), position).1 AS equity,
       argMax(tuple(peak_equity), position).1 AS peak_equity,
       argMax(tuple(drawdown_quote), position).1 AS drawdown_quote,
       argMax(tuple(if(has(beyond, 'daily_pnl'), NULL, daily_pnl)), position).1 AS daily_pnl,
       argMax(tuple(open_orders), position).1 AS open_orders,
       max(book_seq) AS changes, max(ingest_ts_utc) AS last_ingest_ts_utc
FROM (SELECT *, (book_seq, ingest_ts_utc, raw_partition, raw_offset, derived_seq) AS position
      FROM tradetape.portfolios)
GROUP BY environment, portfolio, quote_asset
ORDER BY environment, portfolio, quote_asset
