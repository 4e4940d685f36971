-- Events between two moments, oldest first, of all types or of those named (separated by commas).
-- param: since String
-- param: until String = '2100-01-01'
-- param: event_types String = ''
-- param: instance_name String = ''
-- param: n UInt32 = 1000
SELECT ts_utc, instance_name, event_type, trading_pair, outcome, order_id, side, price, quantity, link, correlation_id,
       event_id, payload
FROM tradetape.events
WHERE derived_seq = 0
  AND ({event_types:String} = '' OR has(splitByChar(',', {event_types:String}), event_type))
  AND instance_name = if({instance_name:String} = '', instance_name, {instance_name:String})
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
ORDER BY ts_utc, raw_partition, raw_offset
LIMIT {n:UInt32}
