-- Turtle's rule 17: no more than 20 % of the equity is at risk.
-- Signals that the cap refused, and events that went beyond it.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       outcome_reason, JSONExtractString(total, 'mode') AS mode,
       JSONExtractString(total, 'current_risk_percent') AS current_risk_percent,
       JSONExtractString(total, 'max_risk_percent') AS max_risk_percent, total AS limit_details, exceeded,
       toBool(empty(exceeded)) AS kept,
       event_id
FROM
(
    SELECT *, order_id, JSONExtractRaw(payload, 'context', 'filters', 'limit_total') AS total,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'risk_cap_exceeded', findings)) AS exceeded
    FROM tradetape.events
    WHERE derived_seq = 0
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE outcome = 'limit_risk_cap' OR notEmpty(exceeded)
ORDER BY ts_utc, raw_partition, raw_offset
