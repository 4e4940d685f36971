-- How surely events are linked to their chain, by instance (N-01).
-- param: instance_name String = ''
SELECT instance_name, link, count() AS n
FROM tradetape.events
WHERE {instance_name:String} = '' OR instance_name = {instance_name:String}
GROUP BY instance_name, link
ORDER BY instance_name, link
