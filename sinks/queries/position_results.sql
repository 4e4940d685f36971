-- Price and result of one position over time (S1-06).
-- param: position_id String
-- param: instance_name String = ''
SELECT ts_utc, instance_name, trading_pair, event_type,
       coalesce(nullIf(JSONExtractString(payload, 'new_price'), ''),
                nullIf(JSONExtractString(payload, 'current_price'), ''),
                nullIf(JSONExtractString(payload, 'exit_price'), ''),
                JSONExtractString(payload, 'entry_price')) AS price,
       coalesce(nullIf(JSONExtractString(payload, 'new_unrealized_pnl'), ''),
                JSONExtractString(payload, 'unrealized_pnl')) AS unrealized_pnl,
       JSONExtractString(payload, 'realized_pnl') AS realized_pnl, event_id
FROM tradetape.events
WHERE derived_seq = 0
  AND event_type IN ('position_opened', 'position_priced', 'position_state', 'position_closed')
  AND (aggregate_id = {position_id:String} OR JSONExtractString(payload, 'position_id') = {position_id:String})
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
ORDER BY ts_utc, raw_partition, raw_offset
