-- Orders that were refused or held back, and entries that were skipped, with what was there and what was needed.
-- purpose is entry, pyramid or exit; an order whose purpose nobody told has none.
-- param: instance_name String = ''
-- param: purpose String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type, purpose, order_id, outcome,
       coalesce(nullIf(JSONExtractString(payload, 'error_message'), ''),
                nullIf(JSONExtractString(payload, 'reason'), ''), outcome_reason) AS reason,
       JSONExtractString(payload, 'error_code') AS error_code,
       JSONExtractString(payload, 'failure_stage') AS failure_stage,
       JSONExtractString(payload, 'context', 'account', 'buying_power') AS buying_power,
       JSONExtractString(payload, 'context', 'sizing', 'position_value') AS required, event_id
FROM
(
    SELECT *, order_id,
           if(event_type = 'entry_skipped', 'entry', JSONExtractString(payload, 'purpose')) AS purpose
    FROM tradetape.events
    WHERE derived_seq = 0
      AND (event_type IN ('order_failed', 'entry_skipped')
           OR event_type = 'order_status' AND positionCaseInsensitive(native_type, 'attempted') > 0)
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
)
WHERE {purpose:String} = '' OR purpose = {purpose:String}
ORDER BY ts_utc, raw_partition, raw_offset
