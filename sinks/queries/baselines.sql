-- What was accepted of reconciliations: the latest baselines last, with who and why, and the ids of the differences.
SELECT ts_utc, toString(event_id) AS event_id, JSONExtractString(payload, 'scope') AS scope,
       JSONExtractString(payload, 'subject') AS subject, JSONExtractString(payload, 'accepted_by') AS accepted_by,
       JSONExtractString(payload, 'reason') AS reason, JSONExtractInt(payload, 'count') AS count,
       arrayMap(difference -> JSONExtractString(difference, 'id'), JSONExtractArrayRaw(payload, 'differences')) AS ids
FROM tradetape.events
WHERE instance_name = '' AND event_type = 'baseline_moved' AND derived_seq = 0
ORDER BY ingest_ts_utc, raw_partition, raw_offset
