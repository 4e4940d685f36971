-- The last events, newest first.
-- param: instance_name String = ''
-- param: n UInt32 = 50
SELECT ts_utc, instance_name, event_type, trading_pair, order_id, side, price, quantity, link, correlation_id, event_id,
       raw_partition, raw_offset
FROM tradetape.events
WHERE derived_seq = 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
ORDER BY ts_utc DESC, raw_partition DESC, raw_offset DESC
LIMIT {n:UInt32}
