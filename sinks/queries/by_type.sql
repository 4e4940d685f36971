-- The last events of one type, newest first.
-- param: event_type String
-- param: instance_name String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
-- param: n UInt32 = 1000
SELECT ts_utc, instance_name, trading_pair, outcome, order_id, side, price, quantity, link, correlation_id, event_id,
       payload
FROM tradetape.events
WHERE derived_seq = 0
  AND event_type = {event_type:String}
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
ORDER BY ts_utc DESC, raw_partition DESC, raw_offset DESC
LIMIT {n:UInt32}
