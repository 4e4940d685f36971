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
    SELECT environment, account, instance_name,
           if(trading_pair LIKE '%-%', splitByChar('-', trading_pair)[-1], '') AS quote, net_base AS base, fees AS paid,
           cost_quote AS open_cost, realised_quote AS pnl, ifNull(mark_price, nullIf(last_price, 0)) AS mark,
           unrealised_quote AS open_pnl
    FROM tradetape.risk_latest FINAL
    WHERE fills > 0
)
GROUP BY environment, quote
ORDER BY environment, quote
