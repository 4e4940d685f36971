-- Positions that are archived and may still be in the store: between the two steps of an archive, and after a crash.
CREATE VIEW IF NOT EXISTS tradetape.archive_leaving AS
SELECT table_name, raw_partition, arrayJoin(range(first, last + 1)) AS raw_offset, derived_seq
FROM tradetape.archive_runs
WHERE path NOT IN (SELECT path FROM tradetape.archive_left)
