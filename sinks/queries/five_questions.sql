-- Price, volatility, equity, system and risk of every sized unit, and which of the questions it leaves open (S0-04).
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, purpose, order_id,
       coalesce(nullIf(JSONExtractString(sizing, 'price'), ''), JSONExtractString(context, 'market', 'price')) AS price,
       coalesce(nullIf(JSONExtractString(context, 'market', 'n', 'value'), ''),
                JSONExtractString(sizing, 'n_value')) AS n,
       coalesce(nullIf(JSONExtractString(context, 'account', 'equity_actual'), ''),
                JSONExtractString(sizing, 'equity_actual')) AS equity_actual,
       coalesce(nullIf(JSONExtractString(context, 'account', 'equity_notional'), ''),
                JSONExtractString(sizing, 'equity_notional')) AS equity_notional,
       coalesce(nullIf(JSONExtractString(context, 'signal', 'system'), ''),
                nullIf(JSONExtractString(context, 'position', 'system'), ''),
                JSONExtractString(sizing, 'system')) AS system,
       coalesce(nullIf(JSONExtractString(sizing, 'risk_percent'), ''),
                JSONExtractString(context, 'pyramid', 'risk_percent')) AS risk_percent,
       JSONExtractString(sizing, 'contracts') AS contracts, JSONExtractString(sizing, 'initial_stop') AS initial_stop,
       JSONExtract(arrayFirst(f -> f.code = 'question_unanswered', findings).detail, 'unanswered', 'Array(String)')
           AS unanswered,
       event_id
FROM
(
    SELECT *, order_id, JSONExtractString(payload, 'purpose') AS purpose, JSONExtractRaw(payload, 'context') AS context,
           JSONExtractRaw(context, 'sizing') AS sizing
    FROM tradetape.events
    WHERE derived_seq = 0
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE sizing != ''
   OR purpose IN ('entry', 'pyramid')
      AND event_type IN ('order_created', 'order_failed', 'order_filled', 'order_status')
ORDER BY ts_utc, raw_partition, raw_offset
