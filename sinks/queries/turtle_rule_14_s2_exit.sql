-- Turtle's rule 14: S2 leaves at a breakout of 20 days the other way.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       order_id, JSONExtractString(exit, 'reason') AS reason, system,
       JSONExtractString(exit, 'trigger_type') AS trigger_type,
       JSONExtractString(exit, 'trigger_price') AS trigger_price,
       JSONExtractString(exit, 'current_price') AS current_price,
       JSONExtractString(exit, 'pnl', 'net_pnl') AS net_pnl,
       toBool(trigger_type = 'donchian_20' AND system IN ('', 'S2')) AS kept,
       event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'exit') AS exit,
           coalesce(nullIf(JSONExtractString(payload, 'context', 'position', 'system'), ''),
                    JSONExtractString(payload, 'context', 'signal', 'system')) AS system
    FROM tradetape.events
    WHERE derived_seq = 0
      AND event_type IN ('position_checked', 'order_created', 'order_failed', 'order_filled', 'order_status')
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE trigger_type = 'donchian_20' OR system = 'S2' AND startsWith(trigger_type, 'donchian_')
ORDER BY ts_utc, raw_partition, raw_offset
