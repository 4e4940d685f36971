-- The entries behind the findings: which event says what about which subject.
-- param: status String = 'open' in open|resolved|noted|all
-- param: instance_name String = ''
-- param: code String = ''
SELECT instance_name, code, severity, subject, event_id, ts_utc, detail, status, environment, account, event_type,
       raw_partition, raw_offset
FROM
(
    SELECT *,
           if(status = 'noted', 'noted', if(argMax(status, position) OVER subjects = 'opened', 'open', 'resolved')) AS state,
           max(position) OVER subjects AS last
    FROM
    (
        SELECT environment, account, instance_name, finding.code AS code, finding.severity AS severity,
               finding.subject AS subject, finding.status AS status, finding.detail AS detail, event_id, event_type,
               ts_utc, raw_partition, raw_offset, (raw_partition, raw_offset, derived_seq, at) AS position,
               status = 'noted' AS notes
        FROM tradetape.events
        ARRAY JOIN findings AS finding, arrayEnumerate(findings) AS at
        WHERE ({instance_name:String} = '' OR instance_name = {instance_name:String})
          AND ({code:String} = '' OR finding.code = {code:String})
    )
    WINDOW subjects AS (PARTITION BY environment, account, instance_name, code, subject, notes)
)
WHERE {status:String} = 'all' OR (state = {status:String} AND (notes OR position = last))
ORDER BY instance_name, code, subject, raw_partition, raw_offset
