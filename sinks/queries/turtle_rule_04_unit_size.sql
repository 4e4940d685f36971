-- Turtle's rule 4: a unit is the equity times its risk by N times the point value, rounded down.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       order_id, JSONExtractString(sizing, 'equity_notional') AS equity_notional,
       JSONExtractString(sizing, 'risk_percent') AS risk_percent, JSONExtractString(sizing, 'n_value') AS n_value,
       JSONExtractString(sizing, 'point_value') AS point_value,
       JSONExtractString(sizing, 'raw_unit_size') AS raw_unit_size,
       JSONExtractString(sizing, 'contracts') AS contracts, JSONExtractString(sizing, 'calculation') AS calculation,
       toBool(empty(mismatches)) AS kept,
       mismatches, event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'sizing') AS sizing,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'arithmetic_mismatch'
               AND JSONExtractString(f.detail, 'figure') IN ('sizing.risk_dollars', 'sizing.dollar_volatility',
                   'sizing.raw_unit_size', 'sizing.contracts'),
               findings)) AS mismatches
    FROM tradetape.events
    WHERE derived_seq = 0
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE sizing != ''
ORDER BY ts_utc, raw_partition, raw_offset
