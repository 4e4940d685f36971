-- Orders that were created and have not ended: no cancel, failure, expiry or completion.
-- Which orders are open is decided on a hash of their key; only of those that are open the rest is read and grouped.
-- param: instance_name String = ''
WITH open AS
(
    SELECT sipHash128(environment, account, instance_name, connector_name, trading_pair, order_id) AS key
    FROM tradetape.events
    WHERE order_id != ''
      AND event_type IN ('order_created', 'order_snapshot', 'order_cancelled', 'order_failed', 'order_expired',
                         'order_completed')
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
    GROUP BY key
    HAVING NOT max(event_type IN ('order_cancelled', 'order_failed', 'order_expired', 'order_completed'))
)
SELECT environment, account, instance_name, connector_name, trading_pair, client_order_id,
       any(order_side) AS side, any(order_price) AS price, any(order_amount) AS amount_base,
       sum(filled) AS filled_base, min(ts) AS created_ts_utc
FROM
(
    SELECT environment, account, instance_name, connector_name, trading_pair, order_id AS client_order_id,
           event_type IN ('order_created', 'order_snapshot') AS opens,
           if(opens, nullIf(side, ''), NULL) AS order_side, if(opens, price, NULL) AS order_price,
           if(opens, quantity, NULL) AS order_amount, if(opens, ts_utc, NULL) AS ts,
           toDecimal256(if(event_type = 'order_filled', ifNull(quantity, 0), 0), 18) AS filled
    FROM tradetape.events
    WHERE event_type IN ('order_created', 'order_snapshot', 'order_filled')
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND sipHash128(environment, account, instance_name, connector_name, trading_pair, order_id) IN (SELECT key FROM open)
)
GROUP BY environment, account, instance_name, connector_name, trading_pair, client_order_id
ORDER BY environment, account, instance_name, created_ts_utc, client_order_id
