-- Ways to the events of one run, one aggregate or one type without reading the rest; they hold from the next part on.
ALTER TABLE tradetape.events
    ADD INDEX IF NOT EXISTS by_run_id run_id TYPE bloom_filter(0.001) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_aggregate_id aggregate_id TYPE bloom_filter(0.001) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_event_type event_type TYPE set(32) GRANULARITY 1
