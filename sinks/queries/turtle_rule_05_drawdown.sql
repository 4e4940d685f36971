-- Turtle's rule 5: when a drawdown of 10 % reduced the notional equity by 20 %.
-- Also when it should have and did not.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       JSONExtractString(state, 'equity_high_water') AS equity_high_water,
       JSONExtractString(state, 'equity_actual') AS equity_actual,
       JSONExtractString(state, 'equity_notional') AS equity_notional,
       JSONExtractString(state, 'drawdown', 'current_percent') AS current_percent,
       JSONExtractString(state, 'drawdown', 'threshold_percent') AS threshold_percent,
       JSONExtractString(state, 'drawdown', 'reduction_percent') AS reduction_percent,
       JSONExtract(state, 'drawdown', 'triggered', 'Bool') AS triggered, ignored,
       toBool(threshold_percent = '10' AND reduction_percent = '20' AND empty(ignored) AND empty(mismatches)) AS kept,
       mismatches, event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'account') AS state,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'drawdown_rule_ignored', findings)) AS ignored,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'arithmetic_mismatch'
               AND JSONExtractString(f.detail, 'figure') IN ('account.drawdown.current_percent',
                   'account.equity_notional'),
               findings)) AS mismatches
    FROM tradetape.events
    WHERE derived_seq = 0
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE triggered OR notEmpty(ignored)
ORDER BY ts_utc, raw_partition, raw_offset
