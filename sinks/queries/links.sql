-- How surely events are linked to their chain, by instance, with what later events resolved (N-01).
-- param: instance_name String = ''
SELECT instance_name, link, toUInt64(sum(counted)) AS n
FROM
(
    SELECT instance_name, toString(link) AS link, toInt64(1) AS counted
    FROM tradetape.events
    WHERE derived_seq = 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
    UNION ALL
    SELECT instance_name, move.1 AS link, move.2 AS counted
    FROM
    (
        SELECT instance_name,
               arrayJoin([(JSONExtractString(payload, 'link_before'), toInt64(-1)), (toString(link), toInt64(1))]) AS move
        FROM tradetape.events
        WHERE event_type = 'link_resolved' AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
    )
)
GROUP BY instance_name, link
HAVING n != 0
ORDER BY instance_name, link
