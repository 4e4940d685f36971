-- All events of one chain, in order.
-- param: correlation_id String
SELECT ts_utc, instance_name, event_type, event_id, causation_id, link, order_id, side, price, quantity, outcome,
       arrayMap(f -> concat(f.code, ' ', f.status), findings) AS findings, payload, raw_partition, raw_offset
FROM tradetape.events
WHERE correlation_id = {correlation_id:String}
ORDER BY ts_utc, raw_partition, raw_offset, derived_seq
