-- Share of events whose chain was not given by their source: backfilled or unresolved (S3-03, S3-09).
-- param: instance_name String = ''
SELECT instance_name, count() AS events, countIf(link = 'backfilled') AS backfilled,
       countIf(link = 'unresolved') AS unresolved, (backfilled + unresolved) / events AS ratio
FROM tradetape.events
WHERE {instance_name:String} = '' OR instance_name = {instance_name:String}
GROUP BY instance_name
ORDER BY instance_name
