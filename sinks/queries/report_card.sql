-- How good each bot's record is: late, rejected and unlinked in percent, gaps, open findings by severity (N-02).
-- Computed from what is stored now, so a repair shows at once: what a correction supersedes counts no more, nor does a
-- finding that it opened; a link found later counts as found; a correction is never late.
-- param: instance_name String = ''
-- param: late_seconds UInt32 = 60
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
WITH corrected AS
(
    SELECT supersedes AS id FROM tradetape.events WHERE derived_seq = 0 AND supersedes != ''
),
records AS
(
    SELECT environment, instance_name, disposition, derived_seq, link, supersedes, ts_utc, ingest_ts_utc, event_type,
           if(derived_seq > 0, supersedes, toString(event_id)) AS id,
           if(derived_seq > 0, JSONExtractString(payload, 'link_before'), '') AS link_before,
           if(event_type = 'system_gap', JSONExtractInt(payload, 'count'), 0) AS lost
    FROM tradetape.events
    WHERE (derived_seq = 0 OR event_type = 'link_resolved')
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
    UNION ALL
    SELECT environment, instance_name, disposition, derived_seq, link, supersedes,
           ifNull(ts_utc, ingest_ts_utc) AS ts_utc, ingest_ts_utc, event_type, event_id AS id, '' AS link_before,
           0 AS lost
    FROM tradetape.quarantine
    WHERE derived_seq = 0 AND disposition = 'rejected'
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
),
counted AS
(
    SELECT environment, instance_name, countIf(derived_seq = 0 AND stands AND accepted) AS events,
           countIf(derived_seq = 0 AND stands AND accepted AND supersedes = ''
                   AND ingest_ts_utc > ts_utc + toIntervalSecond({late_seconds:UInt32})) AS late,
           countIf(stands AND NOT accepted) AS rejected, countIf(derived_seq = 0 AND NOT stands) AS repaired,
           countIf(stands AND link IN ('backfilled', 'unresolved'))
           - countIf(stands AND link_before IN ('backfilled', 'unresolved')) AS unlinked,
           countIf(stands AND event_type = 'system_gap') AS told_gaps, sumIf(lost, stands) AS told_missing
    FROM
    (
        SELECT *, id NOT IN (SELECT id FROM corrected) AS stands, disposition = 'accepted' AS accepted
        FROM records
    )
    GROUP BY environment, instance_name
),
subjects AS
(
    SELECT environment, instance_name, finding.code AS code, finding.subject AS subject,
           argMax(finding.severity, (raw_partition, raw_offset, derived_seq, at)) AS severity,
           argMax(finding.status, (raw_partition, raw_offset, derived_seq, at)) AS status
    FROM tradetape.events
    ARRAY JOIN findings AS finding, arrayEnumerate(findings) AS at
    WHERE finding.status != 'noted' AND toString(event_id) NOT IN (SELECT id FROM corrected)
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
    GROUP BY environment, account, instance_name, code, subject
    HAVING status = 'opened'
),
found AS
(
    SELECT environment, instance_name, countIf(code = 'sequence_gap') AS open_gaps,
           countIf(severity = 'critical') AS critical, countIf(severity = 'error') AS error,
           countIf(severity = 'warning') AS warning
    FROM subjects
    GROUP BY environment, instance_name
)
SELECT environment, instance_name, events, late, round(100 * late / greatest(events, 1), 2) AS late_percent, rejected,
       round(100 * rejected / greatest(events + rejected, 1), 2) AS rejected_percent, unlinked,
       round(100 * unlinked / greatest(events, 1), 2) AS unlinked_percent, told_gaps + open_gaps AS gaps,
       told_missing AS events_missing, critical, error, warning, repaired
FROM counted
LEFT JOIN found USING (environment, instance_name)
ORDER BY environment, instance_name
