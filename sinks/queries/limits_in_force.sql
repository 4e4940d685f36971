-- The limits that came into force in each partition, and from which offset on.
SELECT raw_partition, raw_offset, JSONExtractRaw(payload, 'limits') AS limits
FROM tradetape.events
WHERE instance_name = '' AND event_type = 'limits_set' AND derived_seq = 0
  AND NOT arrayExists(finding -> finding.code = 'limits_refused', findings)
ORDER BY raw_partition, raw_offset
