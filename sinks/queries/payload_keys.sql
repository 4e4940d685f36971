-- Which keys payloads have, by event type: how often, and the last value; also keys that no schema knows (S3-06).
-- param: event_type String = ''
-- param: instance_name String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT event_type, pair.1 AS key, count() AS n, argMax(pair.2, (ts_utc, raw_partition, raw_offset)) AS last_value
FROM
(
    SELECT event_type, ts_utc, raw_partition, raw_offset, arrayJoin(JSONExtractKeysAndValuesRaw(payload)) AS pair
    FROM tradetape.events
    WHERE derived_seq = 0
      AND ({event_type:String} = '' OR event_type = {event_type:String})
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
GROUP BY event_type, key
ORDER BY event_type, key
