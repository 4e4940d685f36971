-- Why positions were left: checks and decisions to exit, stops and targets hit, orders to exit, the close, its result.
-- With position_id: of that position and the chains that it is in.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: position_id String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
WITH chains AS
(
    SELECT correlation_id
    FROM tradetape.events
    WHERE {position_id:String} != ''
      AND (aggregate_id = {position_id:String} OR JSONExtractString(payload, 'position_id') = {position_id:String})
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
)
SELECT ts_utc, instance_name, trading_pair, event_type, outcome,
       coalesce(nullIf(JSONExtractString(exit, 'reason'), ''), nullIf(JSONExtractString(payload, 'exit_reason'), ''),
                nullIf(JSONExtractString(payload, 'reason'), ''), outcome_reason) AS reason,
       JSONExtractString(exit, 'rule') AS rule,
       coalesce(nullIf(JSONExtractString(exit, 'trigger_type'), ''),
                nullIf(JSONExtractString(payload, 'stop_type'), ''), JSONExtractString(payload, 'decision')) AS trigger,
       coalesce(nullIf(JSONExtractString(exit, 'trigger_price'), ''),
                JSONExtractString(payload, 'trigger_price')) AS trigger_price,
       coalesce(nullIf(JSONExtractString(payload, 'exit_price'), ''),
                JSONExtractString(payload, 'fill_price')) AS exit_price,
       coalesce(nullIf(JSONExtractString(exit, 'pnl', 'net_pnl'), ''),
                nullIf(JSONExtractString(exit, 'realized_pnl'), ''), JSONExtractString(payload, 'realized_pnl')) AS pnl,
       order_id, JSONExtractString(payload, 'position_id') AS position_id, exit AS exit_details, correlation_id,
       event_id
FROM (SELECT *, order_id, JSONExtractRaw(payload, 'context', 'exit') AS exit FROM tradetape.events)
WHERE derived_seq = 0
  AND (event_type IN ('stop_triggered', 'take_profit_triggered', 'position_closed')
       OR event_type = 'position_checked' AND startsWith(outcome, 'exit')
       OR event_type = 'exit_decided' AND startsWith(JSONExtractString(payload, 'decision'), 'exit')
       OR event_type IN ('order_created', 'order_filled', 'order_failed', 'order_cancelled', 'order_expired',
                         'order_status')
          AND JSONExtractString(payload, 'purpose') = 'exit')
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
  AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
       OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
  AND ({position_id:String} = '' OR correlation_id IN (SELECT correlation_id FROM chains))
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
ORDER BY ts_utc, raw_partition, raw_offset
