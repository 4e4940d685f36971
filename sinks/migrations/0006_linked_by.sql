-- By which id an event's link was inferred (N-01), and a way from an event to what supersedes it.
ALTER TABLE tradetape.events
    ADD COLUMN IF NOT EXISTS linked_by LowCardinality(String) AFTER raw,
    ADD INDEX IF NOT EXISTS by_supersedes supersedes TYPE bloom_filter(0.001) GRANULARITY 1
