-- What became of one order: every status and execution, what was filled after each, and what was found.
-- param: order_id String
-- param: instance_name String = ''
SELECT ts_utc, instance_name, trading_pair, event_type, outcome, side, price, quantity,
       sum(toDecimal256(if(event_type = 'order_filled', ifNull(quantity, 0), 0), 18)) OVER history AS filled,
       coalesce(nullIf(JSONExtractString(payload, 'error_message'), ''),
                nullIf(JSONExtractString(payload, 'reason'), ''), outcome_reason) AS reason,
       arrayMap(f -> concat(f.code, ' ', f.status), findings) AS findings, event_id, raw_partition, raw_offset
FROM tradetape.events
WHERE derived_seq = 0
  AND order_id = {order_id:String}
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
WINDOW history AS
(
    PARTITION BY environment, account, instance_name, connector_name, trading_pair ORDER BY raw_partition, raw_offset
)
ORDER BY environment, account, instance_name, connector_name, trading_pair, raw_partition, raw_offset
