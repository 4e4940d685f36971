-- Turtle's rule 6: S1 enters at a breakout of 20 days.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       JSONExtractString(signal, 'direction') AS direction, JSONExtractString(signal, 'system') AS system,
       JSONExtract(signal, 'channel_period', 'Nullable(Int64)') AS channel_period,
       JSONExtractString(signal, 'trigger_price') AS trigger_price,
       JSONExtractString(signal, 'signal_price') AS signal_price,
       JSONExtractString(payload, 'context', 'market', 'donchian', 'dc20', 'high') AS channel_high,
       JSONExtractString(payload, 'context', 'market', 'donchian', 'dc20', 'low') AS channel_low,
       toBool(outcome = 'breakout_20' AND system IN ('', 'S1') AND ifNull(channel_period, 20) = 20) AS kept,
       event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'signal') AS signal
    FROM tradetape.events
    WHERE derived_seq = 0
      AND event_type = 'signal_generated'
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE system = 'S1' OR outcome = 'breakout_20'
ORDER BY ts_utc, raw_partition, raw_offset
