-- Traces of rows that were changed or taken away: statements that alter rows, and offsets missing or doubled (S1-09).
-- No row means none was found. ClickHouse keeps the last statements that altered rows, 100 a table by default; those of
-- `tradetape archive` are among them and name archive_leaving. What it took away is there, in its files: not missing.
SELECT trace, table, what, at, raw_partition, rows
FROM
(
    SELECT 'statement' AS trace, table, command AS what, create_time AS at, NULL AS raw_partition, NULL AS rows
    FROM system.mutations
    WHERE database = 'tradetape' AND match(command, '(?i)^\\(?\\s*(update|delete|drop|clear|modify)')
    UNION ALL
    SELECT 'patch' AS trace, table, name AS what, modification_time AS at, NULL AS raw_partition, toInt64(rows) AS rows
    FROM system.parts
    WHERE database = 'tradetape' AND startsWith(name, 'patch-')
    UNION ALL
    SELECT if(missing > 0, 'missing', 'doubled') AS trace, 'events, quarantine' AS table,
           concat('offsets 0 to ', toString(last)) AS what, NULL AS at, raw_partition,
           if(missing > 0, missing, doubled) AS rows
    FROM
    (
        SELECT raw_partition, max(raw_offset) AS last, last + 1 - toInt64(uniqExact(raw_offset)) AS missing,
               toInt64(count()) - toInt64(uniqExact(raw_offset)) AS doubled
        FROM
        (
            SELECT raw_partition, raw_offset FROM tradetape.events_all WHERE derived_seq = 0
            UNION ALL
            SELECT raw_partition, raw_offset FROM tradetape.quarantine_all WHERE derived_seq = 0
        )
        GROUP BY raw_partition
    )
    WHERE missing > 0 OR doubled > 0
)
ORDER BY trace, table, at, raw_partition, what
