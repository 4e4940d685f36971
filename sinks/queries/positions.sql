-- The position of each instance in each market, after its last fill and at the last mark.
-- param: instance_name String = ''
SELECT environment, account, instance_name, connector_name, trading_pair, net_base, avg_cost, realised_quote,
       realised_fifo_quote, fees, mark_price, unrealised_quote
FROM tradetape.risk_latest FINAL
WHERE fills > 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
ORDER BY environment, account, instance_name, connector_name, trading_pair
