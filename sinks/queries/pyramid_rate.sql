-- How attempts to pyramid ended, and in how many percent of them.
-- param: instance_name String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT outcome, count() AS n, round(100 * n / sum(n) OVER (), 1) AS percent
FROM tradetape.events
WHERE derived_seq = 0
  AND (event_type IN ('order_created', 'order_failed')
       OR event_type = 'order_status' AND positionCaseInsensitive(native_type, 'attempted') > 0)
  AND JSONExtractString(payload, 'purpose') = 'pyramid'
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
GROUP BY outcome
ORDER BY n DESC, outcome
