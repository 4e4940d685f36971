-- Turtle's rule 16b: in a fast market an order waits until prices are stable.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       order_id, JSONExtract(fast, 'detected', 'Bool') AS detected,
       JSONExtractString(fast, 'spread_at_signal') AS spread_at_signal,
       JSONExtractString(fast, 'spread_threshold') AS spread_threshold,
       JSONExtract(fast, 'execution_delayed', 'Bool') AS execution_delayed,
       JSONExtractString(fast, 'delay_reason') AS delay_reason,
       JSONExtractString(fast, 'delay_duration_sec') AS delay_duration_sec,
       JSONExtractString(fast, 'stabilization_price') AS stabilization_price,
       toBool(NOT detected OR execution_delayed OR outcome = 'delayed_fast_market') AS kept,
       event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'order', 'fast_market') AS fast
    FROM tradetape.events
    WHERE derived_seq = 0
      AND event_type IN ('order_created', 'order_failed', 'order_filled', 'order_status')
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE detected OR execution_delayed OR outcome = 'delayed_fast_market'
ORDER BY ts_utc, raw_partition, raw_offset
