-- What each bot has on record: accepted, duplicate and rejected, and when it was last heard.
-- param: instance_name String = ''
SELECT environment, instance_name, countIf(disposition = 'accepted') AS accepted,
       countIf(disposition = 'duplicate') AS duplicates, countIf(disposition = 'rejected') AS rejected,
       maxIf(ts, disposition = 'accepted') AS last_ts_utc, max(ingest_ts_utc) AS last_ingest_ts_utc
FROM
(
    SELECT environment, instance_name, disposition, ts_utc AS ts, ingest_ts_utc
    FROM tradetape.events
    WHERE derived_seq = 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
    UNION ALL
    SELECT environment, instance_name, disposition, ts_utc AS ts, ingest_ts_utc
    FROM tradetape.quarantine
    WHERE derived_seq = 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
)
GROUP BY environment, instance_name
ORDER BY environment, instance_name
