-- Orders and signals sent after their instance was told to stop, and how many seconds after (S4-06).
-- param: instance_name String = ''
-- param: kill_id String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, order_id, side, price, quantity, finding.code AS code,
       JSONExtractString(finding.detail, 'kill_id') AS kill_id,
       JSONExtractInt(finding.detail, 'seconds_after') AS seconds_after, correlation_id, event_id
FROM tradetape.events
ARRAY JOIN findings AS finding
WHERE finding.code IN ('order_after_kill', 'signal_after_kill')
  AND finding.status = 'opened'
  AND ({kill_id:String} = '' OR kill_id = {kill_id:String})
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
ORDER BY ts_utc, raw_partition, raw_offset, kill_id
