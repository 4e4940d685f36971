-- Per raw partition: rows stored, their first and last offset, holes and doubles. Both must be 0 (P-03).
SELECT raw_partition, count() AS rows, uniqExact(raw_offset) AS offsets, min(raw_offset) AS first,
       max(raw_offset) AS last, last - first + 1 - offsets AS holes, rows - offsets AS doubles,
       countIf(disposition = 'accepted') AS accepted, countIf(disposition = 'duplicate') AS duplicates,
       countIf(disposition = 'rejected') AS rejected
FROM
(
    SELECT raw_partition, raw_offset, disposition FROM tradetape.events WHERE derived_seq = 0
    UNION ALL
    SELECT raw_partition, raw_offset, disposition FROM tradetape.quarantine WHERE derived_seq = 0
)
GROUP BY raw_partition
ORDER BY raw_partition
