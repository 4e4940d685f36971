-- How many events there are of each type, and when the first and the last came (S1-08).
-- param: instance_name String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT event_type, count() AS n, min(ts_utc) AS first_ts_utc, max(ts_utc) AS last_ts_utc,
       max(ingest_ts_utc) AS last_ingest_ts_utc
FROM tradetape.events
WHERE derived_seq = 0
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
GROUP BY event_type
ORDER BY event_type
