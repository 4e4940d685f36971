-- Turtle's rule 11: a unit is added every half N from the entry before.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       order_id, JSONExtract(pyramid, 'level', 'Nullable(Int64)') AS level,
       JSONExtractString(pyramid, 'last_entry_price') AS last_entry_price,
       JSONExtractString(pyramid, 'n_at_last_entry') AS n_at_last_entry,
       JSONExtractString(pyramid, 'pyramid_interval') AS pyramid_interval,
       JSONExtractString(pyramid, 'trigger_price') AS trigger_price,
       JSONExtractString(pyramid, 'current_price') AS current_price,
       JSONExtractString(pyramid, 'trigger_calculation') AS calculation,
       toBool(pyramid_interval IN ('', '0.5') AND empty(mismatches)) AS kept,
       mismatches, event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'pyramid') AS pyramid,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'arithmetic_mismatch'
               AND JSONExtractString(f.detail, 'figure') IN ('pyramid.trigger_price'),
               findings)) AS mismatches
    FROM tradetape.events
    WHERE derived_seq = 0
      AND (event_type IN ('order_created', 'order_failed')
           OR event_type = 'order_status' AND positionCaseInsensitive(native_type, 'attempted') > 0)
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE JSONExtractString(payload, 'purpose') = 'pyramid'
ORDER BY ts_utc, raw_partition, raw_offset
