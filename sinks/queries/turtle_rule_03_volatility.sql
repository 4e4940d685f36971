-- Turtle's rule 3: N is the 20-day average true range after Wilder.
-- Mismatches are what the arithmetic does not give: ((period − 1) × previous N + true range) / period.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       JSONExtractString(n, 'value') AS n_value, JSONExtract(n, 'period', 'Nullable(Int64)') AS period,
       JSONExtractString(n, 'smoothing') AS smoothing, JSONExtractString(n, 'prev_n') AS prev_n,
       JSONExtractString(n, 'true_range') AS true_range, JSONExtractString(n, 'calculation') AS calculation,
       toBool(ifNull(period, 0) = 20 AND lower(replaceAll(smoothing, '''', '')) IN ('wilder', 'wilders')
              AND empty(mismatches)) AS kept,
       mismatches, event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'market', 'n') AS n,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'arithmetic_mismatch'
               AND JSONExtractString(f.detail, 'figure') IN ('market.n.value'),
               findings)) AS mismatches
    FROM tradetape.events
    WHERE derived_seq = 0
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE JSONHas(n, 'value')
ORDER BY ts_utc, raw_partition, raw_offset
