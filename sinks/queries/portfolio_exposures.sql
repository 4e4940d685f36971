-- The last position of each instance in each market and its mark: what exposures of portfolios add up.
SELECT environment, account, instance_name, quote_asset, connector_name, trading_pair,
       argMax(net_base, position) AS net_base, argMax(tuple(mark_price), position).1 AS mark_price
FROM (SELECT *, (raw_offset, derived_seq) AS position FROM tradetape.risk)
GROUP BY environment, account, instance_name, quote_asset, connector_name, trading_pair
ORDER BY environment, account, instance_name, quote_asset, connector_name, trading_pair
