-- The last figures of each instance.
-- param: instance_name String = ''
SELECT environment, account, instance_name, max(ts_utc) AS last_ts_utc,
       argMax(open_orders, position) AS open_orders, argMax(orders_created, position) AS orders_created,
       argMax(orders_cancelled, position) AS orders_cancelled, argMax(orders_failed, position) AS orders_failed,
       if(orders_created = 0, NULL, orders_cancelled / orders_created) AS cancel_ratio,
       count() AS figures
FROM
(
    SELECT *, (raw_partition, raw_offset, derived_seq) AS position
    FROM tradetape.risk
    WHERE {instance_name:String} = '' OR instance_name = {instance_name:String}
)
GROUP BY environment, account, instance_name
ORDER BY environment, account, instance_name
