-- Seconds from an event's own time to its arrival in Kafka, by instance (S3-09).
-- param: instance_name String = ''
-- param: since String = '2000-01-01'
SELECT instance_name, count() AS events, quantileExact(0.5)(lag) AS p50, quantileExact(0.9)(lag) AS p90,
       quantileExact(0.99)(lag) AS p99, max(lag) AS max
FROM
(
    SELECT instance_name, (toUnixTimestamp64Micro(ingest_ts_utc) - toUnixTimestamp64Micro(ts_utc)) / 1000000 AS lag
    FROM tradetape.events
    WHERE derived_seq = 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
)
GROUP BY instance_name
ORDER BY instance_name
