-- The last events, newest first.
-- param: instance_name String = ''
-- param: event_type String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
-- param: n UInt32 = 50
SELECT ts_utc, instance_name, event_type, trading_pair, order_id, side, price, quantity, link, correlation_id, event_id,
       raw_partition, raw_offset
FROM tradetape.events
WHERE derived_seq = 0
  AND instance_name = if({instance_name:String} = '', instance_name, {instance_name:String})
  AND ({event_type:String} = '' OR event_type = {event_type:String})
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
ORDER BY ts_utc DESC, raw_partition DESC, raw_offset DESC
LIMIT {n:UInt32}
