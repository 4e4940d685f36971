-- The whole audit trail of one run, in the order in which the bot numbered it.
-- param: run_id String
-- param: instance_name String = ''
SELECT sequence, ts_utc, instance_name, event_type, native_type, trading_pair, outcome, outcome_reason, event_id
FROM tradetape.events
WHERE derived_seq = 0
  AND run_id = {run_id:String}
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
ORDER BY sequence, ts_utc, raw_partition, raw_offset
