-- The position of each instance in each market, after its last fill and at the last mark.
-- param: instance_name String = ''
SELECT environment, account, instance_name, connector_name, trading_pair,
       argMax(net_base, position) AS net_base, argMax(avg_cost, position) AS avg_cost,
       argMax(realised_quote, position) AS realised_quote,
       argMax(tuple(realised_fifo_quote), position).1 AS realised_fifo_quote, argMax(fees, position) AS fees,
       argMax(tuple(mark_price), position).1 AS mark_price,
       argMax(tuple(unrealised_quote), position).1 AS unrealised_quote
FROM
(
    SELECT *, (raw_partition, raw_offset, derived_seq) AS position
    FROM tradetape.risk
    WHERE fills > 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
)
GROUP BY environment, account, instance_name, connector_name, trading_pair
ORDER BY environment, account, instance_name, connector_name, trading_pair
