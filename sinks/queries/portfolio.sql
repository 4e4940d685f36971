-- Exposure and P&L per environment and quote asset, at each position's last mark; no conversion between assets.
-- An open position without a mark counts in "unmarked" and in no exposure.
SELECT environment, quote AS quote_asset, count() AS positions, uniqExact(account, instance_name) AS instances,
       countIf(base != 0 AND mark IS NULL) AS unmarked,
       toDecimal256(sum(toDecimal256(base, 18) * toDecimal256(ifNull(mark, 0), 18)), 18) AS net_exposure,
       toDecimal256(sum(toDecimal256(abs(base), 18) * toDecimal256(ifNull(mark, 0), 18)), 18) AS gross_exposure,
       sum(toDecimal256(open_cost, 18)) AS cost, sum(toDecimal256(pnl, 18)) AS realised,
       sum(toDecimal256(paid[quote], 18)) AS fees_in_quote,
       sum(toDecimal256(ifNull(open_pnl, 0), 18)) AS unrealised
FROM
(
    SELECT environment, account, instance_name, connector_name, trading_pair,
           if(trading_pair LIKE '%-%', splitByChar('-', trading_pair)[-1], '') AS quote,
           argMax(net_base, position) AS base, argMax(fees, position) AS paid,
           argMax(cost_quote, position) AS open_cost, argMax(realised_quote, position) AS pnl,
           argMax(tuple(ifNull(mark_price, nullIf(last_price, 0))), position).1 AS mark,
           argMax(tuple(unrealised_quote), position).1 AS open_pnl
    FROM (SELECT *, (raw_partition, raw_offset, derived_seq) AS position FROM tradetape.risk WHERE fills > 0)
    GROUP BY environment, account, instance_name, connector_name, trading_pair
)
GROUP BY environment, quote
ORDER BY environment, quote
