-- Events whose payload has a key, or has it with a value; also keys that no schema knows (S3-06).
-- Keys within keys are separated by points: context.market.n.value. Text stands without its quotes.
-- param: key String
-- param: value String = ''
-- param: event_type String = ''
-- param: instance_name String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, event_type, trading_pair, found AS value, correlation_id, event_id
FROM
(
    SELECT *,
           arrayFold((inner, part) -> JSONExtractRaw(inner, part), splitByChar('.', {key:String}), payload)
               AS raw_value,
           if(startsWith(raw_value, '"'), JSONExtractString(raw_value), raw_value) AS found
    FROM tradetape.events
    WHERE derived_seq = 0
      AND ({event_type:String} = '' OR event_type = {event_type:String})
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE raw_value != '' AND ({value:String} = '' OR found = {value:String})
ORDER BY ts_utc, raw_partition, raw_offset
