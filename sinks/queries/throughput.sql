-- Records judged per minute, newest first.
-- param: n UInt32 = 60
SELECT toStartOfMinute(ingest_ts_utc) AS minute, count() AS records, countIf(disposition = 'accepted') AS accepted,
       countIf(disposition = 'duplicate') AS duplicates, countIf(disposition = 'rejected') AS rejected,
       max(second_records) AS peak_per_second
FROM
(
    SELECT ingest_ts_utc, disposition, count() OVER (PARTITION BY toStartOfSecond(ingest_ts_utc)) AS second_records
    FROM
    (
        SELECT ingest_ts_utc, disposition FROM tradetape.events WHERE derived_seq = 0
        UNION ALL
        SELECT ingest_ts_utc, disposition FROM tradetape.quarantine WHERE derived_seq = 0
    )
)
GROUP BY minute
ORDER BY minute DESC
LIMIT {n:UInt32}
