-- Exposure at the last price, cost and realised P&L per environment and quote asset; no conversion between assets.
SELECT environment, if(trading_pair LIKE '%-%', splitByChar('-', trading_pair)[-1], '') AS quote_asset,
       count() AS positions, uniqExact(account, instance_name) AS instances,
       toDecimal256(sum(toDecimal256(net_base, 18) * toDecimal256(last_price, 18)), 18) AS net_exposure,
       toDecimal256(sum(toDecimal256(abs(net_base), 18) * toDecimal256(last_price, 18)), 18) AS gross_exposure,
       sum(toDecimal256(cost_quote, 18)) AS cost, sum(toDecimal256(realised_quote, 18)) AS realised
FROM
(
    SELECT environment, account, instance_name, connector_name, trading_pair,
           argMax(net_base, position) AS net_base, argMax(last_price, position) AS last_price,
           argMax(cost_quote, position) AS cost_quote, argMax(realised_quote, position) AS realised_quote
    FROM (SELECT *, (raw_partition, raw_offset, derived_seq) AS position FROM tradetape.risk WHERE fills > 0)
    GROUP BY environment, account, instance_name, connector_name, trading_pair
)
GROUP BY environment, quote_asset
ORDER BY environment, quote_asset
