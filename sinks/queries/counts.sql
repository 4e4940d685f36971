-- Accepted events by environment, instance, type and day.
-- param: instance_name String = ''
SELECT environment, instance_name, event_type, toDate(ts_utc) AS day, count() AS n
FROM tradetape.events
WHERE derived_seq = 0 AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
GROUP BY environment, instance_name, event_type, day
ORDER BY environment, instance_name, event_type, day
