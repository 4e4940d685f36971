-- The last figures of each instance: orders, the last minute and hour, equity and its drawdown, losses in a row.
-- An instance's last figure is the last one of one of its positions.
-- param: instance_name String = ''
SELECT environment, account, instance_name, last_ts_utc, open_orders, orders_created, orders_cancelled, orders_failed,
       if(orders_created = 0, NULL, orders_cancelled / orders_created) AS cancel_ratio, orders_1h, cancels_1h, rejects_1h,
       equity_asset, equity, peak_equity, drawdown_pct, consecutive_losses, cooldown_until, figures
FROM
(
    SELECT environment, account, instance_name, max(ts_utc) AS last_ts_utc, count() AS figures
    FROM tradetape.risk
    WHERE instance_name = if({instance_name:String} = '', instance_name, {instance_name:String})
    GROUP BY environment, account, instance_name
) AS told
INNER JOIN
(
    SELECT *
    FROM tradetape.risk_latest FINAL
    WHERE {instance_name:String} = '' OR instance_name = {instance_name:String}
    ORDER BY raw_partition DESC, raw_offset DESC, derived_seq DESC
    LIMIT 1 BY environment, account, instance_name
) AS last USING (environment, account, instance_name)
ORDER BY environment, account, instance_name
