-- Distinct orders or events with a finding, by instance and code.
-- A finding is open when the last opened or resolved entry about its subject opened it; notes are facts and never open.
-- param: status String = 'open' in open|resolved|noted|all
-- param: instance_name String = ''
SELECT instance_name, code, uniqExact(environment, account, subject) AS subjects
FROM
(
    SELECT environment, account, instance_name, code, subject,
           if(notes, 'noted', if(argMax(status, position) = 'opened', 'open', 'resolved')) AS state
    FROM
    (
        SELECT environment, account, instance_name, finding.code AS code, finding.subject AS subject,
               finding.status AS status, (raw_partition, raw_offset, derived_seq, at) AS position,
               status = 'noted' AS notes
        FROM
        (
            SELECT environment, account, instance_name, findings, raw_partition, raw_offset, derived_seq
            FROM tradetape.events
            WHERE notEmpty(findings)
            UNION ALL
            SELECT environment, account, instance_name, findings, raw_partition, raw_offset, derived_seq
            FROM tradetape.quarantine
            WHERE notEmpty(findings)
        )
        ARRAY JOIN findings AS finding, arrayEnumerate(findings) AS at
        WHERE {instance_name:String} = '' OR instance_name = {instance_name:String}
    )
    GROUP BY environment, account, instance_name, code, subject, notes
)
WHERE {status:String} = 'all' OR state = {status:String}
GROUP BY instance_name, code
ORDER BY instance_name, code
