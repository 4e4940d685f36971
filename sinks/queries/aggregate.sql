-- The history of one aggregate, such as a position or an order, in the order in which its source numbered it.
-- param: aggregate_id String
-- param: aggregate_type String = ''
-- param: after Int64 = -1
-- param: instance_name String = ''
SELECT aggregate_type, aggregate_sequence, ts_utc, instance_name, event_type, native_type, outcome, correlation_id,
       causation_id, event_id, payload
FROM tradetape.events
WHERE derived_seq = 0
  AND aggregate_id = {aggregate_id:String}
  AND ({aggregate_type:String} = '' OR aggregate_type = {aggregate_type:String})
  AND ifNull(aggregate_sequence, 0) > {after:Int64}
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
ORDER BY instance_name, aggregate_type, aggregate_sequence, ts_utc, raw_partition, raw_offset
