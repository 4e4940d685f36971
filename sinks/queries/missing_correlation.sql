-- Share of events whose chain nothing told, also later: backfilled or unresolved (S3-03, S3-09).
-- param: instance_name String = ''
SELECT instance_name, toUInt64(sum(event)) AS events, toUInt64(sumIf(counted, link = 'backfilled')) AS backfilled,
       toUInt64(sumIf(counted, link = 'unresolved')) AS unresolved, (backfilled + unresolved) / events AS ratio
FROM
(
    SELECT instance_name, toString(link) AS link, toInt64(1) AS counted, 1 AS event
    FROM tradetape.events
    WHERE derived_seq = 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
    UNION ALL
    SELECT instance_name, JSONExtractString(payload, 'link_before') AS link, toInt64(-1) AS counted, 0 AS event
    FROM tradetape.events
    WHERE event_type = 'link_resolved' AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
)
GROUP BY instance_name
ORDER BY instance_name
