-- The archived positions, as runs of raw offsets without a gap: they count as stored (G2).
CREATE VIEW IF NOT EXISTS tradetape.archive_runs AS
SELECT table_name, path, raw_partition, disposition, run.derived_seq AS derived_seq, run.first AS first, run.last AS last
FROM (SELECT * FROM tradetape.archive_ledger FINAL)
ARRAY JOIN runs AS run
