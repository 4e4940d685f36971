-- Turtle's rule 7: an S1 signal is skipped if the last S1 trade was a winner.
-- All signals that were filtered so, and those that should have been.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       outcome_reason, JSONExtractString(filter, 'last_s1_trade', 'result') AS last_result,
       JSONExtractString(filter, 'last_s1_trade', 'pnl') AS last_pnl, JSONExtractString(filter, 'reason') AS reason,
       JSONExtractRaw(filter, 'last_s1_trade') AS last_trade,
       toBool(outcome = 'filtered_s1' AND last_result IN ('', 'winner')) AS kept,
       event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'filters', 's1_filter') AS filter
    FROM tradetape.events
    WHERE derived_seq = 0
      AND event_type = 'signal_evaluated'
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE outcome = 'filtered_s1' OR last_result = 'winner' AND JSONExtractBool(filter, 'applied')
ORDER BY ts_utc, raw_partition, raw_offset
