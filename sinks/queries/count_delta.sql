-- What each source says it has against what is stored, by instance and type: delta must be 0 (S3-09).
-- An event that came before from elsewhere counts as stored. Records that could not be mapped stand in the quarantine.
WITH declared AS
(
    SELECT source_id, instance_name, declaration.1 AS event_type, toInt64(declaration.2) AS n
    FROM
    (
        SELECT source_id, instance_name,
               JSONExtractKeysAndValues(argMax(payload, (raw_partition, raw_offset)), 'events', 'Int64') AS declarations
        FROM tradetape.events
        WHERE event_type = 'source_ended'
        GROUP BY source_id, instance_name
    )
    ARRAY JOIN declarations AS declaration
    WHERE declaration.1 != 'unmapped_record'
),
kept AS
(
    SELECT source_id, instance_name, event_type, toInt64(uniqExact(id)) AS n
    FROM
    (
        SELECT source_id, instance_name, event_type, toString(event_id) AS id FROM tradetape.events
        WHERE derived_seq = 0
        UNION ALL
        SELECT source_id, instance_name, event_type, event_id AS id FROM tradetape.quarantine
        WHERE disposition = 'duplicate'
    )
    WHERE event_type != 'source_ended' AND source_id IN (SELECT source_id FROM declared)
    GROUP BY source_id, instance_name, event_type
)
SELECT source_id, instance_name, event_type, sum(source) AS source_count, sum(store) AS store_count,
       source_count - store_count AS delta
FROM
(
    SELECT source_id, instance_name, event_type, n AS source, 0 AS store FROM declared
    UNION ALL
    SELECT source_id, instance_name, event_type, 0 AS source, n AS store FROM kept
)
GROUP BY source_id, instance_name, event_type
ORDER BY source_id, instance_name, event_type
