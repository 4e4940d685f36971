-- What happened in a market, in order.
-- A market is a trading pair, or its base alone: QQQ is QQQ-USD too.
-- param: trading_pair String
-- param: instance_name String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, native_type, outcome, outcome_reason, order_id, side, price,
       quantity, correlation_id, event_id
FROM tradetape.events
WHERE derived_seq = 0
  AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
       OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
ORDER BY ts_utc, raw_partition, raw_offset
