-- Share of records rejected, by instance, or by ingest source where the instance is unknown (S3-09).
SELECT if(instance_name = '', concat('source ', ingest_source), instance_name) AS origin, sum(records) AS records,
       sum(rejected) AS rejected, rejected / records AS ratio
FROM
(
    SELECT instance_name, ingest_source, count() AS records, toUInt64(0) AS rejected
    FROM tradetape.events
    WHERE derived_seq = 0
    GROUP BY instance_name, ingest_source
    UNION ALL
    SELECT instance_name, ingest_source, count() AS records, countIf(disposition = 'rejected') AS rejected
    FROM tradetape.quarantine
    WHERE derived_seq = 0
    GROUP BY instance_name, ingest_source
)
GROUP BY origin
ORDER BY origin
