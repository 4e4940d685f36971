-- What was not accepted: reasons, where it came from, and the original.
-- param: disposition String = 'rejected' in rejected|duplicate|all
-- param: instance_name String = ''
-- param: n UInt32 = 1000
SELECT ingest_ts_utc, instance_name, event_type, reasons, reason_detail,
       JSONExtractString(payload, 'location') AS file,
       if(JSONHas(payload, 'line'), JSONExtractInt(payload, 'line'), NULL) AS line,
       event_id, if(isValidUTF8(bytes), bytes, concat('0x', lower(hex(bytes)))) AS original,
       raw_partition, raw_offset, disposition, ingest_source
FROM
(
    SELECT *, if(native != '', native, raw) AS bytes
    FROM tradetape.quarantine
    WHERE ({disposition:String} = 'all' OR disposition = {disposition:String})
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
    ORDER BY ingest_ts_utc, raw_partition, raw_offset
    LIMIT {n:UInt32}
)
ORDER BY ingest_ts_utc, raw_partition, raw_offset
