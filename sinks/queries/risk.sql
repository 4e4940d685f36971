-- The last figures of each instance: orders, the last minute and hour, equity and its drawdown, losses in a row.
-- param: instance_name String = ''
SELECT environment, account, instance_name, max(ts_utc) AS last_ts_utc,
       argMax(open_orders, position) AS open_orders, argMax(orders_created, position) AS orders_created,
       argMax(orders_cancelled, position) AS orders_cancelled, argMax(orders_failed, position) AS orders_failed,
       if(orders_created = 0, NULL, orders_cancelled / orders_created) AS cancel_ratio,
       argMax(orders_1h, position) AS orders_1h, argMax(cancels_1h, position) AS cancels_1h,
       argMax(rejects_1h, position) AS rejects_1h,
       argMax(equity_asset, position) AS equity_asset, argMax(tuple(equity), position).1 AS equity,
       argMax(tuple(peak_equity), position).1 AS peak_equity, argMax(tuple(drawdown_pct), position).1 AS drawdown_pct,
       argMax(consecutive_losses, position) AS consecutive_losses,
       argMax(tuple(cooldown_until), position).1 AS cooldown_until,
       count() AS figures
FROM
(
    SELECT *, (raw_partition, raw_offset, derived_seq) AS position
    FROM tradetape.risk
    WHERE {instance_name:String} = '' OR instance_name = {instance_name:String}
)
GROUP BY environment, account, instance_name
ORDER BY environment, account, instance_name
