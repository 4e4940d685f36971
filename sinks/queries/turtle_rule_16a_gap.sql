-- Turtle's rule 16a: where the open gaps through the level, the order is executed at the open.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       order_id, JSONExtract(gap, 'gapped_through', 'Bool') AS gapped_through,
       JSONExtract(gap, 'executed_at_open', 'Bool') AS executed_at_open,
       JSONExtractString(gap, 'signal_price') AS signal_price, JSONExtractString(gap, 'open_price') AS open_price,
       JSONExtractString(gap, 'gap_percent') AS gap_percent,
       JSONExtractString(payload, 'context', 'order', 'fill_price') AS fill_price,
       toBool(executed_at_open AND empty(mismatches)) AS kept,
       mismatches, event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'order', 'gap') AS gap,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'arithmetic_mismatch'
               AND JSONExtractString(f.detail, 'figure') IN ('order.gap.gap_size',
                   'order.gap.gap_percent'),
               findings)) AS mismatches
    FROM tradetape.events
    WHERE derived_seq = 0
      AND event_type IN ('order_created', 'order_failed', 'order_filled', 'order_status')
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE executed_at_open OR gapped_through
ORDER BY ts_utc, raw_partition, raw_offset
