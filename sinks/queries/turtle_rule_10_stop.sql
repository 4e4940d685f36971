-- Turtle's rule 10: a stop lies two N from the entry.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       JSONExtractString(sizing, 'price') AS price, JSONExtractString(sizing, 'n_value') AS n_value,
       JSONExtractString(sizing, 'stop_multiplier') AS stop_multiplier,
       JSONExtractString(sizing, 'initial_stop') AS initial_stop,
       JSONExtractString(held, 'current_stop') AS current_stop,
       JSONExtractString(held, 'stop_distance') AS stop_distance,
       JSONExtractString(held, 'stop_calculation') AS stop_calculation,
       toBool(stop_multiplier IN ('', '2') AND empty(mismatches)) AS kept,
       mismatches, event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'sizing') AS sizing,
           JSONExtractRaw(payload, 'context', 'position') AS held,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'arithmetic_mismatch'
               AND JSONExtractString(f.detail, 'figure') IN ('sizing.stop_distance', 'sizing.initial_stop',
                   'position.stop_distance', 'position.current_stop'),
               findings)) AS mismatches
    FROM tradetape.events
    WHERE derived_seq = 0
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE initial_stop != '' OR current_stop != ''
ORDER BY ts_utc, raw_partition, raw_offset
