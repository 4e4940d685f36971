-- Which limits held since when, newest first, and who set them.
SELECT min(ts_utc) AS since, any(JSONExtractString(payload, 'set_by')) AS set_by,
       any(JSONExtractString(payload, 'reason')) AS reason, any(JSONExtractString(payload, 'digest')) AS digest,
       any(JSONExtractRaw(payload, 'limits')) AS limits
FROM tradetape.events
WHERE event_type = 'limits_set'
GROUP BY correlation_id
ORDER BY since DESC
