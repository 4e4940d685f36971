-- Per raw partition: verdicts stored or archived, their first and last offset, holes and doubles. Both must be 0 (P-03).
-- What is archived counts through the ledger, once, also while it is leaving the store (G2, S4-02).
SELECT raw_partition, count() AS rows, uniqExact(raw_offset) AS offsets, min(raw_offset) AS first,
       max(raw_offset) AS last, last + 1 - offsets AS holes, rows - offsets AS doubles,
       countIf(disposition = 'accepted') AS accepted, countIf(disposition = 'duplicate') AS duplicates,
       countIf(disposition = 'rejected') AS rejected, sum(is_archived) AS archived
FROM
(
    SELECT raw_partition, raw_offset, disposition, 0 AS is_archived
    FROM tradetape.events
    WHERE derived_seq = 0 AND (raw_partition, raw_offset, derived_seq) NOT IN
          (SELECT raw_partition, raw_offset, derived_seq FROM tradetape.archive_leaving WHERE table_name = 'events')
    UNION ALL
    SELECT raw_partition, raw_offset, disposition, 0 AS is_archived
    FROM tradetape.quarantine
    WHERE derived_seq = 0 AND (raw_partition, raw_offset, derived_seq) NOT IN
          (SELECT raw_partition, raw_offset, derived_seq FROM tradetape.archive_leaving WHERE table_name = 'quarantine')
    UNION ALL
    SELECT raw_partition, arrayJoin(range(first, last + 1)) AS raw_offset, disposition, 1 AS is_archived
    FROM tradetape.archive_runs
    WHERE derived_seq = 0 AND table_name IN ('events', 'quarantine')
)
GROUP BY raw_partition
ORDER BY raw_partition
