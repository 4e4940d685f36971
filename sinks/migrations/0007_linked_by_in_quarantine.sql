-- The same column as in events: both hold the audited record.
ALTER TABLE tradetape.quarantine
    ADD COLUMN IF NOT EXISTS linked_by LowCardinality(String) AFTER raw
