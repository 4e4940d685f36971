-- One event with its verdict, its payload and its original bytes, and what the processor or a correction said of it.
-- param: event_id String
WITH found AS
(
    SELECT disposition, raw_partition, raw_offset, derived_seq, reasons, reason_detail, link, linked_by, findings,
           core_version, ingest_ts_utc, toString(event_id) AS id, event_type, ts_utc, producer, instance_name,
           trading_pair, correlation_id, causation_id, run_id, sequence, aggregate_type, aggregate_id, outcome,
           outcome_reason, native_type, environment, account, supersedes, payload, raw_schema_id, raw
    FROM tradetape.events
    WHERE event_id = toUUIDOrZero({event_id:String})
       OR supersedes = {event_id:String}
    UNION ALL
    SELECT disposition, raw_partition, raw_offset, derived_seq, reasons, reason_detail, link, linked_by, findings,
           core_version, ingest_ts_utc, event_id AS id, event_type, ts_utc, producer, instance_name, trading_pair,
           correlation_id, causation_id, run_id, sequence, aggregate_type, aggregate_id, outcome, outcome_reason,
           native_type, environment, account, supersedes, payload, raw_schema_id, raw
    FROM tradetape.quarantine
    WHERE event_id = {event_id:String}
)
SELECT id AS event_id, supersedes, disposition, reasons, reason_detail, event_type, native_type, ts_utc, ingest_ts_utc,
       producer, environment, account, instance_name, trading_pair, correlation_id, causation_id, link, linked_by,
       run_id, sequence, aggregate_type, aggregate_id, outcome, outcome_reason,
       arrayMap(f -> (f.code, f.severity, f.status, f.subject, f.detail), findings) AS findings, payload, core_version,
       raw_partition, raw_offset, derived_seq, raw_schema_id, lower(hex(raw)) AS raw
FROM found
ORDER BY supersedes != '', raw_partition, raw_offset, derived_seq
