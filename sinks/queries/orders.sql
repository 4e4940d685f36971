-- Every order of an instance as its events tell it: what was asked, what was executed, how it ended.
-- param: instance_name String
-- param: environment String = ''
SELECT environment, argMinIf(connector_name, position, is_asked) AS connector_name,
       argMinIf(trading_pair, position, is_asked) AS trading_pair, order_id,
       minIf(toUnixTimestamp64Micro(ts_utc), is_asked) AS asked_ts_micros,
       argMinIf(JSONExtractString(payload, 'side'), position, JSONExtractString(payload, 'side') != '') AS side,
       argMinIf(JSONExtractString(payload, 'order_type'), position, is_asked) AS order_type,
       argMinIf(JSONExtractString(payload, 'price'), position, is_asked) AS price,
       argMinIf(JSONExtractString(payload, 'amount_base'), position, is_asked) AS amount_base,
       argMinIf(JSONExtractString(payload, 'signal_id'), position, is_asked) AS signal_id,
       argMinIf(JSONExtractString(payload, 'request_id'), position, is_asked) AS request_id,
       sumIf(toDecimal256OrZero(JSONExtractString(payload, 'fill_qty_base'), 18), event_type = 'order_filled') AS filled_base,
       sumIf(toDecimal256OrZero(JSONExtractString(payload, 'fill_qty_quote'), 18), event_type = 'order_filled') AS filled_quote,
       countIf(event_type = 'order_filled') AS fills,
       argMaxIf(event_type, position, event_type NOT IN ('order_created', 'order_snapshot', 'order_filled')) AS ended
FROM
(
    SELECT *, order_id, event_type IN ('order_created', 'order_snapshot') AS is_asked,
           (raw_partition, raw_offset) AS position
    FROM tradetape.events
    WHERE instance_name = {instance_name:String} AND derived_seq = 0
      AND ({environment:String} = '' OR environment = {environment:String})
      AND event_type IN ('order_created', 'order_snapshot', 'order_filled', 'order_cancelled', 'order_failed',
                         'order_expired', 'order_completed')
)
WHERE order_id != ''
GROUP BY environment, order_id
HAVING countIf(is_asked) > 0
ORDER BY asked_ts_micros, order_id
